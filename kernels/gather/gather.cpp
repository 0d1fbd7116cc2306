#include "kernels/gather/gather.h"

#include "kernels/common/parallel_loops.h"

namespace qfm {

CopySpace CopySpace::merged() const {
  CopySpace m;
  m.dims = 0;
  for (int d = 0; d < dims; ++d) {
    if (size[d] == 1) continue;
    const int last = m.dims - 1;
    if (m.dims > 0 && m.to[last] == to[d] * size[d] && m.from[last] == from[d] * size[d]) {
      m.size[last] *= size[d], m.to[last] = to[d], m.from[last] = from[d];
    } else {
      m.size[m.dims] = size[d], m.to[m.dims] = to[d], m.from[m.dims] = from[d];
      ++m.dims;
    }
  }
  if (m.dims == 0) m.dims = 1, m.size[0] = 1, m.to[0] = m.from[0] = 1;
  return m;
}

template <class T>
void strided_copy(Cpu, const CopySpace& whole, T* dst, const T* src) {
  const CopySpace s = whole.merged();
  const int last = s.dims - 1;
  const int64_t columns = s.size[last], to = s.to[last], from = s.from[last];
  int64_t rows = 1;
  for (int d = 0; d < last; ++d) rows *= s.size[d];
  for_rows(rows, columns, [&](int64_t begin, int64_t end) {
    int64_t at[kMaxDims];
    T* out = dst;
    const T* in = src;
    for (int64_t rest = begin, d = last - 1; d >= 0; rest /= s.size[d], --d) {
      at[d] = rest % s.size[d];
      out += at[d] * s.to[d], in += at[d] * s.from[d];
    }
    for (int64_t row = begin; row < end; ++row) {
      if (to == 1 && from == 1) std::copy_n(in, columns, out);
      else
        for (int64_t i = 0; i < columns; ++i) out[i * to] = in[i * from];
      // To the next row, like a counter: a dimension that is through starts anew and carries.
      for (int d = last - 1; d >= 0; --d) {
        out += s.to[d], in += s.from[d];
        if (++at[d] < s.size[d]) break;
        out -= at[d] * s.to[d], in -= at[d] * s.from[d], at[d] = 0;
      }
    }
  });
}

template <class T>
void gather_rows(Cpu, T* y, const T* table, const int32_t* ids, int64_t count, int64_t cols) {
  for_rows(count, cols, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) std::copy_n(table + int64_t{ids[i]} * cols, cols, y + i * cols);
  });
}

// Threads share the columns, each adds all ids in order.
template <class T>
void scatter_add_rows(Cpu, acc<T>* dtable, const T* dy, const int32_t* ids, int64_t count, int64_t rows, int64_t cols) {
  for_elements(rows * cols, [=](int64_t begin, int64_t end) { std::fill(dtable + begin, dtable + end, acc<T>{0}); });
  for_ranges(cols, 64, [=](int64_t begin, int64_t end) {
    for (int64_t i = 0; i < count; ++i)
      for (int64_t j = begin; j < end; ++j) dtable[int64_t{ids[i]} * cols + j] += static_cast<acc<T>>(dy[i * cols + j]);
  });
}

#define QFM_INSTANTIATE(T)                                                           \
  template void strided_copy(Cpu, const CopySpace&, T*, const T*);                   \
  template void gather_rows(Cpu, T*, const T*, const int32_t*, int64_t, int64_t);    \
  template void scatter_add_rows(Cpu, acc<T>*, const T*, const int32_t*, int64_t, int64_t, int64_t);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
QFM_INSTANTIATE(double)
#undef QFM_INSTANTIATE

}  // namespace qfm
