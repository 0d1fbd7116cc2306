// A file may claim anything: sizes are bounded before memory is asked for them.
#pragma once
#include <cstdint>

#include "engine/base/error.h"

namespace qfm {

inline void check_within(const char* what, int64_t value, int64_t low, int64_t high) {
  QFM_CHECK(value >= low && value <= high, what, " ", value, " is not between ", low, " and ", high);
}

}  // namespace qfm
