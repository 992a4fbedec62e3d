// One run: load, warm up, translate sentences one at a time, write down what each took.
#pragma once

#include "journal.h"
#include "run_file.h"

namespace tprune {

// Throws Failure; what was written until then stays readable.
void measure(const Run& run, Journal& journal);

}  // namespace tprune
