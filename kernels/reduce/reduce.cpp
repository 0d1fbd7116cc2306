#include "kernels/reduce/reduce.h"

#include <cmath>
#include <limits>

#include "kernels/common/parallel_loops.h"

QFM_DECLARE_ISA(template <class T> void sum_rows(float* y, const T* x, const T* factor, int64_t rows, int64_t cols);
                template <class T> double sum_row(const T* x, const T* factor, int64_t n);
                template <class T> void max_rows(float* y, const T* x, int64_t rows, int64_t cols);
                template <class T> double sum_squares(const T* x, int64_t n);)

namespace qfm {
namespace plain {
namespace {

// Adds to y.
template <class T>
void sum_rows(acc<T>* y, const T* x, const T* factor, int64_t rows, int64_t cols) {
  using A = acc<T>;
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < cols; ++j) {
      const int64_t at = i * cols + j;
      y[j] += factor ? A(x[at]) * A(factor[at]) : A(x[at]);
    }
}

template <class T>
double sum_row(const T* x, const T* factor, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += factor ? to<double>(x[i]) * to<double>(factor[i]) : to<double>(x[i]);
  return sum;
}

template <class T>
void max_rows(acc<T>* y, const T* x, int64_t rows, int64_t cols) {
  using A = acc<T>;
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < cols; ++j) {
      const A v = A(x[i * cols + j]);
      if (!(y[j] >= v) && y[j] == y[j]) y[j] = v;
    }
}

template <class T>
double sum_squares(const T* x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += to<double>(x[i]) * to<double>(x[i]);
  return sum;
}

}  // namespace
}  // namespace plain

namespace {

// Rows that are summed along themselves: ranges of kRangeElements, added in order.
template <class T, class Out>
void sum_along_rows(ReduceShape s, Out* y, const T* x, const T* factor, double divisor) {
  const auto run = QFM_BEST_ISA(sum_row, T);
  const auto range = [&](int64_t row, int64_t begin, int64_t end) {
    const int64_t at = row * s.count + begin;
    return run(x + at, factor ? factor + at : nullptr, end - begin);
  };
  if (s.outer == 1) {
    const double sum = sum_ranges(s.count, [&](int64_t begin, int64_t end) { return range(0, begin, end); });
    *y = to<Out>(sum / divisor);
    return;
  }
  for_rows(s.outer, s.count, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      double sum = 0;
      for (int64_t begin = 0; begin < s.count; begin += kRangeElements)
        sum += range(row, begin, std::min(s.count, begin + kRangeElements));
      y[row] = to<Out>(sum / divisor);
    }
  });
}

}  // namespace

template <class T, class Out>
void reduce_sum(Cpu, ReduceShape s, Out* y, const T* x, const T* factor, double divisor) {
  using A = acc<T>;
  if (s.outer == 0 || s.inner == 0) return;
  if (s.inner == 1) return sum_along_rows(s, y, x, factor, divisor);
  const auto run = QFM_BEST_ISA(sum_rows, T);
  const auto finish = [&](Out* out, const A* sum) {
    for (int64_t i = 0; i < s.inner; ++i) out[i] = to<Out>(sum[i] / static_cast<A>(divisor));
  };
  if (s.outer == 1) {
    const int64_t chunks = reduce_chunks(s.count);
    Scratch scratch((chunks + 1) * s.inner * sizeof(A));
    A *slots = scratch.as<A>(), *sum = slots + chunks * s.inner;
    partial_sums(slots, s.inner, s.count, [&](A* slot, int64_t begin, int64_t end) {
      const int64_t at = begin * s.inner;
      run(slot, x + at, factor ? factor + at : nullptr, end - begin, s.inner);
    });
    add_slots(sum, slots, chunks, s.inner, s.inner);
    return finish(y, sum);
  }
  parallel_for(s.outer, [&](int64_t o) {
    Scratch scratch(s.inner * sizeof(A));
    A* sum = scratch.as<A>();
    std::fill(sum, sum + s.inner, A{0});
    const int64_t at = o * s.count * s.inner;
    run(sum, x + at, factor ? factor + at : nullptr, s.count, s.inner);
    finish(y + o * s.inner, sum);
  });
}

template <class T>
void reduce_max(Cpu, ReduceShape s, T* y, const T* x) {
  using A = acc<T>;
  const auto run = QFM_BEST_ISA(max_rows, T);
  for_rows(s.outer, s.count * s.inner, [&](int64_t begin, int64_t end) {
    Scratch scratch(s.inner * sizeof(A));
    A* most = scratch.as<A>();
    for (int64_t o = begin; o < end; ++o) {
      std::fill(most, most + s.inner, -std::numeric_limits<A>::infinity());
      run(most, x + o * s.count * s.inner, s.count, s.inner);
      for (int64_t i = 0; i < s.inner; ++i) y[o * s.inner + i] = to<T>(most[i]);
    }
  });
}

template <class T>
double sum_squares(Cpu, const T* x, int64_t n) {
  const auto run = QFM_BEST_ISA(sum_squares, T);
  return sum_ranges(n, [&](int64_t begin, int64_t end) { return run(x + begin, end - begin); });
}

namespace {

template <class T>
double dot(const T* a, const T* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += to<double>(a[i]) * to<double>(b[i]);
  return sum;
}

}  // namespace

template <class T>
void l2norm_forward(Cpu, T* y, acc<T>* norm, const T* x, int64_t rows, int64_t cols, double eps) {
  for_rows(rows, cols, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const T* row = x + i * cols;
      const double length = std::sqrt(dot(row, row, cols));
      for (int64_t j = 0; j < cols; ++j) y[i * cols + j] = to<T>(to<double>(row[j]) / std::max(length, eps));
      norm[i] = static_cast<acc<T>>(length);
    }
  });
}

template <class T>
void l2norm_backward(Cpu, T* dx, const T* dy, const T* y, const acc<T>* norm, int64_t rows, int64_t cols,
                     double eps) {
  for_rows(rows, cols, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t at = i * cols;
      const double length = static_cast<double>(norm[i]);
      const double along = length < eps ? 0 : dot(dy + at, y + at, cols);
      for (int64_t j = at; j < at + cols; ++j)
        dx[j] = to<T>((to<double>(dy[j]) - to<double>(y[j]) * along) / std::max(length, eps));
    }
  });
}

template <class T>
void cosine_forward(Cpu, T* y, const T* a, const T* b, int64_t rows, int64_t cols, double eps) {
  for_rows(rows, cols, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const T *p = a + i * cols, *q = b + i * cols;
      const double np = std::sqrt(dot(p, p, cols)), nq = std::sqrt(dot(q, q, cols));
      y[i] = to<T>(dot(p, q, cols) / (std::max(np, eps) * std::max(nq, eps)));
    }
  });
}

template <class T>
void cosine_backward(Cpu, T* da, T* db, const T* dy, const T* a, const T* b, int64_t rows, int64_t cols,
                     double eps) {
  for_rows(rows, cols, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t at = i * cols;
      const double size_a = std::sqrt(dot(a + at, a + at, cols)),
                   size_b = std::sqrt(dot(b + at, b + at, cols));
      const double na = std::max(size_a, eps), nb = std::max(size_b, eps);
      const double y = dot(a + at, b + at, cols) / (na * nb), g = to<double>(dy[i]);
      const double ya = size_a < eps ? 0 : y, yb = size_b < eps ? 0 : y;
      for (int64_t j = at; j < at + cols; ++j) {
        const double u = to<double>(a[j]) / na, w = to<double>(b[j]) / nb;
        da[j] = to<T>(g * (w - ya * u) / na);
        db[j] = to<T>(g * (u - yb * w) / nb);
      }
    }
  });
}

#define QFM_INSTANTIATE(T)                                                                             \
  template void reduce_sum(Cpu, ReduceShape, acc<T>*, const T*, const T*, double);                     \
  template void reduce_max(Cpu, ReduceShape, T*, const T*);                                            \
  template double sum_squares(Cpu, const T*, int64_t);                                                 \
  template void l2norm_forward(Cpu, T*, acc<T>*, const T*, int64_t, int64_t, double);                  \
  template void l2norm_backward(Cpu, T*, const T*, const T*, const acc<T>*, int64_t, int64_t, double); \
  template void cosine_forward(Cpu, T*, const T*, const T*, int64_t, int64_t, double);                 \
  template void cosine_backward(Cpu, T*, T*, const T*, const T*, const T*, int64_t, int64_t, double);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
QFM_INSTANTIATE(double)
#undef QFM_INSTANTIATE
template void reduce_sum(Cpu, ReduceShape, bf16*, const bf16*, const bf16*, double);

}  // namespace qfm
