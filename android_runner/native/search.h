// Greedy search over an engine, as `tprune.model.decode.greedy_by_steps` does it for one sentence.
#pragma once

#include <optional>
#include <ostream>

#include "engine.h"
#include "run_file.h"

namespace tprune {

struct Translation {
  Tokens tokens;  // without the start token and eos
  std::int64_t total_ns = 0;
  std::int64_t library_ns = 0;           // of that, within the inference library
  std::optional<std::int64_t> encode_ns; // absent where one graph does everything
  std::optional<std::int64_t> first_token_ns;
};

// Writes the logits of every step to `logits`, if there is one, within the time that is told.
// Throws Failure when the logits are no numbers.
Translation translate(Engine& engine, const Run& run, const Sentence& sentence, std::ostream* logits);

}  // namespace tprune
