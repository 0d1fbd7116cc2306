// HEVC for libheif, by libde265 as libheif calls it, but with its damage told: libde265 conceals what it cannot decode,
// and what a picture leaves out is memory that nothing was written to.
#include "train/image/decode/hevc.h"

#include <libde265/de265.h>
#include <libheif/heif_plugin.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "engine/base/error.h"
#include "train/image/decode.h"

namespace qfm::decoders {
namespace {

constexpr heif_error kFine{heif_error_Ok, heif_suberror_Unspecified, "Success"};
constexpr heif_error kDamaged{heif_error_Decoder_plugin_error, heif_suberror_Unspecified, "damaged picture data"};
constexpr heif_error kCut{heif_error_Decoder_plugin_error, heif_suberror_End_of_data, "picture data ends too early"};
constexpr heif_error kOther{heif_error_Unsupported_feature, heif_suberror_Unspecified,
                            "this kind of HEVC is not supported"};

// Memory filled with numbers that no picture has, so that blocks that are never decoded show.
struct Plane {
  size_t stride, height;  // in bytes
  std::unique_ptr<uint32_t, void (*)(void*)> words{nullptr, std::free};

  static uint32_t filling(size_t word) { return static_cast<uint32_t>(word) * 2654435761u; }
  Plane(size_t s, size_t h) : stride(s), height(h) {
    constexpr size_t alignment = 64, beyond = 64;  // vector code reads a little further
    const size_t bytes = (stride * height + beyond + alignment - 1) / alignment * alignment;
    words.reset(static_cast<uint32_t*>(std::aligned_alloc(alignment, bytes)));
    for (size_t i = 0; words && i < bytes / 4; ++i) words.get()[i] = filling(i);
  }
  // Whether four bytes of each of four rows are as they were filled.
  bool untouched(size_t x, size_t y) const {
    for (size_t row = y; row < std::min(y + 4, height); ++row) {
      const size_t word = (row * stride + x) / 4;
      if (words.get()[word] != filling(word)) return false;
    }
    return true;
  }
};

int get_planes(de265_decoder_context*, de265_image_spec* spec, de265_image* image, void* decoder) {
  // The stream's own claim, which may be larger than that of the container.
  if (int64_t{spec->width} * spec->height > DecodeOptions{}.max_pixels) return 0;
  const bool halved_x = spec->format == de265_image_format_YUV420P8 || spec->format == de265_image_format_YUV422P8;
  const bool halved_y = spec->format == de265_image_format_YUV420P8;
  for (int c = 0; c < (spec->format == de265_image_format_mono8 ? 1 : 3); ++c) {
    const int width = c > 0 && halved_x ? (spec->width + 1) / 2 : spec->width;
    const int height = c > 0 && halved_y ? (spec->height + 1) / 2 : spec->height;
    const int stride = (width + spec->alignment - 1) / spec->alignment * spec->alignment *
                       (de265_get_bits_per_pixel(image, c) > 8 ? 2 : 1);
    auto plane = std::make_unique<Plane>(static_cast<size_t>(stride), static_cast<size_t>(height));
    uint32_t* memory = plane->words.get();
    de265_set_image_plane(image, c, memory, stride, memory ? plane.release() : nullptr);
    if (!memory) return 0;
  }
  de265_set_parameter_bool(decoder, DE265_DECODER_PARAM_DISABLE_SAO, 0);
  return 1;
}

void release_planes(de265_decoder_context*, de265_image* image, void*) {
  for (int c = 0; c < 3; ++c) delete static_cast<Plane*>(de265_get_image_plane_user_data(image, c));
}

// Blocks are decoded in squares of 16 samples or more. A neighbour's filter may reach into one that is not, at its end.
bool has_holes(const de265_image* image) {
  const auto* luma = static_cast<const Plane*>(de265_get_image_plane_user_data(image, 0));
  if (!luma) return true;
  const size_t block = de265_get_bits_per_pixel(image, 0) > 8 ? 32 : 16;
  for (size_t y = 0; y < luma->height; y += 16)
    for (size_t x = 0; x < luma->stride; x += block)
      if (luma->untouched(x, y)) return true;
  return false;
}

heif_error copy_plane(const de265_image* from, int c, heif_image* to) {
  constexpr heif_channel channels[] = {heif_channel_Y, heif_channel_Cb, heif_channel_Cr};
  const int width = de265_get_image_width(from, c), height = de265_get_image_height(from, c);
  const int bits = de265_get_bits_per_pixel(from, c);
  if (const heif_error error = heif_image_add_plane(to, channels[c], width, height, bits); error.code != heif_error_Ok)
    return error;
  int stride = 0, to_stride = 0;
  const uint8_t* row = de265_get_image_plane(from, c, &stride);
  uint8_t* to_row = heif_image_get_plane(to, channels[c], &to_stride);
  for (int y = 0; y < height; ++y, row += stride, to_row += to_stride)
    std::memcpy(to_row, row, static_cast<size_t>(width) * (bits > 8 ? 2 : 1));
  return kFine;
}

// What the stream says of its colours, for files whose container does not.
void copy_colours(const de265_image* from, heif_image* to) {
  const std::unique_ptr<heif_color_profile_nclx, void (*)(heif_color_profile_nclx*)> nclx(
      heif_nclx_color_profile_alloc(), heif_nclx_color_profile_free);
  const auto number = [](int value) { return static_cast<uint16_t>(value); };
  heif_nclx_color_profile_set_color_primaries(nclx.get(), number(de265_get_image_colour_primaries(from)));
  heif_nclx_color_profile_set_transfer_characteristics(nclx.get(),
                                                       number(de265_get_image_transfer_characteristics(from)));
  heif_nclx_color_profile_set_matrix_coefficients(nclx.get(), number(de265_get_image_matrix_coefficients(from)));
  nclx->full_range_flag = static_cast<uint8_t>(de265_get_image_full_range_flag(from));
  heif_image_set_nclx_color_profile(to, nclx.get());
}

heif_error copy_image(const de265_image* from, heif_image** to) {
  if (has_holes(from)) return kDamaged;
  const de265_chroma chroma = de265_get_chroma_format(from);
  const bool mono = chroma == de265_chroma_mono;
  heif_error error = heif_image_create(de265_get_image_width(from, 0), de265_get_image_height(from, 0),
                                       mono ? heif_colorspace_monochrome : heif_colorspace_YCbCr,
                                       static_cast<heif_chroma>(chroma), to);
  for (int c = 0; c < (mono ? 1 : 3) && error.code == heif_error_Ok; ++c) {
    if (de265_get_bits_per_pixel(from, c) != de265_get_bits_per_pixel(from, 0)) error = kOther;
    else error = copy_plane(from, c, *to);
  }
  if (error.code == heif_error_Ok) copy_colours(from, *to);
  return error;
}

heif_error new_decoder(void** decoder) {
  static de265_image_allocation planes{get_planes, release_planes};
  *decoder = de265_new_decoder();
  if (!*decoder) return {heif_error_Memory_allocation_error, heif_suberror_Unspecified, "out of memory"};
  de265_set_image_allocation_functions(*decoder, &planes, *decoder);
  // A picture that this filter goes over would get the library's own memory; get_planes switches it on again.
  de265_set_parameter_bool(*decoder, DE265_DECODER_PARAM_DISABLE_SAO, 1);
  return kFine;
}

// NAL units, each after its length.
heif_error push_data(void* decoder, const void* data, size_t size) {
  const auto* bytes = static_cast<const uint8_t*>(data);
  constexpr size_t length_bytes = 4;
  while (size > 0) {
    if (size < length_bytes) return kCut;
    const size_t length = size_t{bytes[0]} << 24 | size_t{bytes[1]} << 16 | size_t{bytes[2]} << 8 | bytes[3];
    if (length > size - length_bytes || length > INT32_MAX) return kCut;
    if (de265_push_NAL(decoder, bytes + length_bytes, static_cast<int>(length), 0, nullptr) != DE265_OK)
      return kDamaged;
    bytes += length_bytes + length;
    size -= length_bytes + length;
  }
  return kFine;
}

bool is_harmless(de265_error warning) {
  return warning == DE265_WARNING_NO_WPP_CANNOT_USE_MULTITHREADING ||
         warning == DE265_WARNING_SPS_MISSING_CANNOT_DECODE_SEI;
}

heif_error decode_picture(void* decoder, heif_image** out) {
  *out = nullptr;
  de265_flush_data(decoder);
  for (int more = 1; more;) {
    more = 0;
    if (de265_decode(decoder, &more) != DE265_OK) return kDamaged;
    for (de265_error warning; (warning = de265_get_warning(decoder)) != DE265_OK;)
      if (!is_harmless(warning)) return kDamaged;
    const de265_image* image = *out ? nullptr : de265_get_next_picture(decoder);
    if (!image) continue;
    if (const heif_error error = copy_image(image, out); error.code != heif_error_Ok) {
      heif_image_release(*out);
      *out = nullptr;
      return error;
    }
  }
  return *out ? kFine : kDamaged;
}

const heif_decoder_plugin kPlugin{
    3,
    [] { return "libde265, damage told"; },
    [] { de265_init(); },
    [] { de265_free(); },
    [](heif_compression_format format) { return format == heif_compression_HEVC ? 1000 : 0; },  // libheif's own has 100
    new_decoder,
    [](void* decoder) { de265_free_decoder(decoder); },
    push_data,
    decode_picture,
    [](void*, int) {},
    "libde265-strict"};

}  // namespace

void register_hevc_decoder() {
  static const heif_error once = heif_register_decoder_plugin(&kPlugin);
  QFM_CHECK(once.code == heif_error_Ok, "libheif: ", once.message);
}

}  // namespace qfm::decoders
