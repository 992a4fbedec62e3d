// What ends a run: one line that a person can act on.
#pragma once

#include <stdexcept>

namespace tprune {

class Failure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace tprune
