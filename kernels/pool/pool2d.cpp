#include "kernels/pool/pool2d.h"

#include <cmath>
#include <limits>
#include <type_traits>

#include "kernels/common/parallel_loops.h"
#include "kernels/pool/pool_taps.h"

namespace qfm {
namespace plain {
namespace {

// Whether v takes the place of the maximum so far: it is larger, or the first NaN.
template <class A>
bool beats(A v, A most) {
  return v > most || (std::isnan(v) && !std::isnan(most));
}

template <class T>
void max_pool_forward(const PoolShape& s, int64_t planes, T* y, int32_t* at, const T* x) {
  using A = acc<T>;
  const int64_t rows = s.out_height(), cols = s.out_width();
  for (int64_t out = 0; out < planes * rows * cols; ++out) {
    const int64_t i = out / cols % rows, j = out % cols;
    const T* plane = x + out / (rows * cols) * s.height * s.width;
    const Span down = taps_inside(s.y, i, s.height), along = taps_inside(s.x, j, s.width);
    A most = -std::numeric_limits<A>::infinity();
    int64_t place = s.y.at(i, down.begin) * s.width + s.x.at(j, along.begin);
    for (int64_t u = down.begin; u < down.end; ++u)
      for (int64_t v = along.begin; v < along.end; ++v) {
        const int64_t here = s.y.at(i, u) * s.width + s.x.at(j, v);
        if (beats(A(plane[here]), most)) most = A(plane[here]), place = here;
      }
    y[out] = T(most);
    if (at) at[out] = static_cast<int32_t>(place);
  }
}

template <class T>
void mean_pool_forward(const PoolShape& s, int64_t planes, T* y, const T* x) {
  using A = acc<T>;
  const int64_t rows = s.out_height(), cols = s.out_width();
  for (int64_t out = 0; out < planes * rows * cols; ++out) {
    const int64_t i = out / cols % rows, j = out % cols;
    const T* plane = x + out / (rows * cols) * s.height * s.width;
    const Span down = taps_inside(s.y, i, s.height), along = taps_inside(s.x, j, s.width);
    A sum = 0;
    for (int64_t u = down.begin; u < down.end; ++u)
      for (int64_t v = along.begin; v < along.end; ++v)
        sum += A(plane[s.y.at(i, u) * s.width + s.x.at(j, v)]);
    y[out] = T(sum / A(s.count_padding ? s.y.size * s.x.size : down.size() * along.size()));
  }
}

template <class T>
void adaptive_pool_forward(const AdaptivePoolShape& s, int64_t planes, T* y, const T* x) {
  using A = acc<T>;
  for (int64_t out = 0; out < planes * s.out_height * s.out_width; ++out) {
    const int64_t i = out / s.out_width % s.out_height, j = out % s.out_width;
    const T* plane = x + out / (s.out_height * s.out_width) * s.height * s.width;
    const Span down = adaptive_span(i, s.height, s.out_height),
               along = adaptive_span(j, s.width, s.out_width);
    A sum = 0;
    for (int64_t u = down.begin; u < down.end; ++u)
      for (int64_t v = along.begin; v < along.end; ++v) sum += A(plane[u * s.width + v]);
    y[out] = T(sum / A(down.size() * along.size()));
  }
}

}  // namespace
}  // namespace plain

namespace {

// add(sums, plane) adds to the gradient of one plane, in acc<T>, zero at first; then it is rounded to T.
template <class T, class F>
void plane_gradients(int64_t planes, int64_t places, T* dx, F&& add) {
  using A = acc<T>;
  for_rows(planes, places, [&](int64_t begin, int64_t end) {
    const Scratch scratch(std::is_same_v<T, A> ? 0 : places * sizeof(A));
    for (int64_t plane = begin; plane < end; ++plane) {
      T* result = dx + plane * places;
      A* sums;
      if constexpr (std::is_same_v<T, A>) sums = result;
      else sums = scratch.template as<A>();
      std::fill(sums, sums + places, A{0});
      add(sums, plane);
      if constexpr (!std::is_same_v<T, A>)
        for (int64_t i = 0; i < places; ++i) result[i] = T(sums[i]);
    }
  });
}

}  // namespace

template <class T>
void max_pool_forward(Cpu, const PoolShape& shape, T* y, int32_t* at, const T* x) {
  const int64_t in = shape.height * shape.width, out = shape.out_height() * shape.out_width();
  for_rows(shape.planes, in, [&](int64_t begin, int64_t end) {
    plain::max_pool_forward(shape, end - begin, y + begin * out, at ? at + begin * out : nullptr,
                            x + begin * in);
  });
}

template <class T>
void max_pool_backward(Cpu, const PoolShape& shape, T* dx, const T* dy, const int32_t* at) {
  const int64_t out = shape.out_height() * shape.out_width();
  plane_gradients(shape.planes, shape.height * shape.width, dx, [&](acc<T>* sums, int64_t plane) {
    for (int64_t i = plane * out; i < (plane + 1) * out; ++i) sums[at[i]] += acc<T>(dy[i]);
  });
}

template <class T>
void mean_pool_forward(Cpu, const PoolShape& shape, T* y, const T* x) {
  const int64_t in = shape.height * shape.width, out = shape.out_height() * shape.out_width();
  for_rows(shape.planes, in, [&](int64_t begin, int64_t end) {
    plain::mean_pool_forward(shape, end - begin, y + begin * out, x + begin * in);
  });
}

// Row by row of dy: what it gives to the columns is summed once and added to each row that its windows see.
template <class T>
void mean_pool_backward(Cpu, const PoolShape& s, T* dx, const T* dy) {
  using A = acc<T>;
  const int64_t rows = s.out_height(), cols = s.out_width();
  plane_gradients(s.planes, s.height * s.width, dx, [&](A* sums, int64_t plane) {
    const Scratch scratch(s.width * sizeof(A));
    A* row = scratch.as<A>();
    for (int64_t i = 0; i < rows; ++i) {
      const T* from = dy + (plane * rows + i) * cols;
      const Span down = taps_inside(s.y, i, s.height);
      std::fill(row, row + s.width, A{0});
      for (int64_t j = 0; j < cols; ++j) {
        const Span along = taps_inside(s.x, j, s.width);
        const A part = A(from[j]) / A(s.count_padding ? s.y.size * s.x.size : down.size() * along.size());
        for (int64_t v = along.begin; v < along.end; ++v) row[s.x.at(j, v)] += part;
      }
      for (int64_t u = down.begin; u < down.end; ++u) {
        A* to = sums + s.y.at(i, u) * s.width;
        for (int64_t c = 0; c < s.width; ++c) to[c] += row[c];
      }
    }
  });
}

template <class T>
void adaptive_pool_forward(Cpu, const AdaptivePoolShape& shape, T* y, const T* x) {
  const int64_t in = shape.height * shape.width, out = shape.out_height * shape.out_width;
  for_rows(shape.planes, in, [&](int64_t begin, int64_t end) {
    plain::adaptive_pool_forward(shape, end - begin, y + begin * out, x + begin * in);
  });
}

template <class T>
void adaptive_pool_backward(Cpu, const AdaptivePoolShape& s, T* dx, const T* dy) {
  using A = acc<T>;
  const int64_t out = s.out_height * s.out_width;
  plane_gradients(s.planes, s.height * s.width, dx, [&](A* sums, int64_t plane) {
    for (int64_t i = 0; i < out; ++i) {
      const Span down = adaptive_span(i / s.out_width, s.height, s.out_height),
                 along = adaptive_span(i % s.out_width, s.width, s.out_width);
      const A part = A(dy[plane * out + i]) / A(down.size() * along.size());
      for (int64_t u = down.begin; u < down.end; ++u)
        for (int64_t v = along.begin; v < along.end; ++v) sums[u * s.width + v] += part;
    }
  });
}

#define QFM_INSTANTIATE(T)                                                              \
  template void max_pool_forward(Cpu, const PoolShape&, T*, int32_t*, const T*);        \
  template void max_pool_backward(Cpu, const PoolShape&, T*, const T*, const int32_t*); \
  template void mean_pool_forward(Cpu, const PoolShape&, T*, const T*);                 \
  template void mean_pool_backward(Cpu, const PoolShape&, T*, const T*);                \
  template void adaptive_pool_forward(Cpu, const AdaptivePoolShape&, T*, const T*);     \
  template void adaptive_pool_backward(Cpu, const AdaptivePoolShape&, T*, const T*);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
QFM_INSTANTIATE(double)
#undef QFM_INSTANTIATE

}  // namespace qfm
