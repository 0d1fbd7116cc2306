// CUDA on a GPU, by the runtime (linked statically, so that a machine without a driver can
// start the program).
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <atomic>
#include <cstdlib>
#include <string>

#include "engine/base/error.h"
#include "engine/cuda/cuda.h"
#include "engine/cuda/kernel_name.h"
#include "engine/cuda/launch.h"

namespace qfm::cuda {
namespace {

constexpr int kLeastCapability = 8;  // bf16 mma, cp.async

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
  if (devices == 0) return "no GPU: the driver lists none";
  int major = 0, minor = 0;  // of number 0, which is the fastest
  if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0) == cudaSuccess &&
      cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0) == cudaSuccess &&
      major < kLeastCapability)
    return concat("no GPU that serves: compute capability ", major, ".", minor, ", this program needs ",
                  kLeastCapability, ".0");
  return "";
}

const std::string& reason() {
  static const std::string text = find_reason();
  return text;
}

// A kernel that failed is noticed by the next call that waits. With this set every launch waits, and names
// its own.
bool one_at_a_time() {
  static const bool on = [] {
    const char* v = std::getenv("QFM_CUDA_SYNC");
    return v && *v && *v != '0';
  }();
  return on;
}

cudaStream_t as_stream(void* p) { return static_cast<cudaStream_t>(p); }
cudaEvent_t as_event(void* p) { return static_cast<cudaEvent_t>(p); }

std::atomic<bool> in_capture{false};

void refuse_capture(const char* what) {
  QFM_CHECK(!in_capture, "cuda: ", what, ": a graph is being captured, nothing can wait for its work");
}

void wait(cudaStream_t stream) { check(cudaStreamSynchronize(stream), "cudaStreamSynchronize"); }

// What a kernel leaves behind: after it every call fails with the same.
bool is_fault(cudaError_t status) {
  for (cudaError_t fault :
       {cudaErrorIllegalAddress, cudaErrorMisalignedAddress, cudaErrorIllegalInstruction,
        cudaErrorInvalidAddressSpace, cudaErrorInvalidPc, cudaErrorHardwareStackError, cudaErrorAssert,
        cudaErrorLaunchFailure, cudaErrorLaunchTimeout, cudaErrorECCUncorrectable})
    if (status == fault) return true;
  return false;
}

// p, or null where memory was missing; more than any machine has is an invalid value to some drivers.
void* allocated(cudaError_t status, void* p, const char* what) {
  if (status != cudaErrorMemoryAllocation && status != cudaErrorInvalidValue) {
    check(status, what);
    return p;
  }
  cudaGetLastError();
  return nullptr;
}

// An attribute of the GPU that serves.
int attribute(cudaDeviceAttr which) {
  int index = 0, value = 0;
  check(cudaGetDevice(&index), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&value, which, index), "cudaDeviceGetAttribute");
  return value;
}

}  // namespace

struct Captured {
  cudaGraphExec_t graph;
};

bool available() noexcept { return reason().empty(); }
const char* unavailable_reason() noexcept { return reason().c_str(); }

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // an error that is reported is over, unless the device itself is lost
  QFM_CHECK(available(), "cuda: ", what, ": ", reason());
  throw Error(failure(status, what), __FILE__, __LINE__);
}

std::string failure(cudaError_t status, const char* what) {
  std::string text =
      concat("cuda: ", what, ": ", cudaGetErrorString(status), " (", cudaGetErrorName(status), ")");
  if (is_fault(status) && !one_at_a_time())
    text += "; this or an earlier kernel failed, QFM_CUDA_SYNC=1 names it";
  if (status == cudaErrorNoKernelImageForDevice)
    text += "; this program was built for other GPUs, configure with -DQFM_CUDA_ARCHITECTURES=native";
  return text;
}

void select_device(int index) {
  QFM_CHECK(available(), reason());
  int count = 0;
  check(cudaGetDeviceCount(&count), "cudaGetDeviceCount");
  QFM_CHECK(index >= 0 && index<count, "no GPU ", index, ": this machine has number 0", count> 1
                ? concat(" to ", count - 1)
                : "",
            " only");
  check(cudaSetDevice(index), "cudaSetDevice");
}

std::string device_name() {
  int index = 0;
  cudaDeviceProp properties;
  check(cudaGetDevice(&index), "cudaGetDevice");
  check(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties");
  return properties.name;
}

// NVML comes with the driver and knows its release; the runtime only knows which CUDA it serves.
std::string driver_version() {
  if (void* nvml = ::dlopen("libnvidia-ml.so.1", RTLD_LAZY | RTLD_LOCAL)) {
    const auto init = reinterpret_cast<int (*)()>(::dlsym(nvml, "nvmlInit_v2"));
    const auto ask = reinterpret_cast<int (*)(char*, unsigned)>(::dlsym(nvml, "nvmlSystemGetDriverVersion"));
    char release[96] = "";
    if (init && ask && init() == 0 && ask(release, sizeof(release)) == 0) return release;
  }
  int serves = 0;
  check(cudaDriverGetVersion(&serves), "cudaDriverGetVersion");
  return "for CUDA " + version(serves);
}

bool keeps_time() noexcept { return available(); }

size_t shared_memory_limit() {
  static const int bytes = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  return static_cast<size_t>(bytes);
}
size_t l2_cache_bytes() { return static_cast<size_t>(attribute(cudaDevAttrL2CacheSize)); }

void* system_allocate(size_t bytes) {
  void* p = nullptr;
  if (!available()) return p;
  const cudaError_t status = cudaMalloc(&p, bytes);
  return allocated(status, p, "cudaMalloc");
}
void system_release(void* p) noexcept {
  if (cudaFree(p) != cudaSuccess) cudaGetLastError();
}
void* pinned_allocate(size_t bytes) {
  void* p = nullptr;
  if (!available()) return p;
  const cudaError_t status = cudaMallocHost(&p, bytes);
  return allocated(status, p, "cudaMallocHost");
}
void pinned_release(void* p) noexcept {
  if (cudaFreeHost(p) != cudaSuccess) cudaGetLastError();
}

// A blocking stream: it and the default stream (Cuda{} of a test) wait for each other.
void* compute_stream() {
  static cudaStream_t stream = [] {
    cudaStream_t s = nullptr;
    check(cudaStreamCreate(&s), "cudaStreamCreate");
    return s;
  }();
  return stream;
}

void copy_async(void* dst, const void* src, size_t bytes, void* stream) {
  check(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDefault, as_stream(stream)), "cudaMemcpyAsync");
}
void zero_async(void* dst, size_t bytes, void* stream) {
  check(cudaMemsetAsync(dst, 0, bytes, as_stream(stream)), "cudaMemsetAsync");
}
void copy(void* dst, const void* src, size_t bytes) {
  refuse_capture("copy");
  copy_async(dst, src, bytes, compute_stream());
  wait(as_stream(compute_stream()));
}
void synchronize() {
  refuse_capture("synchronize");
  wait(as_stream(compute_stream()));
}

Stream::Stream() : stream_(nullptr) {
  cudaStream_t s = nullptr;
  check(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  stream_ = s;
}
Stream::~Stream() {
  if (cudaStreamSynchronize(as_stream(stream_)) != cudaSuccess ||
      cudaStreamDestroy(as_stream(stream_)) != cudaSuccess)
    cudaGetLastError();
}

Event::Event(bool timed) : event_(nullptr) {
  cudaEvent_t e = nullptr;
  check(cudaEventCreateWithFlags(&e, timed ? cudaEventDefault : cudaEventDisableTiming),
        "cudaEventCreateWithFlags");
  event_ = e;
}
Event::~Event() {
  if (cudaEventDestroy(as_event(event_)) != cudaSuccess) cudaGetLastError();
}
void Event::record(void* stream) {
  refuse_capture("event");
  check(cudaEventRecord(as_event(event_), as_stream(stream)), "cudaEventRecord");
}
void Event::wait(void* stream) const {
  refuse_capture("event");
  check(cudaStreamWaitEvent(as_stream(stream), as_event(event_), 0), "cudaStreamWaitEvent");
}
void Event::synchronize() const {
  refuse_capture("event");
  check(cudaEventSynchronize(as_event(event_)), "cudaEventSynchronize");
}

double Event::milliseconds_since(const Event& start) const {
  synchronize();
  float ms = 0;
  check(cudaEventElapsedTime(&ms, as_event(start.event_), as_event(event_)), "cudaEventElapsedTime");
  return ms;
}

bool capturing() noexcept { return in_capture; }

// Relaxed: memory may be asked for while work is captured.
void begin_capture() {
  refuse_capture("begin_capture");
  check(cudaStreamBeginCapture(as_stream(compute_stream()), cudaStreamCaptureModeRelaxed),
        "cudaStreamBeginCapture");
  in_capture = true;
}

Captured* end_capture(bool keep) {
  in_capture = false;
  cudaGraph_t graph = nullptr;
  cudaError_t status = cudaStreamEndCapture(as_stream(compute_stream()), &graph);
  cudaGraphExec_t executable = nullptr;
  if (status == cudaSuccess && keep) status = cudaGraphInstantiate(&executable, graph, 0);
  if (graph) cudaGraphDestroy(graph);
  if (!keep) {
    cudaGetLastError();
    return nullptr;
  }
  check(status, "capture of a graph");
  return new Captured{executable};
}

void launch_captured(Captured* work) {
  refuse_capture("launch_captured");
  check(cudaGraphLaunch(work->graph, as_stream(compute_stream())), "cudaGraphLaunch");
}
void release_captured(Captured* work) noexcept {
  // A replay may still run, and its memory is about to be used by others.
  if (cudaStreamSynchronize(as_stream(compute_stream())) != cudaSuccess ||
      cudaGraphExecDestroy(work->graph) != cudaSuccess)
    cudaGetLastError();
  delete work;
}

void allow_shared_memory(const void* kernel, const char* signature, size_t bytes) {
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
        concat("shared memory of ", kernel_name(signature)).c_str());
}

void launch(const void* kernel, const char* signature, dim3 grid, dim3 block, size_t shared_bytes,
            void* stream, void** parameters) {
  cudaError_t status = cudaLaunchKernel(kernel, grid, block, parameters, shared_bytes, as_stream(stream));
  if (status == cudaSuccess && one_at_a_time() && !in_capture)
    status = cudaStreamSynchronize(as_stream(stream));
  if (status != cudaSuccess) check(status, concat("launch of ", kernel_name(signature)).c_str());
}

}  // namespace qfm::cuda
