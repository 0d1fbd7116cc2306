// The build without CUDA.
#include "engine/base/cuda.h"
#include "engine/base/error.h"

namespace qfm::cuda {

bool available() noexcept { return false; }
const char* unavailable_reason() noexcept { return "this build has no CUDA"; }
void* system_allocate(size_t) noexcept { return nullptr; }
void system_release(void*) noexcept {}
void copy(void*, const void*, size_t) { QFM_FAIL("cuda: this build has no CUDA"); }
void zero(void*, size_t) { QFM_FAIL("cuda: this build has no CUDA"); }
void synchronize() { QFM_FAIL("cuda: this build has no CUDA"); }

}  // namespace qfm::cuda
