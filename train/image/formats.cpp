#include "train/image/formats.h"

#include <algorithm>

namespace qfm {
namespace {

// In the order of messages.
constexpr Format kFormats[] = {
    {FileKind::Jpeg, "JPEG", decoders::decode_jpeg, QFM_WITH_JPEG_TURBO ? "libjpeg-turbo" : "stb", "", "", ".jpg.jpeg"},
    {FileKind::Png, "PNG", decoders::decode_png, QFM_WITH_PNG ? "libpng" : "stb", "", "", ".png"},
    {FileKind::WebP, "WebP", QFM_WITH_WEBP ? decoders::decode_webp : nullptr, "libwebp", "QFM_WEBP", "dwebp", ".webp"},
    {FileKind::Heic, "HEIC", QFM_WITH_HEIF ? decoders::decode_heif : nullptr, "libheif", "QFM_HEIF", "heif-convert",
     ".heic.heif"},
    {FileKind::Avif, "AVIF", QFM_WITH_HEIF ? decoders::decode_heif : nullptr, "libheif", "QFM_HEIF", "heif-convert",
     ".avif"},
    {FileKind::Tiff, "TIFF", QFM_WITH_TIFF ? decoders::decode_tiff : nullptr, "libtiff", "QFM_TIFF", "convert",
     ".tif.tiff"},
    {FileKind::Raw, "RAW", decoders::decode_raw, "the JPEG preview in it", "", "", ".cr2.nef.arw.dng.pef"},
    {FileKind::JpegXl, "JPEG XL", QFM_WITH_JXL ? decoders::decode_jxl : nullptr, "libjxl", "QFM_JXL", "djxl", ".jxl"},
    {FileKind::Gif, "GIF", decoders::decode_gif, QFM_WITH_GIF ? "giflib" : "stb", "", "", ".gif"},
    {FileKind::Bmp, "BMP", decoders::decode_bmp, "own", "", "", ".bmp"},
    {FileKind::Pnm, "PNM", decoders::decode_pnm, "own", "", "", ".pgm.ppm.pnm"},
    {FileKind::Tga, "TGA", decoders::decode_tga, "stb", "", "", ".tga"},
    {FileKind::Jpeg2000, "JPEG 2000", nullptr, "", "", "opj_decompress", ""},
    {FileKind::Psd, "PSD", nullptr, "", "", "convert", ""},
    {FileKind::Cr3, "CR3", nullptr, "", "", "exiftool -b -JpgFromRaw", ""},
    {FileKind::Raf, "RAF", nullptr, "", "", "exiftool -b -PreviewImage", ""},
};
constexpr Format kOther{FileKind::Other, "other", nullptr, "", "", "", ""};

}  // namespace

std::span<const Format> formats() { return kFormats; }

const Format& format_of(FileKind kind) {
  const auto row = std::ranges::find(kFormats, kind, &Format::kind);
  return row == std::end(kFormats) ? kOther : *row;
}

std::string readable_formats() {
  std::string text;
  for (const Format& format : kFormats)
    if (format.decode) text += concat(text.empty() ? "" : format.kind == FileKind::Tga ? " or " : ", ", format.name);
  return text;
}

std::string formats_text() {
  std::string text, without;
  for (const Format& format : kFormats) {
    if (format.decode) text += concat(text.empty() ? "" : ", ", format.name, " (", format.library, ")");
    else if (*format.option)
      without += concat(without.empty() ? "; without " : ", ", format.name, " (-D", format.option, "=ON)");
  }
  return text + (QFM_WITH_ICC ? "; colour profiles (lcms2)" : "") + without +
         (QFM_WITH_ICC ? "" : ", colour profiles (-DQFM_ICC=ON)");
}

}  // namespace qfm
