// RUNNER RUN_FILE: translate the run file's sentences and write its journal.
#include <iostream>

#include "failure.h"
#include "session.h"

int main(int count, char** arguments) {
  if (count != 2) {
    std::cerr << "usage: " << arguments[0] << " RUN_FILE\n";
    return 2;
  }
  try {
    const tprune::Run run = tprune::read_run(arguments[1]);
    tprune::Journal journal(run.output);
    try {
      tprune::measure(run, journal);
    } catch (const std::exception& error) {
      journal.write(tprune::Record("error").add("message", error.what()));
      throw;
    }
    journal.end();
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << '\n';
    return 1;
  }
}
