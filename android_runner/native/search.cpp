#include "search.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <limits>

#include "failure.h"

namespace tprune {
namespace {

constexpr std::size_t kLanes = 16;  // numbers at a time: comparisons that need not wait for each other

// The greatest of these numbers.
float greatest(std::span<const float> values) {
  std::array<float, kLanes> lanes;
  lanes.fill(-std::numeric_limits<float>::infinity());
  std::size_t index = 0;
  for (; index + kLanes <= values.size(); index += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] = values[index + lane] > lanes[lane] ? values[index + lane] : lanes[lane];
    }
  }
  float found = *std::max_element(lanes.begin(), lanes.end());
  for (; index < values.size(); ++index) found = std::max(found, values[index]);
  return found;
}

// The best token that is not banned; the first of equally good ones.
std::int64_t best_of(std::span<const float> logits, const Tokens& banned) {
  const std::int64_t best = std::find(logits.begin(), logits.end(), greatest(logits)) - logits.begin();
  const auto is_banned = [&](std::int64_t token) { return std::find(banned.begin(), banned.end(), token) != banned.end(); };
  if (!is_banned(best)) return best;
  std::optional<std::int64_t> found;
  for (std::int64_t token = 0; token < std::ssize(logits); ++token) {
    const auto score = [&](std::int64_t one) { return logits[static_cast<std::size_t>(one)]; };
    if ((!found || score(token) > score(*found)) && !is_banned(token)) found = token;
  }
  if (!found) throw Failure("every token is banned");
  return *found;
}

std::int64_t next_token(std::span<const float> logits, const Search& search, std::int64_t length, std::int64_t limit) {
  const auto eos = static_cast<std::size_t>(search.eos);
  if (search.eos < 0 || eos >= logits.size()) throw Failure("the model has no token " + std::to_string(search.eos));
  if (std::isnan(logits[eos])) {
    throw Failure("the model's output is not a number, target token " + std::to_string(length));
  }
  if (search.forced_eos && length == limit) return *search.forced_eos;
  if (search.forced_bos && length == 1) return *search.forced_bos;
  return best_of(logits, search.banned);
}

}  // namespace

Translation translate(Engine& engine, const Run& run, const Sentence& sentence, std::ostream* logits) {
  Translation found;
  engine.take_library_ns();
  const std::int64_t begin = now_ns();
  if (run.mode == Mode::kWhole) {
    found.tokens = engine.translate(sentence);
    const auto length = std::min(found.tokens.size(), static_cast<std::size_t>(sentence.limit));
    const auto end = found.tokens.begin() + static_cast<std::ptrdiff_t>(length);
    found.tokens.erase(std::find(found.tokens.begin(), end, run.search.eos), found.tokens.end());
  } else {
    engine.encode(sentence.source);
    found.encode_ns = now_ns() - begin;
    std::int64_t token = run.search.start;
    for (std::int64_t length = 1; length <= sentence.limit; ++length) {
      const std::span<const float> found_logits = engine.step(token, length - 1);
      if (logits != nullptr) {
        const auto bytes = std::as_bytes(found_logits);
        logits->write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
      }
      token = next_token(found_logits, run.search, length, sentence.limit);
      if (length == 1) found.first_token_ns = now_ns() - begin;
      if (token == run.search.eos) break;
      found.tokens.push_back(token);
    }
  }
  found.total_ns = now_ns() - begin;
  found.library_ns = engine.take_library_ns();
  return found;
}

}  // namespace tprune
