#include "session.h"

#include <unistd.h>

#include <fstream>

#include "clock.h"
#include "engine.h"
#include "failure.h"
#include "machine.h"
#include "search.h"

namespace tprune {
namespace {

constexpr std::int64_t kStateEvery = 1'000'000'000;  // ns between looks at clocks, temperatures and battery

const char* name_of(Mode mode) {
  switch (mode) {
    case Mode::kWhole:
      return "whole";
    case Mode::kSteps:
      return "steps";
    case Mode::kBuffered:
      return "buffered";
  }
  return "";
}

void write_state(const Run& run, Journal& journal) {
  journal.write(Record("state")
                    .add("at_ns", now_ns())
                    .add("frequency_khz", frequencies_khz(run.sysfs))
                    .add("temperature_mc", temperatures_mc(run.sysfs))
                    .add("power_supply", power_supplies(run.sysfs))
                    .add("resident_bytes", memory_bytes("VmRSS"))
                    .add("peak_resident_bytes", memory_bytes("VmHWM")));
}

void write_sentence(const Translation& found, std::size_t index, bool timed, Journal& journal) {
  journal.write(Record("sentence")
                    .add("index", static_cast<std::int64_t>(index))
                    .add("timed", timed)
                    .add("total_ns", found.total_ns)
                    .add("library_ns", found.library_ns)
                    .add("encode_ns", found.encode_ns)
                    .add("first_token_ns", found.first_token_ns)
                    .add("tokens", found.tokens));
}

}  // namespace

void measure(const Run& run, Journal& journal) {
  if (!run.cpus.empty()) pin(run.cpus);  // before the engine starts its threads
  journal.write(Record("start")
                    .add("schema", std::int64_t{1})
                    .add("pid", std::int64_t{getpid()})
                    .add("mode", name_of(run.mode))
                    .add("threads", run.threads)
                    .add("cpus", allowed_cpus())
                    .add("sentences", static_cast<std::int64_t>(run.sentences.size())));
  write_state(run, journal);
  const std::int64_t begin = now_ns();
  const auto engine = open_engine(run);
  journal.write(Record("load")
                    .add("engine", engine->name())
                    .add("engine_version", engine->version())
                    .add("load_ns", now_ns() - begin));
  std::ofstream logits;
  if (!run.logits.empty()) logits.open(run.logits, std::ios::binary);
  for (std::int64_t done = 0; done < run.warmup; ++done) {
    const std::size_t index = static_cast<std::size_t>(done) % run.sentences.size();
    write_sentence(translate(*engine, run, run.sentence(index), nullptr), index, false, journal);
  }
  write_state(run, journal);
  const std::int64_t start = now_ns();
  std::int64_t looked = start;
  const auto all = static_cast<std::int64_t>(run.sentences.size());
  // whole rounds only: of what a mean or a median is taken, every sentence has the same part
  const auto wanted_still = [&](std::int64_t done) {
    return done % all != 0 || done < run.runs || now_ns() - start < 1'000'000 * run.milliseconds;
  };
  for (std::int64_t done = 0; wanted_still(done); ++done) {
    const auto index = static_cast<std::size_t>(done % all);
    std::ostream* wanted = run.logits.empty() ? nullptr : &logits;
    write_sentence(translate(*engine, run, run.sentence(index), wanted), index, true, journal);
    if (wanted != nullptr && !wanted->flush()) throw Failure(run.logits + ": cannot be written");
    if (now_ns() - looked > kStateEvery) {
      write_state(run, journal);
      looked = now_ns();
    }
  }
  write_state(run, journal);
}

}  // namespace tprune
