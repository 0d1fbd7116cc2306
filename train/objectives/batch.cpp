#include "train/objectives/batch.h"

namespace qfm {

std::vector<CropSource> Batch::sources(const uint8_t* where) const {
  const auto height = static_cast<int32_t>(pixels.dim(1)), width = static_cast<int32_t>(pixels.dim(2));
  std::vector<CropSource> all;
  for (size_t i = 0; i < mirrored.size(); ++i)
    all.push_back({where + i * size_t{3} * static_cast<size_t>(height) * static_cast<size_t>(width), width,
                   height, 0, 0, mirrored[i]});
  return all;
}

}  // namespace qfm
