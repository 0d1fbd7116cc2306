// Fibers: stacks that one OS thread switches between by hand (ucontext makes two system calls a switch; this
// makes none). ASan is told of every switch.
#pragma once
#include <cstddef>

namespace qfm {

// A set of equally large stacks with a guard page below each, mapped on demand and kept.
class FiberStacks {
 public:
  FiberStacks() = default;
  ~FiberStacks();
  FiberStacks(const FiberStacks&) = delete;
  FiberStacks& operator=(const FiberStacks&) = delete;
  // Makes room for n stacks; moves none that runs. Throws OutOfMemory.
  void reserve(size_t n);
  char* bottom(size_t i) const { return base_ + i * kStride + kGuard; }
  // Bytes of stack i: they end at different lines of the caches, which else all map to the same few.
  static constexpr size_t size(size_t i) { return kSize - i % 64 * 576; }
  bool holds(const void* p) const { return p >= base_ && p < base_ + count_ * kStride; }
  // After fibers were dropped in the middle of a function: forgets what ASan thinks lies on their stacks.
  void forget() const;

  static constexpr size_t kGuard = 4096, kSize = 252 << 10, kStride = kGuard + kSize;

 private:
  char* base_ = nullptr;
  size_t count_ = 0;
};

// A flow of control that is not running now.
struct Fiber {
  void* stack_pointer = nullptr;
  const void* bottom = nullptr;
  size_t size = 0;
  void* shadow = nullptr;  // ASan's

  // A new one that starts in entry(), which must not return, on the stack [bottom, bottom + size).
  static Fiber start(char* bottom, size_t size, void (*entry)());
  // First statement of entry: learns the stack of the flow that resumed it.
  static void entered(Fiber& from);
};

// Leaves the running flow in `from` and goes on with `to`; returns when it is switched back to. last: the
// running flow ends here and is never switched to again.
void switch_fiber(Fiber& from, Fiber& to, bool last = false);

}  // namespace qfm
