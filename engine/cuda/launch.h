// The one header of CUDA: what a kernel file (*.cu) includes. It gives CUDA's own language (threadIdx,
// __syncthreads, __shfl_xor_sync, ...) and three things that both worlds, GPU and host/language.h, can serve:
//   launch<kernel>(grid, block, shared_bytes, stream, arguments...)   the only way to start a kernel
//   SHARED(float, tile, [32][33])                                     an array shared by the block
//   DYN_SHARED(float, tile)                                           a pointer to the launch's shared_bytes
// launch checks the sizes and throws Error with the kernel's name; a grid of 0 blocks is an error.
#pragma once

#if defined(QFM_CUDA_HOST)
#include "engine/cuda/host/language.h"  // IWYU pragma: export
#else
#include <cuda_runtime.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <tuple>
#include <utility>

#define QFM_WHERE
#define SHARED(type, name, dims) __shared__ type name dims
#define DYN_SHARED(type, name)                                 \
  extern __shared__ __align__(128) unsigned char qfm_shared[]; \
  type* name = reinterpret_cast<type*>(qfm_shared)

namespace qfm {
namespace cuda {

// "cuda: WHAT: reason (cudaErrorName)", and what to do where something can be done. A kernel that failed is
// told of by whatever asks next.
std::string failure(cudaError_t status, const char* what);
// Throws Error with that unless status is cudaSuccess.
void check(cudaError_t status, const char* what);
// signature: a function signature with "kernel = NAME" in it.
void launch(const void* kernel, const char* signature, dim3 grid, dim3 block, size_t shared_bytes,
            void* stream, void** parameters);

// A kernel may use up to 48 KB of dynamic shared memory, more only once it has been allowed.
void allow_shared_memory(const void* kernel, const char* signature, size_t bytes);

template <class... Parameters>
std::tuple<Parameters...> parameters_of(void (*)(Parameters...));

}  // namespace cuda

template <auto kernel, class... Arguments>
void launch(dim3 grid, dim3 block, size_t shared_bytes, void* stream, const Arguments&... arguments) {
  const char* signature = __PRETTY_FUNCTION__;
  static std::atomic<size_t> allowed{48 << 10};  // this kernel's: asked for once, not by every launch
  if (shared_bytes > allowed.load(std::memory_order_relaxed)) {
    cuda::allow_shared_memory(reinterpret_cast<const void*>(kernel), signature, shared_bytes);
    allowed.store(shared_bytes, std::memory_order_relaxed);
  }
  decltype(cuda::parameters_of(kernel)) parameters(arguments...);
  std::apply(
      [&](auto&... parameter) {
        void* pointers[] = {&parameter..., nullptr};
        cuda::launch(reinterpret_cast<const void*>(kernel), signature, grid, block, shared_bytes, stream,
                     pointers);
      },
      parameters);
}

}  // namespace qfm
#endif
