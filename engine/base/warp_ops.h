// Small device functions that kernels share. Inline PTX may stand here only, each piece beside a software
// twin for host-CUDA.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <type_traits>

#include "engine/base/launch.h"

namespace qfm {

inline constexpr unsigned kWholeWarp = 0xffffffffu;

// Up to 16 bytes that move by one instruction. Memory is read and written through it by assignment.
template <class T, int n>
struct alignas(n * sizeof(T)) Pack {
  T at[n];
};
template <class T>
constexpr int kPack = 16 / sizeof(T);
template <int n, class T>
__device__ Pack<T, n> load(const T* p) {
  return *reinterpret_cast<const Pack<T, n>*>(p);
}
template <int n, class T>
__device__ void store(T* p, const Pack<T, n>& v) {
  *reinterpret_cast<Pack<T, n>*>(p) = v;
}

// On the host: whether rows of `cols` elements that follow each other at these addresses can be read in whole
// packs.
template <class T>
bool in_packs(int64_t cols, std::initializer_list<const T*> rows) {
  bool aligned = cols % kPack<T> == 0;
  for (const T* p : rows) aligned = aligned && reinterpret_cast<uintptr_t>(p) % 16 == 0;
  return aligned;
}
// The pack size as a type, to choose a kernel by: run(Lanes<4>{}).
template <int n>
using Lanes = std::integral_constant<int, n>;

// The sum over the lanes of a whole warp, the same bits in each.
__device__ inline float warp_sum(float v) {
  for (int distance = 16; distance > 0; distance /= 2) v += __shfl_xor_sync(kWholeWarp, v, distance);
  return v;
}

}  // namespace qfm
