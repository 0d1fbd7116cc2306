// Matrix product with what surrounds it in a transformer: C = epilogue(A B).
//
// Every element of C is one chain over k = 0 .. K-1 in acc<T>, started from zero (fused multiply-adds in the
// vector code and in our CUDA kernel, multiply and add in the plain one), whatever the tile, the row or
// column tail, the number of threads or the other rows: a row of a batch of 8 has the same bits as the same
// row alone. (Vendor libraries do not promise that.) Two departures on CUDA: with trans_a, a weight gradient,
// k may be cut into parts, fixed by the shape, whose sums are added in order; and the tensor cores that
// multiply bf16 add 16 products at a time.
#pragma once
#include <cstddef>
#include <cstdint>

#include "engine/base/dtype.h"
#include "engine/memory/device.h"

namespace qfm {

// C is (m, n). A is (m, k), or stored as (k, m) if trans_a. B is (k, n), or stored as (n, k) if trans_b (a
// Linear's weight). All row-major and dense. Any sizes, zero included (k = 0 gives the epilogue of zeros).
//   linear forward  y (M,N)  = x (M,K) W(N,K)^T   {M, N, K, false, true}
//   linear dgrad    dx (M,K) = dy (M,N) W(N,K)    {M, K, N, false, false}
//   linear wgrad    dW (N,K) = dy(M,N)^T x(M,K)   {N, K, M, true, false}
struct GemmShape {
  int64_t m, n, k;
  bool trans_a = false, trans_b = false;
  double flops() const {
    return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  }
};

// Applied to each element in acc<T>, in this order; null members are skipped:
//   v = sum_k A B;  v += bias[j];  pre_gelu[i,j] = v;  if (gelu) v = GELU(v);  v *= gelu_grad'(of[i,j]);
//   v += residual[i,j];  C[i,j] = v
// GELU is the erf form x Phi(x); its derivative is Phi(x) + x phi(x).
template <class T>
struct GemmEpilogue {
  const T* bias = nullptr;  // (n)
  T* pre_gelu = nullptr;    // (m, n), written: what GELU's backward needs
  bool gelu = false;
  const T* times_gelu_grad_of = nullptr;  // (m, n): v *= GELU'(this), fuses GELU's backward into a dgrad
  const T* residual = nullptr;            // (m, n)
  // (m), written: sum over k of A[i,k]. Beside a weight gradient this is the bias gradient. trans_a only.
  acc<T>* sum_a = nullptr;
};

// T = float, bf16, double. Out = T or acc<T> (a weight gradient is acc<T>).
template <class T, class Out>
void gemm(Cpu, GemmShape shape, Out* c, const T* a, const T* b, const GemmEpilogue<T>& epilogue = {});
template <class T, class Out>
void gemm(Cuda, GemmShape shape, Out* c, const T* a, const T* b, const GemmEpilogue<T>& epilogue = {});
// Our own kernel, whatever the policy table. T = float, bf16.
template <class T, class Out>
void gemm_own(Cuda, GemmShape shape, Out* c, const T* a, const T* b, const GemmEpilogue<T>& epilogue = {});

// Inference packs a weight once. Same bits as gemm with the plain b.
// Bytes of the packed form of B for this shape's n, k (m does not matter), under the current CPU path.
template <class T>
size_t gemm_packed_bytes(Cpu, GemmShape shape);
template <class T>
void gemm_pack(Cpu, GemmShape shape, void* packed, const T* b);
template <class T>
void gemm_with_packed(Cpu, GemmShape shape, T* c, const T* a, const void* packed,
                      const GemmEpilogue<T>& epilogue = {});

}  // namespace qfm
