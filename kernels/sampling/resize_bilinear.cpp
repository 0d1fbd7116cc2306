#include "kernels/sampling/resize_bilinear.h"

#include "kernels/common/parallel_loops.h"
#include "kernels/sampling/resize_axis.h"
#include "kernels/sampling/resize_columns.h"

QFM_DECLARE_ISA(template <class T> void resize_row(T* y, const T* upper, const T* lower, float weight,
                                                   const ResizeColumns<float>& columns, float* line);
                template <class T>
                void resize_row_backward(T* dx, const T* dy, const float* weights, int64_t rows,
                                         const ResizeColumnsBackward<float>& columns, float* line);)

namespace qfm {
namespace plain {
namespace {

template <class T>
void resize_row(T* y, const T* upper, const T* lower, acc<T> weight, const ResizeColumns<acc<T>>& columns,
                acc<T>* line) {
  using A = acc<T>;
  for (int64_t c = 0; c < columns.in; ++c) line[c] = (1 - weight) * A(upper[c]) + weight * A(lower[c]);
  line[columns.in] = line[columns.in - 1];  // the next of the last, weighing 0
  for (int64_t j = 0; j < columns.out; ++j) {
    const A* pair = line + columns.low[j];
    y[j] = T((1 - columns.weight[j]) * pair[0] + columns.weight[j] * pair[1]);
  }
}

template <class T>
void resize_row_backward(T* dx, const T* dy, const acc<T>* weights, int64_t rows,
                         const ResizeColumnsBackward<acc<T>>& columns, acc<T>* line) {
  using A = acc<T>;
  std::fill(line, line + columns.out + columns.taps, A(0));
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns.out; ++j) line[j] += weights[i] * A(dy[i * columns.out + j]);
  for (int64_t c = 0; c < columns.in; ++c) {
    A sum = 0;
    for (int64_t k = 0; k < columns.taps; ++k)
      sum += columns.weight[k * columns.stride + c] * line[columns.first[c] + k];
    dx[c] = T(sum);
  }
}

}  // namespace
}  // namespace plain

namespace {

// Tables end on whole vectors: past the last column the last place again, weighing 0.
int64_t padded(int64_t n) { return (n + kResizePad - 1) / kResizePad * kResizePad; }

template <class A>
void fill_columns(const ResizeAxis& axis, int32_t* low, A* weight) {
  for (int64_t j = 0; j < padded(axis.out); ++j) {
    const auto tap = axis.at<A>(std::min(j, axis.out - 1));
    low[j] = static_cast<int32_t>(tap.low);
    weight[j] = j < axis.out ? tap.weight : A(0);
  }
}

int64_t most_taps(const ResizeAxis& axis) {
  int64_t most = 0;
  for (int64_t c = 0; c < axis.in; ++c) most = std::max(most, axis.first(c + 1) - axis.first(c - 1));
  return most;
}
template <class A>
void fill_columns_backward(const ResizeAxis& axis, int64_t taps, int32_t* first, A* weight) {
  const int64_t stride = padded(axis.in);
  for (int64_t p = 0; p < stride; ++p) {
    const int64_t c = std::min(p, axis.in - 1), begin = axis.first(c - 1), end = axis.first(c + 1);
    first[p] = static_cast<int32_t>(begin);
    for (int64_t k = 0; k < taps; ++k)
      weight[k * stride + p] = p < axis.in && begin + k < end ? axis.weight<A>(begin + k, c) : A(0);
  }
}

}  // namespace

template <class T>
void resize_bilinear_forward(Cpu, const ResizeShape& s, T* y, const T* x) {
  using A = acc<T>;
  if (s.planes * s.out_height * s.out_width == 0) return;
  const ResizeAxis down(s.height, s.out_height, s.align_corners),
      across(s.width, s.out_width, s.align_corners);
  const int64_t columns = padded(s.out_width);
  const Scratch low(columns * sizeof(int32_t)), weight(columns * sizeof(A));
  fill_columns(across, low.as<int32_t>(), weight.as<A>());
  const ResizeColumns<A> table{s.width, s.out_width, low.as<int32_t>(), weight.as<A>()};
  const auto run = QFM_BEST_ISA(resize_row, T);
  for_rows(s.planes * s.out_height, std::max(s.width, s.out_width), [&](int64_t begin, int64_t end) {
    const Scratch line((s.width + kResizeRoom) * sizeof(A));
    for (int64_t row = begin; row < end; ++row) {
      const auto tap = down.at<A>(row % s.out_height);
      const T* upper = x + (row / s.out_height * s.height + tap.low) * s.width;
      run(y + row * s.out_width, upper, tap.low + 1 < s.height ? upper + s.width : upper, tap.weight, table,
          line.as<A>());
    }
  });
}

template <class T>
void resize_bilinear_backward(Cpu, const ResizeShape& s, T* dx, const T* dy) {
  using A = acc<T>;
  if (s.planes * s.height * s.width == 0) return;
  const ResizeAxis down(s.height, s.out_height, s.align_corners),
      across(s.width, s.out_width, s.align_corners);
  const int64_t taps = most_taps(across), tall = most_taps(down), columns = padded(s.width);
  const Scratch first(columns * sizeof(int32_t)), weight(columns * taps * sizeof(A));
  fill_columns_backward(across, taps, first.as<int32_t>(), weight.as<A>());
  const ResizeColumnsBackward<A> table{s.width, s.out_width,         taps,
                                       columns, first.as<int32_t>(), weight.as<A>()};
  const auto run = QFM_BEST_ISA(resize_row_backward, T);
  for_rows(s.planes * s.height, s.width + tall * s.out_width, [&](int64_t begin, int64_t end) {
    const Scratch weights(tall * sizeof(A)), line((s.out_width + taps + kResizeRoom) * sizeof(A));
    for (int64_t row = begin; row < end; ++row) {
      const int64_t r = row % s.height, from = down.first(r - 1), to = down.first(r + 1);
      for (int64_t i = from; i < to; ++i) weights.as<A>()[i - from] = down.weight<A>(i, r);
      run(dx + row * s.width, dy + (row / s.height * s.out_height + from) * s.out_width, weights.as<A>(),
          to - from, table, line.as<A>());
    }
  });
}

#define QFM_INSTANTIATE(T)                                                      \
  template void resize_bilinear_forward(Cpu, const ResizeShape&, T*, const T*); \
  template void resize_bilinear_backward(Cpu, const ResizeShape&, T*, const T*);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
QFM_INSTANTIATE(double)
#undef QFM_INSTANTIATE

}  // namespace qfm
