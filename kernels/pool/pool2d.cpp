#include "kernels/pool/pool2d.h"

#include <cmath>
#include <limits>
#include <type_traits>

#include "kernels/common/parallel_loops.h"
#include "kernels/pool/pool_row.h"
#include "kernels/pool/pool_taps.h"

QFM_DECLARE_ISA(template <class T> void max_pool_row(const PoolRow& r, T* y, int32_t* at, const T* plane);
                template <class T> void mean_pool_row(const PoolRow& r, T* y, const T* plane);
                template <class T> void plane_means(int64_t planes, int64_t places, T* y, const T* x);
                template <class T> void spread_planes(int64_t planes, int64_t places, T* dx, const T* dy);
                template <class A> void add_row(A* to, const A* row, int64_t n);)

namespace qfm {
namespace plain {
namespace {

// Whether v takes the place of the maximum so far: it is larger, or the first NaN.
template <class A>
bool beats(A v, A most) {
  return v > most || (std::isnan(v) && !std::isnan(most));
}

template <class T>
void max_pool_row(const PoolRow& r, T* y, int32_t* at, const T* plane) {
  using A = acc<T>;
  for (int64_t j = r.begin; j < r.end; ++j) {
    int64_t place = r.first + j * r.stride;
    A most = -std::numeric_limits<A>::infinity();
    for (int64_t u = 0; u < r.rows; ++u)
      for (int64_t v = 0; v < r.taps; ++v) {
        const int64_t here = r.first + j * r.stride + u * r.row_step + v * r.tap_step;
        if (beats(A(plane[here]), most)) most = A(plane[here]), place = here;
      }
    y[j] = T(most);
    if (at) at[j] = static_cast<int32_t>(place);
  }
}

template <class T>
void mean_pool_row(const PoolRow& r, T* y, const T* plane) {
  using A = acc<T>;
  for (int64_t j = r.begin; j < r.end; ++j) {
    A sum = 0;
    for (int64_t u = 0; u < r.rows; ++u)
      for (int64_t v = 0; v < r.taps; ++v)
        sum += A(plane[r.first + j * r.stride + u * r.row_step + v * r.tap_step]);
    y[j] = T(sum / A(r.count));
  }
}

template <class T>
void plane_means(int64_t planes, int64_t places, T* y, const T* x) {
  for (int64_t plane = 0; plane < planes; ++plane, x += places) {
    acc<T> sum = 0;
    for (int64_t i = 0; i < places; ++i) sum += acc<T>(x[i]);
    y[plane] = T(sum / acc<T>(places));
  }
}

template <class T>
void spread_planes(int64_t planes, int64_t places, T* dx, const T* dy) {
  for (int64_t plane = 0; plane < planes; ++plane)
    std::fill(dx + plane * places, dx + (plane + 1) * places, T(acc<T>(dy[plane]) / acc<T>(places)));
}

template <class A>
void add_row(A* to, const A* row, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] += row[i];
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

// The columns of results whose windows lie inside in whole: vector code; the others see some taps only.
Span whole_columns(const PoolShape& s) {
  const int64_t reach = (s.x.size - 1) * s.x.dilation;
  const int64_t begin = (s.x.pad_begin + s.x.stride - 1) / s.x.stride;
  const int64_t last = s.width - 1 - reach + s.x.pad_begin;  // the first element's, padding counted
  const int64_t end = std::min(last < 0 ? 0 : last / s.x.stride + 1, s.out_width());
  return {std::min(begin, end), end};
}

// Row i of the results: row(r) for whole columns, edge(r) for each of the others.
template <class Row, class Edge>
void for_pool_row(const PoolShape& s, int64_t i, const Span& whole, Row&& row, Edge&& edge) {
  const Span down = taps_inside(s.y, i, s.height);
  const int64_t first = s.y.at(i, down.begin) * s.width - s.x.pad_begin;
  const auto of = [&](int64_t from, int64_t to, const Span& along) {
    const int64_t count = s.count_padding ? s.y.size * s.x.size : down.size() * along.size();
    return PoolRow{from,         to,           first + along.begin * s.x.dilation,
                   s.x.stride,   down.size(),  s.y.dilation * s.width,
                   along.size(), s.x.dilation, count};
  };
  if (whole.size() > 0) row(of(whole.begin, whole.end, {0, s.x.size}));
  for (int64_t j = whole.begin > 0 ? 0 : whole.end; j < s.out_width();
       j = j + 1 == whole.begin ? whole.end : j + 1)
    edge(of(j, j + 1, taps_inside(s.x, j, s.width)));
}

// row(r, its plane, where its results begin) and edge(...) for every row of results.
template <class Row, class Edge>
void for_pool_rows(const PoolShape& s, Row&& row, Edge&& edge) {
  const Span whole = whole_columns(s);
  const int64_t in = s.height * s.width, rows = s.out_height(), cols = s.out_width();
  for_rows(s.planes, in, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin * rows; k < end * rows; ++k)
      for_pool_row(
          s, k % rows, whole, [&](const PoolRow& r) { row(r, k / rows * in, k * cols); },
          [&](const PoolRow& r) { edge(r, k / rows * in, k * cols); });
  });
}

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
  const bool small = shape.height * shape.width < int64_t{1} << 24;  // places that a float can count
  const auto row = small ? QFM_BEST_ISA(max_pool_row, T) : &plain::max_pool_row<T>;
  const auto with = [=](auto run) {
    return [=](const PoolRow& r, int64_t plane, int64_t to) {
      run(r, y + to, at ? at + to : nullptr, x + plane);
    };
  };
  for_pool_rows(shape, with(row), with(&plain::max_pool_row<T>));
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
  const auto with = [=](auto run) {
    return [=](const PoolRow& r, int64_t plane, int64_t to) { run(r, y + to, x + plane); };
  };
  const auto row = QFM_BEST_ISA(mean_pool_row, T);
  for_pool_rows(shape, with(row), with(&plain::mean_pool_row<T>));
}

// Row by row of dy: what it gives to the columns is summed once and added to each row that its windows see.
template <class T>
void mean_pool_backward(Cpu, const PoolShape& s, T* dx, const T* dy) {
  using A = acc<T>;
  const auto add = QFM_BEST_ISA(add_row, A);
  const Span whole = whole_columns(s);
  const int64_t rows = s.out_height(), cols = s.out_width();
  plane_gradients(s.planes, s.height * s.width, dx, [&](A* sums, int64_t plane) {
    const Scratch scratch((s.width + cols) * sizeof(A));
    A *row = scratch.as<A>(), *parts = row + s.width;
    for (int64_t i = 0; i < rows; ++i) {
      const T* from = dy + (plane * rows + i) * cols;
      const Span down = taps_inside(s.y, i, s.height);
      std::fill(row, row + s.width, A{0});
      const auto columns = [&](const PoolRow& r) {
        for (int64_t j = r.begin; j < r.end; ++j) parts[j] = A(from[j]) / A(r.count);
        for (int64_t v = 0; v < r.taps; ++v) {
          A* to = row + r.first - s.y.at(i, down.begin) * s.width + v * r.tap_step;
          for (int64_t j = r.begin; j < r.end; ++j) to[j * r.stride] += parts[j];
        }
      };
      for_pool_row(s, i, whole, columns, columns);
      for (int64_t u = down.begin; u < down.end; ++u) add(sums + s.y.at(i, u) * s.width, row, s.width);
    }
  });
}

template <class T>
void adaptive_pool_forward(Cpu, const AdaptivePoolShape& shape, T* y, const T* x) {
  const int64_t in = shape.height * shape.width, out = shape.out_height * shape.out_width;
  const auto means = QFM_BEST_ISA(plane_means, T);
  for_rows(shape.planes, in, [&](int64_t begin, int64_t end) {
    if (out == 1) return means(end - begin, in, y + begin, x + begin * in);
    plain::adaptive_pool_forward(shape, end - begin, y + begin * out, x + begin * in);
  });
}

template <class T>
void adaptive_pool_backward(Cpu, const AdaptivePoolShape& s, T* dx, const T* dy) {
  using A = acc<T>;
  const int64_t in = s.height * s.width, out = s.out_height * s.out_width;
  const auto spread = QFM_BEST_ISA(spread_planes, T);
  if (out == 1)
    return for_rows(s.planes, in, [&](int64_t begin, int64_t end) {
      spread(end - begin, in, dx + begin * in, dy + begin);
    });
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
