#include "kernels/norm/layernorm.h"

#include <cmath>

#include "kernels/common/parallel_loops.h"
#include "kernels/norm/layerscale.h"
#include "kernels/pointwise/map.h"

QFM_DECLARE_ISA(template <class T>
                void layernorm_forward(T* y, float* mean, float* rstd, const T* x, const T* w, const T* b,
                                       int64_t rows, int64_t cols, float eps);
                template <class T>
                void layernorm_backward(T* dx, float* dw, float* db, const T* dy, const T* x, const T* w,
                                        const float* mean, const float* rstd, int64_t rows, int64_t cols);)

namespace qfm {
namespace plain {
namespace {

template <class T>
void layernorm_forward(T* y, acc<T>* mean, acc<T>* rstd, const T* x, const T* w, const T* b, int64_t rows,
                       int64_t cols, acc<T> eps) {
  using A = acc<T>;
  const A n = static_cast<A>(cols);
  for (int64_t i = 0; i < rows; ++i, x += cols, y += cols) {
    A m = 0, residue = 0, square = 0;
    for (int64_t j = 0; j < cols; ++j) m += A(x[j]);
    m /= n;
    for (int64_t j = 0; j < cols; ++j) residue += A(x[j]) - m;  // what rounding lost while m was summed
    m += residue / n;
    for (int64_t j = 0; j < cols; ++j) square += (A(x[j]) - m) * (A(x[j]) - m);
    const A r = 1 / std::sqrt(square / n + eps);
    for (int64_t j = 0; j < cols; ++j) y[j] = T((A(x[j]) - m) * r * A(w[j]) + A(b[j]));
    mean[i] = m;
    rstd[i] = r;
  }
}

// Adds to dw and db.
template <class T>
void layernorm_backward(T* dx, acc<T>* dw, acc<T>* db, const T* dy, const T* x, const T* w,
                        const acc<T>* mean, const acc<T>* rstd, int64_t rows, int64_t cols) {
  using A = acc<T>;
  const A n = static_cast<A>(cols);
  for (int64_t i = 0; i < rows; ++i, x += cols, dy += cols, dx += cols) {
    const A m = mean[i], r = rstd[i];
    A mean_g = 0, mean_gh = 0;
    for (int64_t j = 0; j < cols; ++j) {
      const A h = (A(x[j]) - m) * r, d = A(dy[j]), g = d * A(w[j]);
      mean_g += g;
      mean_gh += g * h;
      dw[j] += d * h;
      db[j] += d;
    }
    mean_g /= n;
    mean_gh /= n;
    for (int64_t j = 0; j < cols; ++j) {
      const A h = (A(x[j]) - m) * r, g = A(dy[j]) * A(w[j]);
      dx[j] = T(r * (g - mean_g - h * mean_gh));
    }
  }
}

}  // namespace
}  // namespace plain

template <class T>
void layernorm_forward(Cpu, T* y, acc<T>* mean, acc<T>* rstd, const T* x, const T* w, const T* b,
                       int64_t rows, int64_t cols, double eps) {
  const auto run = QFM_BEST_ISA(layernorm_forward, T);
  for_rows(rows, cols, [&](int64_t begin, int64_t end) {
    const int64_t at = begin * cols;
    run(y + at, mean + begin, rstd + begin, x + at, w, b, end - begin, cols, static_cast<acc<T>>(eps));
  });
}

void layernorm_forward(Cpu cpu, uint8_t* y, const float* x, const float* w, const float* b, int64_t rows, int64_t cols,
                       double eps) {
  constexpr int64_t few = 8;  // rows that stay in the first level of cache
  const auto run = QFM_BEST_ISA(layernorm_forward, float);
  for_ranges(rows, 2 * few, [&](int64_t begin, int64_t end) {
    const Scratch scratch(static_cast<size_t>(few * (cols + 2)) * sizeof(float));
    float *const floats = scratch.as<float>(), *const mean = floats + few * cols, *const rstd = mean + few;
    for (int64_t i = begin; i < end; i += few) {
      const int64_t n = std::min(few, end - i);
      run(floats, mean, rstd, x + i * cols, w, b, n, cols, static_cast<float>(eps));
      quantise_tokens(cpu, y + i * int8_row_bytes(cols), floats, n, cols);
    }
  });
}

int64_t layernorm_workspace(int64_t rows, int64_t cols) { return reduce_chunks(rows) * 2 * cols; }

template <class T>
void layernorm_backward(Cpu, T* dx, acc<T>* dw, acc<T>* db, const T* dy, const T* x, const T* w,
                        const acc<T>* mean, const acc<T>* rstd, acc<T>* workspace, int64_t rows,
                        int64_t cols) {
  const auto run = QFM_BEST_ISA(layernorm_backward, T);
  partial_sums(workspace, 2 * cols, rows, [&](acc<T>* slot, int64_t begin, int64_t end) {
    const int64_t at = begin * cols;
    run(dx + at, slot, slot + cols, dy + at, x + at, w, mean + begin, rstd + begin, end - begin, cols);
  });
  add_slots(dw, workspace, reduce_chunks(rows), 2 * cols, cols);
  add_slots(db, workspace + cols, reduce_chunks(rows), 2 * cols, cols);
}

template <class T>
void residual_sum(Cpu cpu, T* sum, const T* x, const T* gamma, const T* residual, int64_t rows, int64_t cols) {
  if (gamma) layerscale_forward(cpu, sum, x, gamma, residual, rows, cols);
  else map(cpu, fn::Add{}, flat_space<2>(rows * cols), sum, MapInputs<T, 2>{{residual, x}});
}

template <class T>
void residual_layernorm_forward(Cpu cpu, T* sum, T* y, acc<T>* mean, acc<T>* rstd, const T* x, const T* gamma,
                                const T* residual, const T* w, const T* b, int64_t rows, int64_t cols,
                                double eps) {
  residual_sum(cpu, sum, x, gamma, residual, rows, cols);
  layernorm_forward(cpu, y, mean, rstd, sum, w, b, rows, cols, eps);
}

template <class T>
void residual_layernorm_backward(Cpu cpu, T* dsum, T* dx, acc<T>* dgamma, acc<T>* dw, acc<T>* db, const T* dy,
                                 const T* dsum_in, const T* sum, const T* x, const T* gamma, const T* w,
                                 const acc<T>* mean, const acc<T>* rstd, int64_t rows, int64_t cols) {
  const Scratch workspace(layernorm_workspace(rows, cols) * sizeof(acc<T>));
  layernorm_backward(cpu, dsum, dw, db, dy, sum, w, mean, rstd, workspace.as<acc<T>>(), rows, cols);
  if (dsum_in) map(cpu, fn::Add{}, flat_space<2>(rows * cols), dsum, MapInputs<T, 2>{{dsum, dsum_in}});
  if (gamma) layerscale_backward(cpu, dx, dgamma, dsum, x, gamma, rows, cols);
}

#define QFM_INSTANTIATE(T)                                                                                   \
  template void layernorm_forward(Cpu, T*, acc<T>*, acc<T>*, const T*, const T*, const T*, int64_t, int64_t, \
                                  double);                                                                   \
  template void layernorm_backward(Cpu, T*, acc<T>*, acc<T>*, const T*, const T*, const T*, const acc<T>*,   \
                                   const acc<T>*, acc<T>*, int64_t, int64_t);                                \
  template void residual_sum(Cpu, T*, const T*, const T*, const T*, int64_t, int64_t);                       \
  template void residual_layernorm_forward(Cpu, T*, T*, acc<T>*, acc<T>*, const T*, const T*, const T*,      \
                                           const T*, const T*, int64_t, int64_t, double);                    \
  template void residual_layernorm_backward(Cpu, T*, T*, acc<T>*, acc<T>*, acc<T>*, const T*, const T*,      \
                                            const T*, const T*, const T*, const T*, const acc<T>*,           \
                                            const acc<T>*, int64_t, int64_t);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
QFM_INSTANTIATE(double)
#undef QFM_INSTANTIATE

}  // namespace qfm
