#include "kernels/image/crops.h"

#include <array>

#include "engine/base/threads.h"

namespace qfm {

template <class T>
void crop_normalise(Cpu, T* out, const CropSource* sources, ChannelScale scale, int64_t batch, int64_t crop) {
  // Only 256 values a channel: a table gives the same numbers as the formula, faster.
  std::array<std::array<T, 256>, 3> table;
  for (size_t c = 0; c < 3; ++c)
    for (size_t v = 0; v < 256; ++v)
      table[c][v] = T((static_cast<float>(v) / 255.0f - scale.mean[c]) / scale.std[c]);
  const int64_t plane = crop * crop;
  parallel_for(batch, [&](int64_t b) {
    const CropSource& s = sources[b];
    T* to = out + b * 3 * plane;
    for (int64_t y = 0; y < crop; ++y) {
      const int64_t first = s.left + (s.mirror ? crop - 1 : 0);
      const uint8_t* pixel = s.pixels + 3 * ((s.top + y) * s.width + first);
      for (int64_t x = 0; x < crop; ++x, ++to, pixel += s.mirror ? -3 : 3) {
        to[0] = table[0][pixel[0]];
        to[plane] = table[1][pixel[1]];
        to[2 * plane] = table[2][pixel[2]];
      }
    }
  });
}

template void crop_normalise(Cpu, float*, const CropSource*, ChannelScale, int64_t, int64_t);
template void crop_normalise(Cpu, bf16*, const CropSource*, ChannelScale, int64_t, int64_t);
template void crop_normalise(Cpu, double*, const CropSource*, ChannelScale, int64_t, int64_t);

}  // namespace qfm
