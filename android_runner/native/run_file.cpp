#include "run_file.h"

#include <cstring>
#include <fstream>
#include <functional>
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

void each_line(const std::string& path, const std::function<void(Line)>& read) {
  std::ifstream file(path);
  if (!file) throw Failure(path + ": cannot be read: " + std::strerror(errno));
  int number = 0;
  for (std::string text; std::getline(file, text);) {
    const std::string place = path + ":" + std::to_string(++number);
    if (file.eof()) throw Failure(place + ": the line has no end: the file was cut off");
    read(Line(place, text));
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
  each_line(path, [&](Line line) {
    Sentence sentence{line.number(), line.numbers()};
    if (sentence.source.empty() || sentence.limit < 1) line.refuse("wanted a limit above 0 and token ids");
    found.push_back(std::move(sentence));
  });
  return found;
}

}  // namespace

const Graph& Run::graph(const std::string& name) const {
  const auto found = graphs.find(name);
  if (found == graphs.end()) throw Failure("the bundle has no graph " + name);
  return found->second;
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
  each_line(path, [&](Line line) {
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
  return run;
}

}  // namespace tprune
