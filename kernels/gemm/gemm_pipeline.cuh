// How a block's part of A and B comes into shared memory while the part before it is multiplied. Included by
// products and convolutions.
//
// A block holds Tile::kStages slots, each one step of k (Tile::kDepth) of its rows of A and columns of B;
// while one slot is multiplied, the others are on their way. One barrier a step: past it the slot of the step
// before, which all have left, is filled anew.
#pragma once
#include "engine/cuda/warp_ops.h"
#include "kernels/gemm/gemm_tiling.cuh"

namespace qfm {

// A, or B transposed: `sides` by k elements, (i, p) at data[i * ld + p] if along_k, else at data[p * ld + i].
template <class T>
struct GemmOperand {
  const T* data;
  int64_t sides, ld;
  bool along_k;
};

// A thread's share of the copies that fill slots with rows i, i + 1, ... of an operand, step by step of k
// from p to `end`; zeros past the operand's sides and past `end`. In packs of 16 bytes by cp.async, for a
// matrix whose rows are whole packs; they lie in the slot as in the matrix. What does not change from step to
// step is worked out once: few instructions are left beside the copies.
template <class Slot, int kThreads, class T>
class PackFetcher {
 public:
  __device__ PackFetcher(const GemmOperand<T>& from, int64_t i, int64_t p, int64_t end) {
    const int line = threadIdx.x / kPacks, x = threadIdx.x % kPacks * kPack<T>;
    side_ = Slot::along_k ? line : x, depth_ = Slot::along_k ? x : line;
    sides_ = static_cast<int>(from.sides - i), depths_ = static_cast<int>(end - p);
    source_ =
        from.data + (Slot::along_k ? (i + side_) * from.ld + p + depth_ : (p + depth_) * from.ld + i + side_);
    copy_step_ = kLineStep * from.ld, step_ = Slot::along_k ? Slot::kDepth : Slot::kDepth * from.ld;
  }
  __device__ void next(T* slot) {
    const T* source = source_;
#pragma unroll
    for (int line = 0; line < kLines; line += kLineStep, source += copy_step_) {
      const int side = side_ + (Slot::along_k ? line : 0), depth = depth_ + (Slot::along_k ? 0 : line);
      cp_async16(slot + Slot::place(side, depth), source, side < sides_ && depth < depths_);
    }
    source_ += step_, depths_ -= Slot::kDepth;
  }
  __device__ void done() {}

 private:
  static constexpr int kLines = Slot::along_k ? Slot::kSide : Slot::kDepth;
  static constexpr int kPacks = (Slot::along_k ? Slot::kDepth : Slot::kSide) / kPack<T>;
  static constexpr int kLineStep = kThreads / kPacks;  // lines that all threads copy at a time
  static_assert(kThreads % kPacks == 0 && kLines % kLineStep == 0);
  const T* source_;
  int64_t copy_step_, step_;
  int side_, depth_, sides_, depths_;
};

// The same for any matrix, element by element.
template <class Slot, int kThreads, class T>
class ElementFetcher {
 public:
  __device__ ElementFetcher(const GemmOperand<T>& from, int64_t i, int64_t p, int64_t end)
      : from_(from), i_(i), p_(p), end_(end) {}
  __device__ void next(T* slot) {
    for (int at = threadIdx.x; at < Slot::kSide * Slot::kDepth; at += kThreads) {
      const int side = from_.along_k ? at / Slot::kDepth : at % Slot::kSide;
      const int depth = from_.along_k ? at % Slot::kDepth : at / Slot::kSide;
      const int64_t i = i_ + side, p = p_ + depth;
      const bool valid = i < from_.sides && p < end_;
      slot[Slot::place(side, depth)] =
          valid ? from_.data[from_.along_k ? i * from_.ld + p : p * from_.ld + i] : T(0.0f);
    }
    p_ += Slot::kDepth;
  }
  __device__ void done() {}

 private:
  GemmOperand<T> from_;
  int64_t i_, p_, end_;
};

// How a product's operands come: in packs, or element by element.
template <class Slot, int kThreads, bool in_packs, class T>
using Fetcher = std::conditional_t<in_packs, PackFetcher<Slot, kThreads, T>, ElementFetcher<Slot, kThreads, T>>;

// multiply(slot of A, slot of B) for every step of k, in order. When it returns all have left the slots. A
// fetcher's next(slot) begins to fill the slot of the next step, by copies or by loads to registers; done() is called
// after a multiplication and puts those into the slot.
template <class Tile, class SlotA, class SlotB, class T, class FetcherA, class FetcherB, class Multiply>
__device__ void for_steps(T* slots, FetcherA& next_a, FetcherB& next_b, int steps, Multiply&& multiply) {
  constexpr int kAhead = Tile::kStages - 1;
  const auto slot = [&](int step) {
    return slots + step % Tile::kStages * (SlotA::kElements + SlotB::kElements);
  };
  const auto fetch = [&](int step) {
    if (step < steps) {
      next_a.next(slot(step));
      next_b.next(slot(step) + SlotA::kElements);
    }
    cp_async_commit();  // past the end an empty one, so that the count of groups below holds
  };
  const auto done = [&](int step) {
    if (step < steps) next_a.done(), next_b.done();
  };
  for (int step = 0; step < kAhead; ++step) fetch(step), done(step);
  for (int step = 0; step < steps; ++step) {
    cp_async_wait<kAhead - 1>();
    __syncthreads();
    fetch(step + kAhead);
    multiply(slot(step), slot(step) + SlotA::kElements);
    done(step + kAhead);
  }
  cp_async_wait<0>();
  __syncthreads();
}

}  // namespace qfm
