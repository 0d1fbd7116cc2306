#include "train/loop/batch_uploader.h"

#include <cstring>

namespace qfm {
namespace {

std::vector<Tensor> tensors_of(HostInputs inputs, std::vector<Tensor> first) {
  for (const Tensor* t : inputs.tensors()) first.push_back(*t);
  return first;
}

bool alike(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Tensor& x, const Tensor& y) {
    return x.shape() == y.shape() && x.dtype() == y.dtype();
  });
}

// New tensors of the same shapes on CUDA.
Tensor room_for(const Tensor& x) { return Tensor(x.shape(), x.dtype(), cuda_device); }
HostInputs room_for(HostInputs inputs) {
  for (Tensor* t : inputs.tensors()) *t = room_for(*t);
  return inputs;
}

// As bytes; the pixels are at `where`.
Tensor sources_of(const Batch& batch, const Tensor& where) {
  const auto sources = batch.sources(where.data<uint8_t>());
  const Tensor bytes({static_cast<int64_t>(sources.size() * sizeof(CropSource))}, DType::U8);
  std::memcpy(bytes.raw(), sources.data(), bytes.bytes());
  return bytes;
}

}  // namespace

std::vector<Tensor> BatchUploader::Slot::tensors() const { return tensors_of(inputs, {sources, pixels}); }

void BatchUploader::fit(Slot& slot, const Tensor& pixels, HostInputs inputs) {
  const Tensor sources({pixels.dim(0) * int64_t{sizeof(CropSource)}}, DType::U8);
  const auto wanted = tensors_of(inputs, {sources, pixels});
  if (slot.host && alike(wanted, slot.tensors())) return;
  size_t bytes = 0;
  for (const Tensor& t : wanted) bytes += t.bytes();
  slot.host.reset();  // nothing fits until all is there
  slot.sources = room_for(sources), slot.pixels = room_for(pixels), slot.inputs = room_for(std::move(inputs));
  slot.host = std::make_unique<PinnedBuffer>(bytes);
  slot.taken.record(cuda::compute_stream());  // waits until the previous user of this memory has finished
}

void BatchUploader::put(const Batch& batch, HostInputs inputs) {
  QFM_CHECK(empty(), "stage: a batch is waiting already");
  Slot& slot = slots_[put_ % 2];
  slot.copied.synchronize();  // the page-locked memory has been read
  fit(slot, batch.pixels, inputs);
  slot.norm = batch.norm;
  slot.taken.wait(copies_.get());
  char* host = slot.host->as<char>();
  const auto from = tensors_of(std::move(inputs), {sources_of(batch, slot.pixels), batch.pixels}),
             to = slot.tensors();
  for (size_t i = 0; i < from.size(); host += from[i].bytes(), ++i) {
    std::memcpy(host, from[i].raw(), from[i].bytes());
    cuda::copy_async(to[i].raw(), host, to[i].bytes(), copies_.get());
  }
  slot.copied.record(copies_.get());
  ++put_;
}

void BatchUploader::acquire() {
  QFM_CHECK(!empty(), "stage: no batch is waiting");
  Slot& slot = slots_[taken_ % 2];
  const Tensor& pixels = slot.pixels;
  const Shape shape{pixels.dim(0), 3, pixels.dim(1), pixels.dim(2)};
  const auto from = tensors_of(slot.inputs, {});
  if (images.empty() || images.shape() != shape || !alike(from, tensors_of(inputs, {})))
    images = Tensor(shape, dtype_, cuda_device), inputs = room_for(slot.inputs);
  const auto to = tensors_of(inputs, {});
  slot.copied.wait(cuda::compute_stream());
  cut_crops(images, static_cast<const CropSource*>(slot.sources.raw()), slot.norm);
  for (size_t i = 0; i < from.size(); ++i) to[i].copy_from(from[i]);
  slot.taken.record(cuda::compute_stream());
  ++taken_;
}

}  // namespace qfm
