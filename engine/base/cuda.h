// The one door to CUDA. Three worlds, picked by CMake: QFM_CUDA_DEVICE (nvcc, a GPU), QFM_CUDA_HOST (the same kernels
// run on the CPU by fibers, see host_cuda.h) or neither (every call throws or returns null).
#pragma once
#include <cstddef>

namespace qfm::cuda {

// True when kernels can run: a GPU with a working driver, or the host layer.
bool available() noexcept;
// Why not ("no GPU: ..."), for a message; empty when available.
const char* unavailable_reason() noexcept;

void* system_allocate(size_t bytes) noexcept;  // null: no memory, or no CUDA
void system_release(void* p) noexcept;
// Synchronous; either side may be on the device. Throws Error.
void copy(void* dst, const void* src, size_t bytes);
void zero(void* dst, size_t bytes);
void synchronize();

}  // namespace qfm::cuda
