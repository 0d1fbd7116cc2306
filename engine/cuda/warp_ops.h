// Small device functions that kernels share. Inline PTX may stand here only (and in bf16's rounding,
// dtype.h), each piece beside a software twin for host-CUDA.
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <type_traits>

#include "engine/base/dtype.h"
#include "engine/cuda/launch.h"

namespace qfm {

inline constexpr unsigned kWholeWarp = 0xffffffffu;

// Up to 16 bytes that move by one instruction, so they must be aligned to their size.
template <class T, int n>
struct alignas(n * sizeof(T)) Pack {
  T at[n];
};
template <class T>
constexpr int kPack = 16 / sizeof(T);
template <int n, class T>
__device__ Pack<T, n> load(const T* p QFM_WHERE) {
#ifdef QFM_CUDA_HOST
  host_cuda::check_aligned(p, sizeof(Pack<T, n>), where);
#endif
  return *reinterpret_cast<const Pack<T, n>*>(p);
}
// To shared memory.
template <int n, class T>
__device__ void store_shared(T* p, const Pack<T, n>& v QFM_WHERE) {
#ifdef QFM_CUDA_HOST
  host_cuda::check_aligned(p, sizeof(Pack<T, n>), where);
#endif
  *reinterpret_cast<Pack<T, n>*>(p) = v;
}
// To global memory. In PTX: the compiler takes an assigned pack apart and often stores its elements
// one by one.
template <int n, class T>
__device__ void store(T* p, const Pack<T, n>& v QFM_WHERE) {
#ifdef QFM_CUDA_HOST
  host_cuda::check_aligned(p, sizeof(Pack<T, n>), where);
  *reinterpret_cast<Pack<T, n>*>(p) = v;
#else
  if constexpr (sizeof(v) < 8) {
    *reinterpret_cast<Pack<T, n>*>(p) = v;
  } else {
    const size_t address = __cvta_generic_to_global(p);
    uint32_t w[sizeof(v) / 4];
    memcpy(w, &v, sizeof(v));
    if constexpr (sizeof(v) == 8)
      asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(address), "r"(w[0]), "r"(w[1]) : "memory");
    else
      asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(address), "r"(w[0]), "r"(w[1]), "r"(w[2]),
                   "r"(w[3])
                   : "memory");
  }
#endif
}

// On the host: whether rows of `cols` elements that follow each other at these addresses can be read
// in whole packs.
template <class T>
bool in_packs(int64_t cols, std::initializer_list<const T*> rows) {
  bool aligned = cols % kPack<T> == 0;
  for (const T* p : rows) aligned = aligned && reinterpret_cast<uintptr_t>(p) % 16 == 0;
  return aligned;
}
// The pack size as a type, to choose a kernel by: run(Lanes<4>{}).
template <int n>
using Lanes = std::integral_constant<int, n>;

// Where a block's threads are counted by threadIdx.x alone.
__device__ inline int lane_id() { return threadIdx.x % 32; }
__device__ inline int warp_id() { return threadIdx.x / 32; }

// The sum over the lanes of a whole warp, the same bits in each.
template <class A>
__device__ A warp_sum(A v) {
  for (int distance = 16; distance > 0; distance /= 2) v += __shfl_xor_sync(kWholeWarp, v, distance);
  return v;
}
// The largest value of a whole warp; NaN only where all are NaN.
__device__ inline float warp_max(float v) {
  for (int distance = 16; distance > 0; distance /= 2) v = fmaxf(v, __shfl_xor_sync(kWholeWarp, v, distance));
  return v;
}

// 2^x by the special function unit, to about 2 ulp; results below 2^-126 are 0 on a GPU.
__device__ inline float fast_exp2(float x) {
#ifdef QFM_CUDA_HOST
  return std::exp2(x);
#else
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

// Two bf16 in a register, as the matrix instructions take them; rounds to nearest even.
__device__ inline uint32_t pack_bf16(float low, float high) {
#ifdef QFM_CUDA_HOST
  return bf16(low).bits | static_cast<uint32_t>(bf16(high).bits) << 16;
#else
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
#endif
}
// A pack rounded to the type of memory; bf16 two at a time.
template <class T, int n>
__device__ Pack<T, n> round_pack(const float (&v)[n]) {
  Pack<T, n> to;
  if constexpr (std::is_same_v<T, bf16> && n % 2 == 0) {
    uint32_t pairs[n / 2];
    for (int i = 0; i < n / 2; ++i) pairs[i] = pack_bf16(v[2 * i], v[2 * i + 1]);
    memcpy(&to, pairs, sizeof(to));
  } else {
    for (int i = 0; i < n; ++i) to.at[i] = T(v[i]);
  }
  return to;
}
__device__ inline float low_bf16(uint32_t pair) {
#ifdef QFM_CUDA_HOST
  return std::bit_cast<float>(pair << 16);
#else
  return __uint_as_float(pair << 16);
#endif
}
__device__ inline float high_bf16(uint32_t pair) {
#ifdef QFM_CUDA_HOST
  return std::bit_cast<float>(pair & 0xffff0000u);
#else
  return __uint_as_float(pair & 0xffff0000u);
#endif
}

// Starts a copy of 16 bytes to shared memory, both sides aligned to 16; zeros, and `global` is not read, when
// not valid. Undefined until this thread has waited for it, and for others until a barrier after that. A
// thread must have waited for all its copies when it ends.
__device__ inline void cp_async16(void* shared, const void* global, bool valid = true QFM_WHERE) {
#ifdef QFM_CUDA_HOST
  host_cuda::cp_async16(shared, global, valid, where);
#else
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(global),
               "r"(valid ? 16 : 0)
               : "memory");
#endif
}
// Ends a group: the copies of this thread since its last commit.
__device__ inline void cp_async_commit() {
#ifdef QFM_CUDA_HOST
  host_cuda::cp_async_commit();
#else
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
// Waits until all but the newest n groups of this thread have landed.
template <int n>
__device__ void cp_async_wait() {
#ifdef QFM_CUDA_HOST
  host_cuda::cp_async_wait(n);
#else
  asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory");
#endif
}

// ldmatrix: 4 matrices of 8 x 8 16-bit elements from shared memory to registers, one register a matrix. Row i of matrix
// m lies at the `row` of lane 8 m + i, 16 bytes aligned to 16. With g = lane / 4, t = lane % 4:
//   r[m]          holds row g, columns 2t (low half) and 2t + 1 (high half)
//   r[m], trans   holds column g, rows 2t (low half) and 2t + 1 (high half)
// The whole warp calls it, in one place. What other lanes wrote is seen only after __syncwarp or a barrier.
__device__ inline void ldmatrix_x4(uint32_t (&r)[4], const void* row QFM_WHERE) {
#ifdef QFM_CUDA_HOST
  host_cuda::ldmatrix(r, false, row, where);
#else
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
#endif
}
__device__ inline void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row QFM_WHERE) {
#ifdef QFM_CUDA_HOST
  host_cuda::ldmatrix(r, true, row, where);
#else
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
#endif
}

// d += a b on the tensor cores, a (16, 16) and b (16, 8) bf16, d (16, 8) float: mma.sync m16n8k16. With
// g = lane / 4, t = lane % 4 a lane holds (the first of a pair in the low half)
//   a[0] row g,     columns 2t, 2t + 1       b[0] column g, rows 2t, 2t + 1
//   a[1] row g + 8, columns 2t, 2t + 1       b[1] column g, rows 2t + 8, 2t + 9
//   a[2] row g,     columns 2t + 8, 2t + 9   d[0], d[1] row g,     columns 2t, 2t + 1
//   a[3] row g + 8, columns 2t + 8, 2t + 9   d[2], d[3] row g + 8, columns 2t, 2t + 1
// so ldmatrix_x4 loads a from rows of a, and ldmatrix_x4 two b from rows of b^T, ldmatrix_x4_trans from rows
// of b. host-CUDA adds to each d its 16 products one by one, k ascending, rounding every sum to float; a GPU
// keeps the same products exact, but NVIDIA does not say in what order and with how many bits it adds. Both
// give the same bits every time. The whole warp calls it, in one place.
__device__ inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2] QFM_WHERE) {
#ifdef QFM_CUDA_HOST
  host_cuda::mma_bf16(d, a, b, where);
#else
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

}  // namespace qfm
