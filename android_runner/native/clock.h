// The clock that everything is timed with.
#pragma once

#include <time.h>

#include <cstdint>

namespace tprune {

// Nanoseconds of the monotonic clock.
inline std::int64_t now_ns() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return std::int64_t{1'000'000'000} * time.tv_sec + time.tv_nsec;
}

}  // namespace tprune
