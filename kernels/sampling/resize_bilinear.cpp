#include "kernels/sampling/resize_bilinear.h"

#include "kernels/common/parallel_loops.h"
#include "kernels/sampling/resize_axis.h"
#include "kernels/sampling/resize_taps.h"

QFM_DECLARE_ISA(template <class T>
                void add_rows(float* line, const T* x, const float* weights, int64_t rows, int64_t cols);
                template <class T> void take_columns(T* y, const float* line, const ResizeTaps<float>& t);)

namespace qfm {
namespace plain {
namespace {

// line = the weighted sum of rows.
template <class T>
void add_rows(acc<T>* line, const T* x, const acc<T>* weights, int64_t rows, int64_t cols) {
  using A = acc<T>;
  std::fill(line, line + cols, A(0));
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < cols; ++j) line[j] += weights[i] * A(x[i * cols + j]);
}

template <class T>
void take_columns(T* y, const acc<T>* line, const ResizeTaps<acc<T>>& t) {
  for (int64_t j = 0; j < t.out; ++j) {
    acc<T> sum = 0;
    for (int64_t k = 0; k < t.taps; ++k) sum += t.weight[k * t.stride + j] * line[t.first[j] + k];
    y[j] = T(sum);
  }
}

}  // namespace
}  // namespace plain

namespace {

// What an output of the axis takes of an element, and what an element of the gradient takes of an output's.
struct Forward {
  ResizeAxis axis;
  int64_t in() const { return axis.in; }
  int64_t out() const { return axis.out; }
  int64_t first(int64_t j) const { return axis.at<double>(j).low; }
  int64_t end(int64_t j) const { return std::min(first(j) + 2, axis.in); }
  template <class A>
  A weight(int64_t j, int64_t e) const {
    return axis.weight<A>(j, e);
  }
};
struct Backward {
  ResizeAxis axis;
  int64_t in() const { return axis.out; }
  int64_t out() const { return axis.in; }
  int64_t first(int64_t e) const { return axis.first(e - 1); }
  int64_t end(int64_t e) const { return axis.first(e + 1); }
  template <class A>
  A weight(int64_t e, int64_t j) const {
    return axis.weight<A>(j, e);
  }
};

template <class A>
class Taps {
 public:
  template <class Direction>
  explicit Taps(const Direction& d)
      : table_{d.in(),  d.out(), most(d), (d.out() + kResizePad - 1) / kResizePad * kResizePad,
               nullptr, nullptr},
        memory_(table_.stride *
                (table_.taps * static_cast<int64_t>(sizeof(A)) + static_cast<int64_t>(sizeof(int32_t)))) {
    table_.weight = memory_.template as<A>();
    table_.first = reinterpret_cast<int32_t*>(table_.weight + table_.stride * table_.taps);
    for (int64_t p = 0; p < table_.stride; ++p) {
      const int64_t j = std::min(p, d.out() - 1), first = d.first(j);  // past the last, the last place again
      table_.first[p] = static_cast<int32_t>(first);
      for (int64_t k = 0; k < table_.taps; ++k)
        table_.weight[k * table_.stride + p] =
            first + k < d.end(j) ? d.template weight<A>(j, first + k) : A(0);
    }
  }
  const ResizeTaps<A>& table() const { return table_; }
  // Output j's weights one after the other, without the zeros at their end; how many.
  int64_t copy(A* weights, int64_t j) const {
    int64_t count = table_.taps;
    while (count > 0 && table_.weight[(count - 1) * table_.stride + j] == 0) --count;
    for (int64_t k = 0; k < count; ++k) weights[k] = table_.weight[k * table_.stride + j];
    return count;
  }

 private:
  template <class Direction>
  static int64_t most(const Direction& d) {
    int64_t taps = 1;
    for (int64_t j = 0; j < d.out(); ++j) taps = std::max(taps, d.end(j) - d.first(j));
    return taps;
  }
  ResizeTaps<A> table_;
  Scratch memory_;
};

// Rows first, then columns. Several rows are added up before the first one's columns are taken: a vector that is read
// across two that were stored a moment ago waits for both.
template <class T, class Direction>
void resize(T* y, const T* x, int64_t planes, const Direction& down_axis, const Direction& across_axis) {
  using A = acc<T>;
  const Taps<A> down_taps(down_axis), across_taps(across_axis);
  const ResizeTaps<A>&down = down_taps.table(), &across = across_taps.table();
  const auto add = QFM_BEST_ISA(add_rows, T);
  const auto take = QFM_BEST_ISA(take_columns, T);
  const int64_t length = across.in + across.taps + kResizeRoom;
  const int64_t group = std::clamp<int64_t>(2048 / length, 1, 8);
  for_rows(planes * down.out, down.taps * across.in + across.out, [&](int64_t begin, int64_t end) {
    const Scratch weights(down.taps * sizeof(A)), lines(group * length * sizeof(A));
    std::fill(lines.as<A>(), lines.as<A>() + group * length, A(0));
    for (int64_t row = begin; row < end; row += group) {
      const int64_t count = std::min(group, end - row);
      for (int64_t r = 0; r < count; ++r) {
        const int64_t plane = (row + r) / down.out, i = (row + r) % down.out;
        const int64_t rows = down_taps.copy(weights.as<A>(), i);
        add(lines.as<A>() + r * length, x + (plane * down.in + down.first[i]) * across.in, weights.as<A>(),
            rows, across.in);
      }
      for (int64_t r = 0; r < count; ++r)
        take(y + (row + r) * across.out, lines.as<A>() + r * length, across);
    }
  });
}

}  // namespace

template <class T>
void resize_bilinear_forward(Cpu, const ResizeShape& s, T* y, const T* x) {
  if (s.planes * s.out_height * s.out_width == 0) return;
  resize(y, x, s.planes, Forward{{s.height, s.out_height, s.align_corners}},
         Forward{{s.width, s.out_width, s.align_corners}});
}

template <class T>
void resize_bilinear_backward(Cpu, const ResizeShape& s, T* dx, const T* dy) {
  if (s.planes * s.height * s.width == 0) return;
  resize(dx, dy, s.planes, Backward{{s.height, s.out_height, s.align_corners}},
         Backward{{s.width, s.out_width, s.align_corners}});
}

#define QFM_INSTANTIATE(T)                                                      \
  template void resize_bilinear_forward(Cpu, const ResizeShape&, T*, const T*); \
  template void resize_bilinear_backward(Cpu, const ResizeShape&, T*, const T*);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
QFM_INSTANTIATE(double)
#undef QFM_INSTANTIATE

}  // namespace qfm
