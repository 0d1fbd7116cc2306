// The places of a batch as tables, made once for all channels.
#pragma once
#include <cstdint>

namespace qfm {

// Of every place: where its four elements lie in a plane (its end for one outside) and what they weigh; what the right
// and the lower elements weigh together; d position / d coordinate. SamplePoint has it for one place.
template <class A>
struct SampleTable {
  int32_t* at[4];
  A *weight[4], *x, *y, *slope_x, *slope_y;
};

}  // namespace qfm
