// JPEG XL by libjxl, as djxl decodes it, turned as the file asks; of an animation the first frame.
#include <jxl/decode.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <mutex>
#include <new>

#include "train/image/decode/decoders.h"

namespace qfm::decoders {
namespace {

using Decoder = std::unique_ptr<JxlDecoder, void (*)(JxlDecoder*)>;

// While one lives, what its thread prints on stdio's stderr is dropped: some builds of libjxl (Debian 12's) tell there at
// length what they think of a damaged file.
class Quiet {
 public:
  Quiet() {
    static std::once_flag once;
    std::call_once(once, [] {
      cookie_io_functions_t functions{};
      functions.write = [](void*, const char* text, size_t size) {
        return quiet ? static_cast<ssize_t>(size) : ::write(STDERR_FILENO, text, size);
      };
      FILE* filtered = ::fopencookie(nullptr, "w", functions);
      if (!filtered) return;
      std::setvbuf(filtered, nullptr, _IONBF, 0);
      stderr = filtered;
    });
    quiet = true;
  }
  ~Quiet() { quiet = false; }
  Quiet(const Quiet&) = delete;
  Quiet& operator=(const Quiet&) = delete;

 private:
  static thread_local bool quiet;
};
thread_local bool Quiet::quiet = false;

// Decodes until `wanted` has come.
void advance(const Source& source, JxlDecoder* decoder, JxlDecoderStatus wanted) {
  const JxlDecoderStatus status = JxlDecoderProcessInput(decoder);
  if (status == wanted) return;
  if (status == JXL_DEC_NEED_MORE_INPUT) source.truncated();
  source.corrupt(status == JXL_DEC_ERROR ? "damaged picture data" : "no picture in it");
}

void refuse_cmyk(const Source& source, const JxlDecoder* decoder, const JxlBasicInfo& info) {
  for (uint32_t i = 0; i < info.num_extra_channels; ++i) {
    JxlExtraChannelInfo channel{};
    if (JxlDecoderGetExtraChannelInfo(decoder, i, &channel) == JXL_DEC_SUCCESS && channel.type == JXL_CHANNEL_BLACK)
      source.unsupported("CMYK");
  }
}

// Of the decoded pixels; empty where the file's colours have none.
std::vector<uint8_t> profile_of(const JxlDecoder* decoder) {
  size_t size = 0;
  if (JxlDecoderGetICCProfileSize(decoder, nullptr, JXL_COLOR_PROFILE_TARGET_DATA, &size) != JXL_DEC_SUCCESS) return {};
  std::vector<uint8_t> icc(size);
  if (JxlDecoderGetColorAsICCProfile(decoder, nullptr, JXL_COLOR_PROFILE_TARGET_DATA, icc.data(), size) != JXL_DEC_SUCCESS) return {};
  return icc;
}

}  // namespace

Decoded decode_jxl(const Source& source) {
  const Quiet quiet;
  const Decoder decoder(JxlDecoderCreate(nullptr), JxlDecoderDestroy);
  if (!decoder) throw std::bad_alloc();
  JxlDecoder* d = decoder.get();
  JxlDecoderSubscribeEvents(d, JXL_DEC_BASIC_INFO | JXL_DEC_COLOR_ENCODING | JXL_DEC_FULL_IMAGE);
  JxlDecoderSetUnpremultiplyAlpha(d, JXL_TRUE);
  JxlDecoderSetInput(d, source.bytes.data(), source.bytes.size());

  advance(source, d, JXL_DEC_BASIC_INFO);
  JxlBasicInfo info{};
  if (JxlDecoderGetBasicInfo(d, &info) != JXL_DEC_SUCCESS) source.corrupt("no size");
  source.check_size(info.xsize, info.ysize);
  refuse_cmyk(source, d, info);
  const bool gray = info.num_color_channels == 1, alpha = info.alpha_bits > 0;
  Decoded out(static_cast<int>(info.xsize), static_cast<int>(info.ysize),
              gray ? (alpha ? Layout::GrayAlpha : Layout::Gray) : (alpha ? Layout::RgbAlpha : Layout::Rgb));
  advance(source, d, JXL_DEC_COLOR_ENCODING);
  out.icc = profile_of(d);

  advance(source, d, JXL_DEC_NEED_IMAGE_OUT_BUFFER);
  const JxlPixelFormat format{static_cast<uint32_t>(channels_of(out.layout)), JXL_TYPE_UINT8, JXL_NATIVE_ENDIAN, 0};
  if (JxlDecoderSetImageOutBuffer(d, &format, out.pixels.data(), out.pixels.size()) != JXL_DEC_SUCCESS)
    source.corrupt("two different sizes");
  advance(source, d, JXL_DEC_FULL_IMAGE);
  return out;
}

}  // namespace qfm::decoders
