#include "engine/cuda/host/fiber.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>

#include "engine/base/error.h"

#ifndef __x86_64__
#error "host-CUDA switches fibers by x86-64 assembly: build with -DQFM_CUDA=off or device"
#endif

#ifdef QFM_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// The calling convention lets a call destroy every register but these six, so nothing else needs to be kept.
// A jump, not ret: the processor would predict that ret goes back to the last caller.
extern "C" void qfm_switch_stack(void** save, void* load);
asm(R"(
.text
.type qfm_switch_stack, @function
qfm_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  popq %rcx
  jmp *%rcx
.size qfm_switch_stack, .-qfm_switch_stack
)");

namespace qfm {

FiberStacks::~FiberStacks() {
  if (base_) munmap(base_, count_ * kStride);
}

void FiberStacks::reserve(size_t n) {
  if (n <= count_) return;
  void* p =
      mmap(nullptr, n * kStride, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED)
    throw OutOfMemory(concat("host-CUDA: no memory for ", n, " stacks of threads"), __FILE__, __LINE__);
  if (base_) munmap(base_, count_ * kStride);
  base_ = static_cast<char*>(p), count_ = n;
  for (size_t i = 0; i < n; ++i) mprotect(base_ + i * kStride, kGuard, PROT_NONE);
  forget();
}

void FiberStacks::forget() const {
#ifdef QFM_ASAN
  for (size_t i = 0; i < count_; ++i) __asan_unpoison_memory_region(bottom(i), kSize);
#endif
}

Fiber Fiber::start(char* bottom, size_t size, void (*entry)()) {
  // What qfm_switch_stack pops: six registers and where to return; above it 8 bytes that keep the alignment
  // of a call.
  auto* top = reinterpret_cast<uint64_t*>(bottom + size) - 8;
  std::fill(top, top + 8, 0);
  top[6] = reinterpret_cast<uint64_t>(entry);
  Fiber f;
  f.stack_pointer = top, f.bottom = bottom, f.size = size;
  return f;
}

void Fiber::entered([[maybe_unused]] Fiber& from) {
#ifdef QFM_ASAN
  __sanitizer_finish_switch_fiber(nullptr, &from.bottom, &from.size);
#endif
}

void switch_fiber(Fiber& from, Fiber& to, [[maybe_unused]] bool last) {
#ifdef QFM_ASAN
  __sanitizer_start_switch_fiber(last ? nullptr : &from.shadow, to.bottom, to.size);
#endif
  qfm_switch_stack(&from.stack_pointer, to.stack_pointer);
#ifdef QFM_ASAN
  __sanitizer_finish_switch_fiber(from.shadow, nullptr, nullptr);
#endif
}

}  // namespace qfm
