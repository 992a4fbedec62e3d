// What the search needs of an inference engine; each runner is linked with one of them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "clock.h"
#include "run_file.h"

namespace tprune {

class Engine {
 public:
  virtual ~Engine() = default;

  virtual std::string name() const = 0;
  virtual std::string version() const = 0;

  // The whole greedy translation: target ids up to eos or the limit; what stands behind eos means nothing.
  virtual Tokens translate(const Sentence& sentence) = 0;

  // Encode a sentence; the steps that follow are its translation's.
  virtual void encode(const Sentence& sentence) = 0;

  // Feed the newest target token: logits of the next one, or of the sentence's candidates; they hold until the next
  // call.
  virtual std::span<const float> step(std::int64_t token, std::int64_t position) = 0;

  // Nanoseconds within the inference library since the last call.
  std::int64_t take_library_ns() { return std::exchange(library_ns_, 0); }

 protected:
  // Run what calls the library, and count its time.
  template <typename Call>
  auto timed(Call&& call) {
    const std::int64_t begin = now_ns();
    auto result = call();
    library_ns_ += now_ns() - begin;
    return result;
  }

 private:
  std::int64_t library_ns_ = 0;
};

// Load the graphs that the run's mode needs. Throws Failure when they cannot be loaded.
std::unique_ptr<Engine> open_engine(const Run& run);

}  // namespace tprune
