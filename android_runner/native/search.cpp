#include "search.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>

#include "failure.h"

namespace tprune {
namespace {

// Four numbers in a vector register: GCC and Clang know this on every processor.
using Four = float __attribute__((vector_size(16)));
constexpr std::size_t kFours = 4;     // registers at a time: comparisons that need not wait for each other
constexpr std::size_t kBlock = 256;  // numbers among which the greatest is looked for again, to know where it stands

float greatest(std::span<const float> values) {
  constexpr float least = -std::numeric_limits<float>::infinity();
  std::array<Four, kFours> lanes;
  lanes.fill(Four{least, least, least, least});
  std::size_t index = 0;
  for (std::array<Four, kFours> next; index + 4 * kFours <= values.size(); index += 4 * kFours) {
    std::memcpy(next.data(), values.data() + index, sizeof next);
    for (std::size_t four = 0; four < kFours; ++four) lanes[four] = next[four] > lanes[four] ? next[four] : lanes[four];
  }
  Four best = lanes[0];  // in registers first: number by number each would wait for the one before
  for (const Four& four : lanes) best = four > best ? four : best;
  float found = least;
  for (std::size_t lane = 0; lane < 4; ++lane) found = std::max(found, best[lane]);
  for (; index < values.size(); ++index) found = std::max(found, values[index]);
  return found;
}

// Where the greatest of these numbers stands first.
std::int64_t greatest_at(std::span<const float> values) {
  float found = -std::numeric_limits<float>::infinity();
  std::size_t where = 0;
  for (std::size_t block = 0; block < values.size(); block += kBlock) {
    const float here = greatest(values.subspan(block, std::min(kBlock, values.size() - block)));
    if (here > found) {
      found = here;
      where = block;
    }
  }
  const auto begin = values.begin() + static_cast<std::ptrdiff_t>(where);
  return std::find(begin, values.end(), found) - values.begin();
}

// The token that a logit is of.
std::int64_t token_at(std::int64_t place, const Tokens& candidates) {
  return candidates.empty() ? place : candidates[static_cast<std::size_t>(place)];
}

// Where the logit of a token stands; behind the last one, if there is none.
std::int64_t place_of(std::int64_t token, const Tokens& candidates) {
  if (candidates.empty()) return token;
  const auto found = std::lower_bound(candidates.begin(), candidates.end(), token);
  return found != candidates.end() && *found == token ? found - candidates.begin() : std::ssize(candidates);
}

// The best token that is not banned; the first of equally good ones.
std::int64_t best_of(std::span<const float> logits, const Tokens& candidates, const Tokens& banned) {
  const std::int64_t best = greatest_at(logits);
  const auto is_banned = [&](std::int64_t place) {
    return std::find(banned.begin(), banned.end(), token_at(place, candidates)) != banned.end();
  };
  if (!is_banned(best)) return token_at(best, candidates);
  std::optional<std::int64_t> found;
  for (std::int64_t place = 0; place < std::ssize(logits); ++place) {
    const auto score = [&](std::int64_t one) { return logits[static_cast<std::size_t>(one)]; };
    if ((!found || score(place) > score(*found)) && !is_banned(place)) found = place;
  }
  if (!found) throw Failure("every token is banned");
  return token_at(*found, candidates);
}

std::int64_t next_token(std::span<const float> logits, const Search& search, std::int64_t length,
                        const Sentence& sentence) {
  const Tokens& candidates = sentence.candidates;
  if (!candidates.empty() && candidates.size() != logits.size()) {
    throw Failure(std::to_string(logits.size()) + " logits of " + std::to_string(candidates.size()) + " candidates");
  }
  const std::int64_t eos = place_of(search.eos, candidates);
  if (eos < 0 || eos >= std::ssize(logits)) throw Failure("no logit is of token " + std::to_string(search.eos));
  if (std::isnan(logits[static_cast<std::size_t>(eos)])) {
    throw Failure("the model's output is not a number, target token " + std::to_string(length));
  }
  if (search.forced_eos && length == sentence.limit) return *search.forced_eos;
  if (search.forced_bos && length == 1) return *search.forced_bos;
  return best_of(logits, candidates, search.banned);
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
    engine.encode(sentence);
    found.encode_ns = now_ns() - begin;
    std::int64_t token = run.search.start;
    for (std::int64_t length = 1; length <= sentence.limit; ++length) {
      const std::span<const float> found_logits = engine.step(token, length - 1);
      if (logits != nullptr) {
        const auto bytes = std::as_bytes(found_logits);
        logits->write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
      }
      token = next_token(found_logits, run.search, length, sentence);
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
