#include "train/batch_stage.h"

#include <cstring>

namespace qfm {
namespace {

std::vector<Tensor> tensors_of(const Tensor& images, StepInputs inputs) {
  std::vector<Tensor> all{images};
  for (const Tensor* t : inputs.tensors()) all.push_back(*t);
  return all;
}

bool alike(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Tensor& x, const Tensor& y) {
    return x.shape() == y.shape() && x.dtype() == y.dtype();
  });
}

// New tensors of the same shapes on CUDA.
Tensor room_for(const Tensor& x) { return Tensor(x.shape(), x.dtype(), cuda_device); }
StepInputs room_for(StepInputs inputs) {
  for (Tensor* t : inputs.tensors()) *t = room_for(*t);
  return inputs;
}

}  // namespace

void BatchStage::fit(Slot& slot, const Tensor& images, StepInputs inputs) {
  const auto wanted = tensors_of(images, inputs);
  if (slot.host && alike(wanted, tensors_of(slot.images, slot.inputs))) return;
  size_t bytes = 0;
  for (const Tensor& t : wanted) bytes += t.bytes();
  slot.host.reset();  // nothing fits until all is there
  slot.images = room_for(images), slot.inputs = room_for(std::move(inputs));
  slot.host = std::make_unique<PinnedBuffer>(bytes);
  slot.taken.record(cuda::compute_stream());  // whoever had this memory before is done with it
}

void BatchStage::put(const Batch& batch, StepInputs inputs) {
  QFM_CHECK(empty(), "stage: a batch is waiting already");
  Slot& slot = slots_[put_ % 2];
  slot.copied.synchronize();  // the page-locked memory has been read
  fit(slot, batch.images, inputs);
  slot.taken.wait(copies_.get());
  char* host = slot.host->as<char>();
  const auto from = tensors_of(batch.images, std::move(inputs)), to = tensors_of(slot.images, slot.inputs);
  for (size_t i = 0; i < from.size(); host += from[i].bytes(), ++i) {
    std::memcpy(host, from[i].raw(), from[i].bytes());
    cuda::copy_async(to[i].raw(), host, to[i].bytes(), copies_.get());
  }
  slot.copied.record(copies_.get());
  ++put_;
}

void BatchStage::take() {
  QFM_CHECK(!empty(), "stage: no batch is waiting");
  Slot& slot = slots_[taken_ % 2];
  const auto from = tensors_of(slot.images, slot.inputs);
  if (images.empty() || !alike(from, tensors_of(images, inputs)))
    images = room_for(slot.images), inputs = room_for(slot.inputs);
  const auto to = tensors_of(images, inputs);
  slot.copied.wait(cuda::compute_stream());
  for (size_t i = 0; i < from.size(); ++i) to[i].copy_from(from[i]);
  slot.taken.record(cuda::compute_stream());
  ++taken_;
}

}  // namespace qfm
