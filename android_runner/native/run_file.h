// What to run: a flat text file, one key and its values a line, that the host writes from a bundle's description.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace tprune {

using Tokens = std::vector<std::int64_t>;

// One graph of the bundle, or one method of its program.
struct Graph {
  std::string file;
  std::vector<std::string> inputs;
  std::vector<std::string> outputs;
};

// A self-attention cache: heads and width of a head.
struct Cache {
  std::int64_t heads = 0;
  std::int64_t width = 0;
};

// How the graphs are used.
enum class Mode {
  kWhole,     // one graph holds the whole greedy search
  kSteps,     // encode once, then a step that takes and gives the caches
  kBuffered,  // the same with the caches inside the program
};

struct Search {
  std::int64_t start = 0;
  std::int64_t eos = 0;
  std::optional<std::int64_t> forced_bos;
  std::optional<std::int64_t> forced_eos;
  Tokens banned;
};

struct Sentence {
  std::int64_t limit = 0;  // most target tokens, eos included
  Tokens source;
  Tokens candidates;  // target tokens that its logits are of, in rising order; empty: all
  std::int64_t candidates_at = 0;  // where their line begins in the file of candidates
};

struct Run {
  Mode mode = Mode::kSteps;
  std::int64_t threads = 1;
  std::vector<std::int64_t> cpus;  // empty: wherever the kernel likes
  std::int64_t warmup = 0;         // sentences before the timed ones
  std::int64_t runs = 1;           // least number of timed sentences, of which there are whole rounds
  std::int64_t milliseconds = 0;   // least time of the timed sentences
  std::string output;
  std::string sysfs = "/sys";
  std::string logits;  // where to write the logits of every step, as floats; empty: nowhere
  Search search;
  std::map<std::string, Graph> graphs;
  std::map<std::string, Cache> caches;
  std::vector<Sentence> sentences;  // without their candidates
  std::string candidates;           // their file; empty: the graphs take none

  // A sentence with its candidates. Those of all sentences together would count as the model's memory.
  // Throws Failure when they cannot be read.
  Sentence sentence(std::size_t index) const;

  // Throws Failure when the bundle has no such graph.
  const Graph& graph(const std::string& name) const;
};

// Read a run file; files that it names are looked for from the current directory.
// Throws Failure with file and line of whatever is wrong.
Run read_run(const std::string& path);

}  // namespace tprune
