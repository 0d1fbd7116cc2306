// How conv2d.cpp hands its work to the code of a path. Forward and dx are sums of one form, over the channels c of a
// group and taps t:
//   result[i, place] = sum over c, t of weight(i, c, t) source[c, place seen through t]
// Under a stride, neighbours in dx see dy through different taps: places have phases, each with taps of its own.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/conv/conv2d.h"

namespace qfm {

// Along one axis: phase f of position q is the result's element q * phases + f, if it has one, and sees the elements
// q * source_step + (the tap's offset) of the source; what lies outside it is zero.
struct SumAxis {
  int64_t source, source_step;
  int64_t result, phases, positions;
};
inline SumAxis sum_axis(int64_t source, int64_t source_step, int64_t result, int64_t phases) {
  return {source, source_step, result, phases, (result + phases - 1) / phases};
}
struct SumTap {
  int64_t row, column;  // offsets
  int64_t index;        // among the taps of the weight
};
struct ConvSum {
  int64_t batch, groups;
  int64_t rows, channels;  // of a group: those of the result, and of the source
  SumAxis y, x;
  const SumTap* taps;         // phase by phase, (row, column)
  const int64_t* phase_taps;  // those of phase f are [phase_taps[f], phase_taps[f + 1])
  int64_t weight_taps;
  bool transposed;  // the weight is (groups, channels, rows, taps), not (groups, rows, channels, taps)

  int64_t phases() const { return y.phases * x.phases; }
  int64_t tap_count() const { return phase_taps[phases()]; }
  int64_t places() const { return y.positions * x.positions; }  // of an image
  int64_t source_area() const { return y.source * x.source; }
  int64_t result_area() const { return y.result * x.result; }
};

// Rows [row, row + rows) of a group, at panels [panel, panel + panels) of the places of all images.
template <class T>
struct ConvBlock {
  const ConvSum& sum;
  T* result;
  const T *source, *w;
  const ConvEpilogue<T>& epilogue;
  int64_t group, row, rows, panel, panels;
  void* workspace;  // conv_workspace bytes
};

// dw and db of rows [row, row + rows) of a group: panels [panel, panel + panels) of its columns (channel, tap). db, or
// null, comes with panel 0. `sum` is that of the forward.
template <class T>
struct ConvDwBlock {
  const ConvSum& sum;
  acc<T>*dw, *db;
  const T *dy, *x;
  int64_t group, row, rows, panel, panels;
  void* workspace;  // conv_dw_workspace bytes
};

// Channels [channel, channel + channels), counted through all images, of a sum whose groups are of one channel.
template <class T>
struct DepthwiseBlock {
  const ConvSum& sum;
  T* result;
  const T *source, *w;
  const ConvEpilogue<T>& epilogue;
  int64_t channel, channels;
  void* workspace;  // depthwise_workspace bytes
};
// dw and db of channels [channel, channel + channels), over all images. `sum` is that of the forward.
template <class T>
struct DepthwiseDwBlock {
  const ConvSum& sum;
  acc<T>*dw, *db;
  const T *dy, *x;
  int64_t channel, channels;
  void* workspace;
};

}  // namespace qfm

#define QFM_CONV_CODE                                                         \
  int64_t conv_panel_columns();                                               \
  template <class T>                                                          \
  size_t conv_workspace(const ConvSum& sum, int64_t rows, int64_t panels);    \
  template <class T>                                                          \
  void conv_block(const ConvBlock<T>& block);                                 \
  template <class T>                                                          \
  size_t conv_dw_workspace(const ConvSum& sum, int64_t rows, int64_t panels); \
  template <class T>                                                          \
  void conv_dw_block(const ConvDwBlock<T>& block);                            \
  size_t depthwise_workspace(const ConvSum& sum);                             \
  template <class T>                                                          \
  void depthwise_block(const DepthwiseBlock<T>& block);                       \
  template <class T>                                                          \
  void depthwise_dw_block(const DepthwiseDwBlock<T>& block);

namespace qfm::avx2 {
QFM_CONV_CODE
}
namespace qfm::avx512 {
QFM_CONV_CODE
}
