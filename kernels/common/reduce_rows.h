// The order of every sum over rows: chunks of kReduceRows rows, each summed in row order, the chunks added in order.
#pragma once
#include <cstdint>

namespace qfm {

inline constexpr int64_t kReduceRows = 64;

}  // namespace qfm
