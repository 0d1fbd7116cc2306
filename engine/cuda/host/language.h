// CUDA on the CPU: just enough of the language, under its own names, to compile kernels/*.cu as C++ and run
// them with no GPU, under sanitizers and gdb. Every CUDA thread is a fiber that runs until its next barrier
// or warp collective; the order of threads is shuffled, shared memory starts as NaN, cp.async lands late on
// even seeds, and what a GPU would leave undefined is an Error that names kernel, block, threads and source
// lines. A QFM_RACE build finds races too (race/detector.h). Not emulated: speed, overlap, weak memory order.
#pragma once
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <source_location>
#include <string>
#include <tuple>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
// The running fiber's.
inline constinit thread_local dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace qfm::host_cuda {

using Where = std::source_location;

// A kernel that this program can launch. Each lists itself before main, so that tests can ask
// which never ran.
struct Kernel {
  const char* signature;  // of a function, with "kernel = NAME" in it
  std::atomic<int64_t> launches = 0;
  Kernel* next;
  explicit Kernel(const char* its_signature);
};
template <auto kernel>
const char* signature() {
  return __PRETTY_FUNCTION__;
}
template <auto kernel>
inline Kernel registered{signature<kernel>()};
// Launches so far by the kernel's name with its template's arguments: "add_kernel<float, 4>".
std::map<std::string, int64_t> launches();

// A kernel call whose types are erased.
struct Launch {
  Kernel& kernel;
  dim3 grid, block;
  size_t shared_bytes;
  void (*call)(const void* arguments);
  const void* arguments;
};
// Runs all blocks, on the pool of threads, and returns when they are done. Throws Error for what a GPU would
// refuse (sizes) or leave undefined; the kernel's writes so far stay.
void run(const Launch& launch);
// Throws Error for a grid, a block or shared memory that a GPU would refuse.
void check_sizes(const Launch& launch);
// False: the stream does its work later, or a graph is being captured; queue() then keeps the arguments.
bool runs_at_once(void* stream);
void queue(const Launch& launch, void* stream, std::shared_ptr<const void> arguments);

// Seed of the orders in which blocks and threads run from now on. Results of a correct kernel do not depend
// on it.
void set_seed(uint64_t seed);

// What the macros and functions below stand on; called by a running kernel only.
void barrier(Where where);
// Waits for all lanes of mask. Ballot returns one bit per lane whose value is not 0, Shuffle the value of
// lane `source`. All lanes must ask for the same. Work is whole_warp's.
enum class Collective : uint8_t { Sync, Ballot, Shuffle, Work };
uint64_t collective(Collective what, uint32_t mask, uint64_t value, int source, Where where);
int lane();
// A collective of all 32 lanes, called in one place: the last to arrive calls work with what each brought.
using WarpWork = void(void* const (&lanes)[32]);
void whole_warp(WarpWork* work, void* mine, Where where);
[[noreturn]] void misaligned(const void* p, size_t bytes, Where where);
inline void check_aligned(const void* p, size_t bytes, Where where) {
  if (reinterpret_cast<uintptr_t>(p) % bytes != 0) misaligned(p, bytes, where);
}
// Software bodies of warp_ops.h.
void cp_async16(void* shared, const void* global, bool valid, Where where);
void cp_async_commit();
void cp_async_wait(int newest);
// 4 matrices, one register of r each.
void ldmatrix(uint32_t* r, bool transposed, const void* row, Where where);
void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Where where);
// The block's piece of static shared memory that belongs to `key`, and its dynamic shared memory.
void* static_shared(const void* key, const char* name, size_t bytes, Where where);
void* dynamic_shared();

template <class T>
T shuffle(uint32_t mask, T value, int source, Where where) {
  static_assert(std::is_trivially_copyable_v<T> && (sizeof(T) == 4 || sizeof(T) == 8));
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = collective(Collective::Shuffle, mask, bits, source, where);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

// Last parameter of a device function that waits for other lanes: its caller's line, for messages. Nothing on
// a GPU.
#define QFM_WHERE , ::qfm::host_cuda::Where where = ::qfm::host_cuda::Where::current()

template <class... Parameters>
std::tuple<Parameters...> parameters_of(void (*)(Parameters...));

}  // namespace qfm::host_cuda

// SHARED(float, tile, [32][33]): one array per block. Its address is looked up by a static that is its own in
// every instantiation of a template, as in CUDA.
#define SHARED(type, name, dims)                                                            \
  static const char name##_key = 0;                                                         \
  auto& name = *static_cast<std::add_pointer_t<type dims>>(::qfm::host_cuda::static_shared( \
      &name##_key, #name, sizeof(type dims), ::qfm::host_cuda::Where::current()))
// DYN_SHARED(float, tile): pointer to the shared_bytes of the launch.
#define DYN_SHARED(type, name) type* name = static_cast<type*>(::qfm::host_cuda::dynamic_shared())

inline void __syncthreads(qfm::host_cuda::Where where = qfm::host_cuda::Where::current()) {
  qfm::host_cuda::barrier(where);
}
inline void __syncwarp(uint32_t mask = 0xffffffffu,
                       qfm::host_cuda::Where where = qfm::host_cuda::Where::current()) {
  qfm::host_cuda::collective(qfm::host_cuda::Collective::Sync, mask, 0, 0, where);
}
inline uint32_t __ballot_sync(uint32_t mask, bool value,
                              qfm::host_cuda::Where where = qfm::host_cuda::Where::current()) {
  return static_cast<uint32_t>(
      qfm::host_cuda::collective(qfm::host_cuda::Collective::Ballot, mask, value, 0, where));
}
inline bool __any_sync(uint32_t mask, bool value,
                       qfm::host_cuda::Where where = qfm::host_cuda::Where::current()) {
  return __ballot_sync(mask, value, where) != 0;
}
inline bool __all_sync(uint32_t mask, bool value,
                       qfm::host_cuda::Where where = qfm::host_cuda::Where::current()) {
  return __ballot_sync(mask, value, where) == mask;
}

// Shuffles inside groups of `width` lanes; past the end of its group a lane gets its own value.
template <class T>
T __shfl_sync(uint32_t mask, T value, int source, int width = 32,
              qfm::host_cuda::Where where = qfm::host_cuda::Where::current()) {
  const int first = qfm::host_cuda::lane() & ~(width - 1);
  return qfm::host_cuda::shuffle(mask, value, first | (source & (width - 1)), where);
}
template <class T>
T __shfl_xor_sync(uint32_t mask, T value, int flip, int width = 32,
                  qfm::host_cuda::Where where = qfm::host_cuda::Where::current()) {
  const int lane = qfm::host_cuda::lane(), source = lane ^ flip;
  return qfm::host_cuda::shuffle(mask, value, source > (lane | (width - 1)) ? lane : source, where);
}
template <class T>
T __shfl_down_sync(uint32_t mask, T value, int delta, int width = 32,
                   qfm::host_cuda::Where where = qfm::host_cuda::Where::current()) {
  const int lane = qfm::host_cuda::lane(), source = lane + delta;
  return qfm::host_cuda::shuffle(mask, value, source > (lane | (width - 1)) ? lane : source, where);
}
template <class T>
T __shfl_up_sync(uint32_t mask, T value, int delta, int width = 32,
                 qfm::host_cuda::Where where = qfm::host_cuda::Where::current()) {
  const int lane = qfm::host_cuda::lane(), source = lane - delta;
  return qfm::host_cuda::shuffle(mask, value, source < (lane & ~(width - 1)) ? lane : source, where);
}

namespace qfm {

template <auto kernel, class... Arguments>
void launch(dim3 grid, dim3 block, size_t shared_bytes, void* stream, const Arguments&... arguments) {
  using Parameters = decltype(host_cuda::parameters_of(kernel));
  const Parameters parameters(arguments...);
  const host_cuda::Launch launch{
      host_cuda::registered<kernel>,
      grid,
      block,
      shared_bytes,
      [](const void* p) { std::apply(kernel, *static_cast<const Parameters*>(p)); },
      &parameters};
  if (host_cuda::runs_at_once(stream)) host_cuda::run(launch);
  else host_cuda::queue(launch, stream, std::make_shared<const Parameters>(parameters));
}

}  // namespace qfm
