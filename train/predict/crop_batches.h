// A photo's windows as batches of images for a model, and its results back.
#pragma once
#include <vector>

#include "engine/param.h"
#include "train/image/transform.h"

namespace qfm {

constexpr size_t kMostCrops = 16;  // in one batch: bounds the memory of scoring

// A model's result as F32.
inline Tensor on_cpu(const Var& x) { return x.value.to(cpu_device).to(DType::F32); }

// The windows of one photo as batches, in the type and on the device of a model. On CUDA the photo goes there
// once, as it is, and a kernel cuts the crops from it.
class CropBatches {
 public:
  CropBatches(const Image& photo, const std::vector<CropWindow>& windows, int crop, const Normalisation& norm,
              const ParamSet& params)
      : photo_(photo), windows_(windows), crop_(crop), norm_(norm), params_(params) {
    if (device() != cpu_device) there_ = bytes_on_cuda(photo.rgb.data(), photo.rgb.size());
  }

  // Windows [begin, end).
  Tensor operator()(size_t begin, size_t end) const {
    const uint8_t* pixels = there_.empty() ? photo_.rgb.data() : there_.data<uint8_t>();
    std::vector<CropSource> sources;
    for (size_t i = begin; i < end; ++i)
      sources.push_back({pixels, photo_.width, photo_.height, windows_[i].left, windows_[i].top, 0});
    const Tensor images({static_cast<int64_t>(end - begin), 3, crop_, crop_}, params_.compute(), device());
    if (device() == cpu_device) {
      cut_crops(images, sources.data(), norm_);
    } else {
      const Tensor copied = bytes_on_cuda(sources.data(), sources.size() * sizeof(CropSource));
      cut_crops(images, static_cast<const CropSource*>(copied.raw()), norm_);
    }
    return images;
  }

 private:
  Device device() const { return params_.master.device(); }

  static Tensor bytes_on_cuda(const void* data, size_t bytes) {
    const Tensor there({static_cast<int64_t>(bytes)}, DType::U8, cuda_device);
    copy_bytes(cuda_device, there.raw(), cpu_device, data, bytes);
    return there;
  }

  const Image& photo_;
  const std::vector<CropWindow>& windows_;
  const int crop_;
  const Normalisation norm_;
  const ParamSet& params_;
  Tensor there_;  // the photo's pixels on CUDA
};

}  // namespace qfm
