// CUDA on a GPU, by the runtime (linked statically, so that a machine without a driver can start the
// program).
#include <cuda_runtime_api.h>

#include <string>

#include "engine/base/cuda.h"
#include "engine/base/error.h"
#include "engine/base/kernel_name.h"
#include "engine/base/launch.h"

namespace qfm::cuda {
namespace {

std::string version(int v) { return concat(v / 1000, ".", v % 1000 / 10); }

// The runtime calls a missing driver "insufficient", which misleads: ask for its version first.
std::string find_reason() {
  int driver = 0, runtime = 0, devices = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0)
    return "no GPU: no NVIDIA driver is installed";
  if (cudaRuntimeGetVersion(&runtime) == cudaSuccess && driver / 1000 < runtime / 1000)
    return concat("no GPU: the driver serves CUDA ", version(driver), ", this program needs ",
                  version(runtime), ": update the driver");
  const cudaError_t status = cudaGetDeviceCount(&devices);
  if (status != cudaSuccess) return concat("no GPU: ", cudaGetErrorString(status));
  return devices > 0 ? "" : "no GPU: the driver lists none";
}

const std::string& reason() {
  static const std::string text = find_reason();
  return text;
}

}  // namespace

bool available() noexcept { return reason().empty(); }
const char* unavailable_reason() noexcept { return reason().c_str(); }

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // an error that is reported is over, unless the device itself is lost
  QFM_CHECK(available(), "cuda: ", what, ": ", reason());
  QFM_FAIL("cuda: ", what, ": ", cudaGetErrorString(status), " (", cudaGetErrorName(status), ")");
}

void* system_allocate(size_t bytes) noexcept {
  void* p = nullptr;
  if (!available() || cudaMalloc(&p, bytes) == cudaSuccess) return p;
  cudaGetLastError();
  return nullptr;
}
void system_release(void* p) noexcept {
  if (cudaFree(p) != cudaSuccess) cudaGetLastError();
}

void copy(void* dst, const void* src, size_t bytes) {
  check(cudaMemcpy(dst, src, bytes, cudaMemcpyDefault), "cudaMemcpy");
  synchronize();  // a copy from one place on the device to another returns early
}
void zero(void* dst, size_t bytes) {
  check(cudaMemset(dst, 0, bytes), "cudaMemset");
  synchronize();
}
void synchronize() { check(cudaDeviceSynchronize(), "cudaDeviceSynchronize"); }

void launch(const void* kernel, const char* signature, dim3 grid, dim3 block, size_t shared_bytes,
            void* stream, void** parameters) {
  constexpr size_t kUnasked = 48 << 10;
  if (shared_bytes > kUnasked)
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shared_bytes)),
          concat("shared memory of ", kernel_name(signature)).c_str());
  const cudaError_t status =
      cudaLaunchKernel(kernel, grid, block, parameters, shared_bytes, static_cast<cudaStream_t>(stream));
  if (status != cudaSuccess) check(status, concat("launch of ", kernel_name(signature)).c_str());
}

}  // namespace qfm::cuda
