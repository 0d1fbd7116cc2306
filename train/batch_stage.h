// Batches on their way to a GPU: copied by a stream of their own while the step before still runs.
#pragma once
#include <cstdint>
#include <memory>

#include "engine/base/cuda.h"
#include "engine/base/memory.h"
#include "train/loader.h"

namespace qfm {

// Two slots, each of page-locked memory, device memory and events; a batch is put into one while the other is
// in use.
class BatchStage {
 public:
  bool empty() const { return put_ == taken_; }
  // Starts the copy of a batch and returns; at most two may be waiting. Throws OutOfMemory.
  void put(const Batch& batch);
  // The oldest batch put becomes `images` and `labels`, in the order of the compute stream.
  void take();

  Tensor images,
      labels;  // (B, 3, crop, crop) and (B), F32 on CUDA; at the same addresses as long as the shape stays

 private:
  struct Slot {
    std::unique_ptr<PinnedBuffer> host;  // images, then labels
    Tensor images, labels;
    cuda::Event copied, taken;
  };
  static void fit(Slot& slot, const Batch& batch);

  Slot slots_[2];
  uint64_t put_ = 0, taken_ = 0;
  cuda::Stream copies_;  // last: its end waits for its copies
};

}  // namespace qfm
