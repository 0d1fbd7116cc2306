// Batches on their way to a GPU: copied by a stream of their own while the step before still runs.
#pragma once
#include <cstdint>
#include <memory>

#include "engine/cuda/cuda.h"
#include "engine/memory/memory.h"
#include "train/objectives/batch.h"

namespace qfm {

// Two slots, each of page-locked memory, device memory and events; a batch is put into one while the other is
// in use.
class BatchUploader {
 public:
  // images in this type.
  explicit BatchUploader(DType dtype) : dtype_(dtype) {}
  bool empty() const { return put_ == taken_; }
  // Starts the copies of a batch and returns; no other may be waiting. Throws OutOfMemory.
  void put(const Batch& batch, HostInputs inputs);
  // The batch that was put becomes `images` and `inputs`, in the order of the compute stream: its pixels are
  // mirrored and normalised there.
  void acquire();

  // On CUDA, images (B, 3, crop, crop); at the same addresses as long as the shapes stay.
  Tensor images;
  HostInputs inputs;

 private:
  struct Slot {
    std::unique_ptr<PinnedBuffer> host;  // sources, pixels, then the inputs, without gaps
    Tensor sources, pixels;              // CropSource a row, as bytes; (B, crop, crop, 3), U8
    Normalisation norm;
    HostInputs inputs;
    cuda::Event copied, taken;
    std::vector<Tensor> tensors() const;
  };
  static void fit(Slot& slot, const Tensor& pixels, HostInputs inputs);

  const DType dtype_;
  Slot slots_[2];
  uint64_t put_ = 0, taken_ = 0;
  cuda::Stream copies_;  // last: its end waits for its copies
};

}  // namespace qfm
