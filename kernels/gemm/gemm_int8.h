// Products of 8-bit numbers, for inference on the CPU: C = epilogue(A W^T).
//
// A holds quantised rows (pointwise/quantise.h), W the rows of a Linear's weight, each with a scale of its own:
//   v[i,j] = a_scale[i] w_scale[j] sum_k a[i,k] w[j,k], then bias, GELU and residual as in gemm.h, in float
// The sum is exact, and the same on every path. As with gemm.h, a row's bits depend on neither the other rows nor the
// number of threads.
#pragma once
#include <cstddef>

#include "kernels/gemm/gemm.h"
#include "kernels/pointwise/quantise.h"

namespace qfm {

inline constexpr int64_t kInt8MaxDepth = 1 << 17;  // whose sums fit 32 bits

// W (n, k), numbers -127 .. 127, and its scales (n), laid out for the products of every path. Throws Error where k is
// larger than kInt8MaxDepth.
size_t gemm_int8_packed_bytes(int64_t n, int64_t k);
void gemm_int8_pack(Cpu, void* packed, const int8_t* w, const float* scale, int64_t n, int64_t k);

// a (m, int8_row_bytes(k)). c (m, n) as floats; or quantised as it is made, (m, int8_row_bytes(n)).
void gemm_int8(Cpu, int64_t m, int64_t n, int64_t k, float* c, const uint8_t* a, const void* packed,
               const GemmEpilogue<float>& epilogue = {});
void gemm_int8(Cpu, int64_t m, int64_t n, int64_t k, uint8_t* c, const uint8_t* a, const void* packed,
               const GemmEpilogue<float>& epilogue = {});

}  // namespace qfm
