#include "kernels/pointwise/elementwise.h"

#include <cmath>

#include "kernels/common/parallel_loops.h"

QFM_DECLARE_ISA(template <class T> void add(T* y, const T* a, const T* b, int64_t n);
                template <class To, class From> void cast(To* dst, const From* src, int64_t n);
                template <class T> void layerscale_forward(T* y, const T* x, const T* gamma,
                                                           const T* residual, int64_t rows, int64_t cols);
                template <class T> void layerscale_backward(T* dx, float* dgamma, const T* dy, const T* x,
                                                            const T* gamma, int64_t rows, int64_t cols);)

namespace qfm {
namespace plain {
namespace {

template <class T>
void add(T* y, const T* a, const T* b, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = T(acc<T>(a[i]) + acc<T>(b[i]));
}

template <class To, class From>
void cast(To* dst, const From* src, int64_t n) {
  for (int64_t i = 0; i < n; ++i) dst[i] = to<To>(src[i]);
}

template <class T>
void layerscale_forward(T* y, const T* x, const T* gamma, const T* residual, int64_t rows, int64_t cols) {
  using A = acc<T>;
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < cols; ++j) {
      const int64_t at = i * cols + j;
      y[at] = T((residual ? A(residual[at]) : A(0)) + A(gamma[j]) * A(x[at]));
    }
}

// Adds to dgamma.
template <class T>
void layerscale_backward(T* dx, acc<T>* dgamma, const T* dy, const T* x, const T* gamma, int64_t rows,
                         int64_t cols) {
  using A = acc<T>;
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < cols; ++j) {
      const int64_t at = i * cols + j;
      dgamma[j] += A(dy[at]) * A(x[at]);
      dx[at] = T(A(gamma[j]) * A(dy[at]));
    }
}

}  // namespace
}  // namespace plain

template <class T>
void add(Cpu, T* y, const T* a, const T* b, int64_t n) {
  const auto run = QFM_BEST_ISA(add, T);
  for_elements(n, [&](int64_t begin, int64_t end) { run(y + begin, a + begin, b + begin, end - begin); });
}

template <class T>
void scale(Cpu, T* y, const T* x, double factor, int64_t n) {
  using A = acc<T>;
  for_elements(n, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y[i] = T(static_cast<A>(factor) * A(x[i]));
  });
}

template <class T>
void scale_by(Cpu cpu, T* y, const T* x, const acc<T>* factor, int64_t n) {
  scale(cpu, y, x, static_cast<double>(*factor), n);
}

template <class To, class From>
void cast(Cpu, To* dst, const From* src, int64_t n) {
  const auto run = QFM_BEST_ISA(cast, To, From);
  for_elements(n, [&](int64_t begin, int64_t end) { run(dst + begin, src + begin, end - begin); });
}

template <class T>
void add_broadcast(Cpu, T* y, const T* x, const T* p, int64_t outer, int64_t inner) {
  const auto run = QFM_BEST_ISA(add, T);
  for_rows(outer, inner, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o) run(y + o * inner, x + o * inner, p, inner);
  });
}

template <class T>
void sigmoid_forward(Cpu, T* y, const T* x, int64_t n) {
  using A = acc<T>;
  for_elements(n, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const A v = A(x[i]), e = std::exp(-std::fabs(v));  // at most 1 on either side
      y[i] = T((v < 0 ? e : 1) / (1 + e));
    }
  });
}

template <class T>
void sigmoid_backward(Cpu, T* dx, const T* dy, const T* y, int64_t n) {
  using A = acc<T>;
  for_elements(n, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) dx[i] = T(A(dy[i]) * A(y[i]) * (1 - A(y[i])));
  });
}

template <class T>
void layerscale_forward(Cpu, T* y, const T* x, const T* gamma, const T* residual, int64_t rows,
                        int64_t cols) {
  const auto run = QFM_BEST_ISA(layerscale_forward, T);
  for_rows(rows, cols, [&](int64_t begin, int64_t end) {
    const int64_t at = begin * cols;
    run(y + at, x + at, gamma, residual ? residual + at : nullptr, end - begin, cols);
  });
}

template <class T>
void layerscale_backward(Cpu, T* dx, acc<T>* dgamma, const T* dy, const T* x, const T* gamma, int64_t rows,
                         int64_t cols) {
  const auto run = QFM_BEST_ISA(layerscale_backward, T);
  Scratch scratch(reduce_chunks(rows) * cols * sizeof(acc<T>));
  acc<T>* slots = scratch.as<acc<T>>();
  partial_sums(slots, cols, rows, [&](acc<T>* slot, int64_t begin, int64_t end) {
    const int64_t at = begin * cols;
    run(dx + at, slot, dy + at, x + at, gamma, end - begin, cols);
  });
  add_slots(dgamma, slots, reduce_chunks(rows), cols, cols);
}

template <class T>
void gate_forward(Cpu, T* y, const T* x, const T* g, int64_t batch, int64_t tokens, int64_t dim) {
  const auto run = QFM_BEST_ISA(layerscale_forward, T);
  parallel_for(batch, [=](int64_t b) {
    const int64_t at = b * tokens * dim;
    run(y + at, x + at, g + b * dim, nullptr, tokens, dim);
  });
}

template <class T>
void gate_backward(Cpu, T* dx, T* dg, const T* dy, const T* x, const T* g, int64_t batch, int64_t tokens,
                   int64_t dim) {
  using A = acc<T>;
  const auto run = QFM_BEST_ISA(layerscale_backward, T);
  parallel_for(batch, [=](int64_t b) {
    const int64_t at = b * tokens * dim;
    Scratch scratch(dim * sizeof(A));
    A* sum = scratch.as<A>();
    std::fill(sum, sum + dim, A{0});
    run(dx + at, sum, dy + at, x + at, g + b * dim, tokens, dim);
    plain::cast(dg + b * dim, sum, dim);
  });
}

template <class T>
void copy_tokens(Cpu, TokenCopy s, T* dst, const T* src) {
  parallel_for(s.batch, [=](int64_t b) {
    const T* from = src + ((s.repeat_src ? 0 : b * s.src_tokens) + s.src_at) * s.dim;
    std::copy_n(from, s.count * s.dim, dst + (b * s.dst_tokens + s.dst_at) * s.dim);
  });
}

#define QFM_INSTANTIATE(T)                                                                             \
  template void add(Cpu, T*, const T*, const T*, int64_t);                                             \
  template void scale(Cpu, T*, const T*, double, int64_t);                                             \
  template void scale_by(Cpu, T*, const T*, const acc<T>*, int64_t);                                   \
  template void cast(Cpu, T*, const float*, int64_t);                                                  \
  template void cast(Cpu, T*, const bf16*, int64_t);                                                   \
  template void cast(Cpu, T*, const double*, int64_t);                                                 \
  template void add_broadcast(Cpu, T*, const T*, const T*, int64_t, int64_t);                          \
  template void sigmoid_forward(Cpu, T*, const T*, int64_t);                                           \
  template void sigmoid_backward(Cpu, T*, const T*, const T*, int64_t);                                \
  template void layerscale_forward(Cpu, T*, const T*, const T*, const T*, int64_t, int64_t);           \
  template void layerscale_backward(Cpu, T*, acc<T>*, const T*, const T*, const T*, int64_t, int64_t); \
  template void gate_forward(Cpu, T*, const T*, const T*, int64_t, int64_t, int64_t);                  \
  template void gate_backward(Cpu, T*, T*, const T*, const T*, const T*, int64_t, int64_t, int64_t);   \
  template void copy_tokens(Cpu, TokenCopy, T*, const T*);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
QFM_INSTANTIATE(double)
#undef QFM_INSTANTIATE

}  // namespace qfm
