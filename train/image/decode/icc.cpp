// Colours by their ICC profile to sRGB, by Little CMS.
#include <lcms2.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>

#include "train/image/decode/decoders.h"

namespace qfm::decoders {
namespace {

struct CloseProfile {
  void operator()(void* profile) const { cmsCloseProfile(profile); }
};
using Profile = std::unique_ptr<void, CloseProfile>;
struct DeleteTransform {
  void operator()(void* transform) const { cmsDeleteTransform(transform); }
};

cmsColorSpaceSignature space_of(Layout layout) {
  if (layout == Layout::Cmyk) return cmsSigCmykData;
  return layout == Layout::Gray || layout == Layout::GrayAlpha ? cmsSigGrayData : cmsSigRgbData;
}

cmsUInt32Number lcms_format(Layout layout) {
  switch (layout) {
    case Layout::Gray:
      return TYPE_GRAY_8;
    case Layout::GrayAlpha:
      return TYPE_GRAYA_8;
    case Layout::Rgb:
      return TYPE_RGB_8;
    case Layout::RgbAlpha:
      return TYPE_RGBA_8;
    case Layout::Cmyk:
      return TYPE_CMYK_8_REV;  // 255 is no ink
  }
  return 0;
}

// Whether the transform, of pixels of RGB with alpha or without, moves no colour by more than one level: sRGB under
// some name, as most profiles are.
bool changes_nothing(void* transform, size_t channels) {
  constexpr size_t side = 9;
  std::vector<uint8_t> from, to;
  for (size_t i = 0; i < side * side * side; ++i) {
    const std::array<size_t, 4> steps = {i % side, i / side % side, i / side / side, side - 1};
    for (size_t c = 0; c < channels; ++c) from.push_back(static_cast<uint8_t>(std::min<size_t>(255, 32 * steps[c])));
  }
  to = from;
  cmsDoTransform(transform, from.data(), to.data(), side * side * side);
  return std::ranges::equal(from, to, [](int a, int b) { return std::abs(a - b) <= 1; });
}

}  // namespace

void to_srgb(Decoded& photo) {
  if (photo.icc.empty()) return;
  const Profile from(cmsOpenProfileFromMem(photo.icc.data(), static_cast<cmsUInt32Number>(photo.icc.size())));
  if (!from || cmsGetColorSpace(from.get()) != space_of(photo.layout)) return;
  const Profile to(cmsCreate_sRGBProfile());
  const bool alpha = photo.layout == Layout::GrayAlpha || photo.layout == Layout::RgbAlpha;
  const Layout layout = alpha ? Layout::RgbAlpha : Layout::Rgb;
  const std::unique_ptr<void, DeleteTransform> transform(
      cmsCreateTransform(from.get(), lcms_format(photo.layout), to.get(), lcms_format(layout), INTENT_PERCEPTUAL,
                         alpha ? cmsFLAGS_COPY_ALPHA : 0));
  if (!transform) return;
  if (photo.layout == layout && changes_nothing(transform.get(), static_cast<size_t>(channels_of(layout)))) return;
  Decoded out(photo.width, photo.height, layout);
  out.orientation = photo.orientation;
  for (int y = 0; y < photo.height; ++y)
    cmsDoTransform(transform.get(), photo.row(y), out.row(y), static_cast<cmsUInt32Number>(photo.width));
  photo = std::move(out);
}

}  // namespace qfm::decoders
