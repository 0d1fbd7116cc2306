// What the compiler calls at every memory access of a file compiled with -fsanitize=thread: here the kernels
// of a QFM_RACE build, linked with these functions in place of ThreadSanitizer.
#include "engine/cuda/host/block.h"

namespace {

using qfm::host_cuda::running_block;

void note(const void* p, size_t bytes, bool write, const void* return_address) {
  if (running_block) running_block->access(p, bytes, write, qfm::host_cuda::site_of(return_address));
}

}  // namespace

extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_read(void**) {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_read_range(void* p, size_t n) { note(p, n, false, __builtin_return_address(0)); }
void __tsan_write_range(void* p, size_t n) { note(p, n, true, __builtin_return_address(0)); }

#define QFM_ACCESS(n)                                                                        \
  void __tsan_read##n(void* p) { note(p, n, false, __builtin_return_address(0)); }           \
  void __tsan_write##n(void* p) { note(p, n, true, __builtin_return_address(0)); }           \
  void __tsan_unaligned_read##n(void* p) { note(p, n, false, __builtin_return_address(0)); } \
  void __tsan_unaligned_write##n(void* p) { note(p, n, true, __builtin_return_address(0)); } \
  void __tsan_volatile_read##n(void* p) { note(p, n, false, __builtin_return_address(0)); }  \
  void __tsan_volatile_write##n(void* p) { note(p, n, true, __builtin_return_address(0)); }
QFM_ACCESS(1)
QFM_ACCESS(2)
QFM_ACCESS(4)
QFM_ACCESS(8)
QFM_ACCESS(16)
#undef QFM_ACCESS

// Reference counts of the host's own code in these files; host-CUDA has no atomics for kernels.
int __tsan_atomic32_fetch_add(volatile int* p, int v, int) {
  return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST);
}
char __tsan_atomic8_load(const volatile char* p, int) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }

}  // extern "C"
