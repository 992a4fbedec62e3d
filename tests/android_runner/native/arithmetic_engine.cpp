// An engine whose logits are simple arithmetic, which the test computes again in Python.
#include <limits>

#include "engine.h"
#include "failure.h"

namespace tprune {
namespace {

constexpr std::int64_t kTokens = 37;

class Arithmetic final : public Engine {
 public:
  explicit Arithmetic(const Run& run) : run_(run) {}

  std::string name() const override { return "arithmetic"; }
  std::string version() const override { return "\"1\"\n\xc3\xa4"; }

  Tokens translate(const Sentence& sentence) override {
    encode(sentence.source);
    Tokens found;
    std::int64_t token = run_.search.start;
    for (std::int64_t position = 0; position < sentence.limit + 5; ++position) {
      const auto logits = step(token, position);
      token = 0;
      for (std::int64_t other = 1; other < kTokens; ++other) {
        if (logits[static_cast<std::size_t>(other)] > logits[static_cast<std::size_t>(token)]) token = other;
      }
      found.push_back(token);
    }
    return found;
  }

  void encode(const Tokens& source) override {
    sum_ = 0;
    for (const std::int64_t id : source) sum_ = timed([&] { return 31 * sum_ + id; });
  }

  std::span<const float> step(std::int64_t token, std::int64_t position) override {
    logits_.clear();
    for (std::int64_t other = 0; other < kTokens; ++other) {
      logits_.push_back(static_cast<float>((sum_ + 7 * token + 3 * position + other * other * 11) % 101));
    }
    if (sum_ % 1000 == 999) logits_[static_cast<std::size_t>(run_.search.eos)] = std::numeric_limits<float>::quiet_NaN();
    return logits_;
  }

 private:
  const Run& run_;
  std::int64_t sum_ = 0;
  std::vector<float> logits_;
};

}  // namespace

std::unique_ptr<Engine> open_engine(const Run& run) {
  if (run.graphs.contains("missing")) throw Failure("no graph for \"missing\"");
  return std::make_unique<Arithmetic>(run);
}

}  // namespace tprune
