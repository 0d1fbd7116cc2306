#include "train/batch_stage.h"

#include <cstring>

namespace qfm {

void BatchStage::fit(Slot& slot, const Batch& batch) {
  if (slot.host && slot.images.shape() == batch.images.shape()) return;
  Tensor images(batch.images.shape(), DType::F32, cuda_device),
      labels(batch.labels.shape(), DType::F32, cuda_device);
  slot.host = std::make_unique<PinnedBuffer>(images.bytes() + labels.bytes());
  slot.images = images, slot.labels = labels;
  slot.taken.record(cuda::compute_stream());  // whoever had this memory before is done with it
}

void BatchStage::put(const Batch& batch) {
  QFM_CHECK(put_ - taken_ < 2, "stage: two batches are waiting already");
  Slot& slot = slots_[put_ % 2];
  slot.copied.synchronize();  // the page-locked memory has been read
  fit(slot, batch);
  char* host = slot.host->as<char>();
  std::memcpy(host, batch.images.raw(), batch.images.bytes());
  std::memcpy(host + batch.images.bytes(), batch.labels.raw(), batch.labels.bytes());
  slot.taken.wait(copies_.get());
  cuda::copy_async(slot.images.raw(), host, slot.images.bytes(), copies_.get());
  cuda::copy_async(slot.labels.raw(), host + slot.images.bytes(), slot.labels.bytes(), copies_.get());
  slot.copied.record(copies_.get());
  ++put_;
}

void BatchStage::take() {
  QFM_CHECK(!empty(), "stage: no batch is waiting");
  Slot& slot = slots_[taken_ % 2];
  if (images.empty() || !(images.shape() == slot.images.shape()))
    images = like(slot.images), labels = like(slot.labels);
  slot.copied.wait(cuda::compute_stream());
  images.copy_from(slot.images), labels.copy_from(slot.labels);
  slot.taken.record(cuda::compute_stream());
  ++taken_;
}

}  // namespace qfm
