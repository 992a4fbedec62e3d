#include "run_file.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <sstream>

#include "failure.h"

namespace tprune {
namespace {

constexpr const char* kSchema = "1";

// The words of one line, taken one after the other.
class Line {
 public:
  Line(std::string place, const std::string& text) : place_(std::move(place)), words_(text) {}

  [[noreturn]] void refuse(const std::string& what) const { throw Failure(place_ + ": " + what); }

  std::string word() {
    std::string found;
    if (!(words_ >> found)) refuse("something is missing");
    return found;
  }

  std::int64_t number() {
    std::int64_t found = 0;
    if (!(words_ >> found)) refuse("not a number");
    return found;
  }

  std::vector<std::int64_t> numbers() {
    std::vector<std::int64_t> found;
    for (std::int64_t value = 0; words_ >> value;) found.push_back(value);
    if (!words_.eof()) refuse("not a number");
    return found;
  }

  std::vector<std::string> names() {
    std::vector<std::string> found;
    for (std::string name; words_ >> name;) found.push_back(name);
    return found;
  }

 private:
  std::string place_;
  std::istringstream words_;
};

// Calls back with each line and where it begins.
void each_line(const std::string& path, const std::function<void(Line, std::int64_t)>& read) {
  std::ifstream file(path);
  if (!file) throw Failure(path + ": cannot be read: " + std::strerror(errno));
  int number = 0;
  std::int64_t begin = 0;
  for (std::string text; std::getline(file, text); begin += std::ssize(text) + 1) {
    const std::string place = path + ":" + std::to_string(++number);
    if (file.eof()) throw Failure(place + ": the line has no end: the file was cut off");
    read(Line(place, text), begin);
  }
}

Mode mode_of(Line& line) {
  static const std::map<std::string, Mode> known{
      {"whole", Mode::kWhole}, {"steps", Mode::kSteps}, {"buffered", Mode::kBuffered}};
  const auto found = known.find(line.word());
  if (found == known.end()) line.refuse("no such mode");
  return found->second;
}

std::vector<Sentence> read_sentences(const std::string& path) {
  std::vector<Sentence> found;
  each_line(path, [&](Line line, std::int64_t) {
    Sentence sentence{line.number(), line.numbers(), {}, 0};
    if (sentence.source.empty() || sentence.limit < 1) line.refuse("wanted a limit above 0 and token ids");
    found.push_back(std::move(sentence));
  });
  return found;
}

Tokens candidates_in(Line line) {
  Tokens found = line.numbers();
  const bool rising = std::adjacent_find(found.begin(), found.end(), std::greater_equal()) == found.end();
  if (found.empty() || !rising) line.refuse("wanted token ids in rising order");
  return found;
}

void find_candidates(const std::string& path, std::vector<Sentence>& sentences) {
  auto sentence = sentences.begin();
  each_line(path, [&](Line line, std::int64_t begin) {
    if (sentence == sentences.end()) line.refuse("more lines than sentences");
    candidates_in(std::move(line));
    sentence++->candidates_at = begin;
  });
  if (sentence != sentences.end()) throw Failure(path + ": fewer lines than sentences");
}

bool take_candidates(const std::map<std::string, Graph>& graphs) {
  return std::any_of(graphs.begin(), graphs.end(), [](const auto& graph) {
    const std::vector<std::string>& inputs = graph.second.inputs;
    return std::find(inputs.begin(), inputs.end(), "candidates") != inputs.end();
  });
}

}  // namespace

const Graph& Run::graph(const std::string& name) const {
  const auto found = graphs.find(name);
  if (found == graphs.end()) throw Failure("the bundle has no graph " + name);
  return found->second;
}

Sentence Run::sentence(std::size_t index) const {
  Sentence found = sentences[index];
  if (candidates.empty()) return found;
  std::ifstream file(candidates);
  std::string text;
  if (!file.seekg(found.candidates_at) || !std::getline(file, text)) throw Failure(candidates + ": cannot be read again");
  found.candidates = candidates_in(Line(candidates, text));
  return found;
}

Run read_run(const std::string& path) {
  Run run;
  std::string sentences;
  const std::map<std::string, std::function<void(Line&)>> keys{
      {"mode", [&](Line& line) { run.mode = mode_of(line); }},
      {"threads", [&](Line& line) { run.threads = line.number(); }},
      {"cpus", [&](Line& line) { run.cpus = line.numbers(); }},
      {"warmup", [&](Line& line) { run.warmup = line.number(); }},
      {"runs", [&](Line& line) { run.runs = line.number(); }},
      {"milliseconds", [&](Line& line) { run.milliseconds = line.number(); }},
      {"output", [&](Line& line) { run.output = line.word(); }},
      {"sysfs", [&](Line& line) { run.sysfs = line.word(); }},
      {"logits", [&](Line& line) { run.logits = line.word(); }},
      {"sentences", [&](Line& line) { sentences = line.word(); }},
      {"candidates", [&](Line& line) { run.candidates = line.word(); }},
      {"start", [&](Line& line) { run.search.start = line.number(); }},
      {"eos", [&](Line& line) { run.search.eos = line.number(); }},
      {"forced_bos", [&](Line& line) { run.search.forced_bos = line.number(); }},
      {"forced_eos", [&](Line& line) { run.search.forced_eos = line.number(); }},
      {"banned", [&](Line& line) { run.search.banned = line.numbers(); }},
      {"graph",
       [&](Line& line) {
         const std::string name = line.word();
         run.graphs[name].file = line.word();
       }},
      {"inputs",
       [&](Line& line) {
         const std::string name = line.word();
         run.graphs[name].inputs = line.names();
       }},
      {"outputs",
       [&](Line& line) {
         const std::string name = line.word();
         run.graphs[name].outputs = line.names();
       }},
      {"cache",
       [&](Line& line) {
         Cache& cache = run.caches[line.word()];
         cache.heads = line.number();
         cache.width = line.number();
       }},
  };
  bool known_schema = false;
  each_line(path, [&](Line line, std::int64_t) {
    const std::string key = line.word();
    if (!known_schema) {
      if (key != "tprune-run" || line.word() != kSchema) line.refuse("wanted tprune-run " + std::string(kSchema));
      known_schema = true;
      return;
    }
    const auto found = keys.find(key);
    if (found == keys.end()) line.refuse("no such key: " + key);
    found->second(line);
  });
  if (run.output.empty() || sentences.empty()) throw Failure(path + ": output and sentences have to be named");
  if (run.threads < 1) throw Failure(path + ": too few threads");
  run.sentences = read_sentences(sentences);
  if (run.sentences.empty()) throw Failure(sentences + ": no sentences");
  if (run.candidates.empty() == take_candidates(run.graphs)) {
    throw Failure(path + (run.candidates.empty() ? ": the graphs take candidates, and none are named"
                                                 : ": candidates are named, and no graph takes them"));
  }
  if (!run.candidates.empty()) find_candidates(run.candidates, run.sentences);
  return run;
}

}  // namespace tprune
