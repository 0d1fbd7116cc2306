// The third of three primitives (pointwise/map.h): copies by index.
#pragma once
#include <cstdint>

#include "engine/base/dtype.h"
#include "engine/memory/device.h"
#include "kernels/pointwise/map.h"

namespace qfm {

// dst[sum of to[d] i_d] = src[sum of from[d] i_d] for every index (i_0, i_1, ...) below size: a slice, a join, a
// permutation, or with from[d] = 0 a repetition. Offsets are in the pointers. T = float, bf16, double (CPU).
struct CopySpace {
  int dims = 1;
  int64_t size[kMaxDims] = {}, to[kMaxDims] = {}, from[kMaxDims] = {};
  // The same copy with fewer dimensions, where some can be joined or have size 1.
  CopySpace merged() const;
};
template <class T>
void strided_copy(Cpu, const CopySpace& space, T* dst, const T* src);
template <class T>
void strided_copy(Cuda, const CopySpace& space, T* dst, const T* src);

// y[i, :] = table[ids[i], :], for count ids in [0, rows of the table); y (count, cols).
template <class T>
void gather_rows(Cpu, T* y, const T* table, const int32_t* ids, int64_t count, int64_t cols);
template <class T>
void gather_rows(Cuda, T* y, const T* table, const int32_t* ids, int64_t count, int64_t cols);
// dtable[r, :] = sum of dy[i, :] over the i with ids[i] == r, in their order; dtable (rows, cols), all of it written.
template <class T>
void scatter_add_rows(Cpu, acc<T>* dtable, const T* dy, const int32_t* ids, int64_t count, int64_t rows, int64_t cols);
template <class T>
void scatter_add_rows(Cuda, acc<T>* dtable, const T* dy, const int32_t* ids, int64_t count, int64_t rows, int64_t cols);

}  // namespace qfm
