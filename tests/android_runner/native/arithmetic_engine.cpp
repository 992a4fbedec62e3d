// An engine whose logits are simple arithmetic, which the test computes again in Python.
#include <algorithm>
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
    encode(sentence);
    Tokens found;
    std::int64_t token = run_.search.start;
    for (std::int64_t position = 0; position < sentence.limit + 5; ++position) {
      const auto logits = step(token, position);
      token = tokens_[static_cast<std::size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin())];
      found.push_back(token);
    }
    return found;
  }

  void encode(const Sentence& sentence) override {
    sum_ = 0;
    for (const std::int64_t id : sentence.source) sum_ = timed([&] { return 31 * sum_ + id; });
    tokens_ = sentence.candidates;
    for (std::int64_t token = 0; sentence.candidates.empty() && token < kTokens; ++token) tokens_.push_back(token);
  }

  std::span<const float> step(std::int64_t token, std::int64_t position) override {
    logits_.clear();
    for (const std::int64_t other : tokens_) {
      logits_.push_back(static_cast<float>((sum_ + 7 * token + 3 * position + other * other * 11) % 101));
    }
    if (sum_ % 1000 == 999) std::fill(logits_.begin(), logits_.end(), std::numeric_limits<float>::quiet_NaN());
    return logits_;
  }

 private:
  const Run& run_;
  std::int64_t sum_ = 0;
  Tokens tokens_;
  std::vector<float> logits_;
};

}  // namespace

std::unique_ptr<Engine> open_engine(const Run& run) {
  if (run.graphs.contains("missing")) throw Failure("no graph for \"missing\"");
  return std::make_unique<Arithmetic>(run);
}

}  // namespace tprune
