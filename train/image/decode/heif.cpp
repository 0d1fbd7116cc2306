// HEIC and AVIF by libheif, which turns, mirrors and cuts pictures as their file asks: EXIF's orientation only repeats
// that.
#include <libheif/heif.h>

#include <algorithm>
#include <memory>
#include <new>
#include <string>

#include "train/image/decode/decoders.h"
#include "train/image/decode/hevc.h"

namespace qfm::decoders {
namespace {

template <class T, auto release>
struct HeifDeleter {
  void operator()(T* object) const { release(object); }
};
template <class T, auto release>
using HeifOwner = std::unique_ptr<T, HeifDeleter<T, release>>;

void check_heif(const Source& source, const heif_error& error) {
  if (error.code == heif_error_Ok) return;
  if (error.subcode == heif_suberror_End_of_data) source.truncated();
  if (error.code == heif_error_Memory_allocation_error && error.subcode == heif_suberror_Unspecified)
    throw std::bad_alloc();
  std::string why = error.message;
  std::ranges::replace(why, '\n', ' ');
  source.corrupt(why);
}

}  // namespace

Decoded decode_heif(const Source& source) {
  register_hevc_decoder();
  const HeifOwner<heif_context, heif_context_free> file(heif_context_alloc());
  check_heif(source,
             heif_context_read_from_memory_without_copy(file.get(), source.bytes.data(), source.bytes.size(), nullptr));
  heif_image_handle* found = nullptr;
  check_heif(source, heif_context_get_primary_image_handle(file.get(), &found));
  const HeifOwner<heif_image_handle, heif_image_handle_release> handle(found);
  const int width = heif_image_handle_get_width(found), height = heif_image_handle_get_height(found);
  source.check_size(width, height);

  const bool alpha = heif_image_handle_has_alpha_channel(found);
  const HeifOwner<heif_decoding_options, heif_decoding_options_free> how(heif_decoding_options_alloc());
  how->convert_hdr_to_8bit = 1;
  how->strict_decoding = 1;
  heif_image* decoded = nullptr;
  check_heif(source, heif_decode_image(found, &decoded, heif_colorspace_RGB,
                                       alpha ? heif_chroma_interleaved_RGBA : heif_chroma_interleaved_RGB, how.get()));
  const HeifOwner<heif_image, heif_image_release> image(decoded);
  if (heif_image_get_primary_width(decoded) != width || heif_image_get_primary_height(decoded) != height)
    source.corrupt("two different sizes");
  int stride = 0;
  const uint8_t* from = heif_image_get_plane_readonly(decoded, heif_channel_interleaved, &stride);
  Decoded out(width, height, alpha ? Layout::RgbAlpha : Layout::Rgb);
  for (int y = 0; y < height; ++y, from += stride) std::copy_n(from, out.stride(), out.row(y));
  if (alpha && heif_image_handle_is_premultiplied_alpha(found)) unmultiply(out.pixels);
  if (const size_t size = heif_image_handle_get_raw_color_profile_size(found)) {
    out.icc.resize(size);
    check_heif(source, heif_image_handle_get_raw_color_profile(found, out.icc.data()));
  }
  return out;
}

}  // namespace qfm::decoders
