// The losses of QFM-IQM (models/METHOD.md 5, 6.2, 8), each value with its gradient in one pass. Sums run in a
// fixed order. Weights let images be left out (0) without another shape.
#pragma once
#include <cstdint>

#include "engine/base/dtype.h"
#include "engine/memory/device.h"

namespace qfm {

// loss = sum_i weight[i] l(prediction[i] - target[i]), l as in smooth_l1 (loss.h); grad[i] = weight[i] l'.
// weight (n), 0 leaves the element out.
template <class T>
void weighted_smooth_l1(Cpu, acc<T>* loss, T* grad, const T* prediction, const T* target,
                        const acc<T>* weight, double beta, int64_t n);
template <class T>
void weighted_smooth_l1(Cuda, acc<T>* loss, T* grad, const T* prediction, const T* target,
                        const acc<T>* weight, double beta, int64_t n);

// loss = sum_b weight[b] mean_r (1 - cos(a[b, r], c[b, r])), grad = d loss / d a; a, c, grad (batch, rows,
// cols), weight (batch). cos as in reduce.h, lengths at least eps.
template <class T>
void cosine_distance(Cpu, acc<T>* loss, T* grad, const T* a, const T* c, const acc<T>* weight, int64_t batch,
                     int64_t rows, int64_t cols, double eps);
template <class T>
void cosine_distance(Cuda, acc<T>* loss, T* grad, const T* a, const T* c, const acc<T>* weight, int64_t batch,
                     int64_t rows, int64_t cols, double eps);

// With m_i = mean_d g[i, d] and h = g / m:
//   loss = sum_d mean_i(h_id^2) v_d / sum_d v_d, and 0 where that sum is 0
//   dg_ie = 2 / (batch sum(v) m_i) (h_ie v_e - mean_d(h_id^2 v_d))
// g, dg (batch, dim), v (dim) >= 0.
template <class T>
void selection_loss(Cpu, acc<T>* loss, T* dg, const T* g, const acc<T>* v, int64_t batch, int64_t dim);
template <class T>
void selection_loss(Cuda, acc<T>* loss, T* dg, const T* g, const acc<T>* v, int64_t batch, int64_t dim);

// Cross-entropy of each row's similarities, its own left out, to soft targets:
//   p_i. = softmax over j != i of u_i . u_j / temperature,  loss = -sum_ij target[i, j] log p_ij
//   G_ij = (sum_j target[i, j]) p_ij - target[i, j],  du_i = sum_j (G_ij + G_ji) u_j / temperature
// u, du (n, dim), target (n, n) with 0 on the diagonal, workspace n (n + 1) values.
template <class T>
void similarity_cross_entropy(Cpu, acc<T>* loss, T* du, acc<T>* workspace, const T* u, const acc<T>* target,
                              double temperature, int64_t n, int64_t dim);
template <class T>
void similarity_cross_entropy(Cuda, acc<T>* loss, T* du, acc<T>* workspace, const T* u, const acc<T>* target,
                              double temperature, int64_t n, int64_t dim);

}  // namespace qfm
