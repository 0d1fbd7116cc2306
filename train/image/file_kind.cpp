#include "train/image/file_kind.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <string_view>

namespace qfm {
namespace {

using namespace std::string_view_literals;

constexpr size_t kHead = 16;

// ISO base media files say what they are by four letters.
FileKind kind_of_brand(std::string_view brand) {
  if (brand == "avif" || brand == "avis") return FileKind::Avif;
  for (const char* heif : {"heic", "heix", "hevc", "hevx", "heim", "heis", "mif1", "msf1"})
    if (brand == heif) return FileKind::Heic;
  return brand == "crx " ? FileKind::Cr3 : FileKind::Other;
}

}  // namespace

FileKind file_kind(std::span<const uint8_t> bytes) {
  const std::string_view head(reinterpret_cast<const char*>(bytes.data()), std::min(bytes.size(), kHead));
  if (head.starts_with("\xff\xd8\xff")) return FileKind::Jpeg;
  if (head.starts_with("\x89PNG\r\n\x1a\n")) return FileKind::Png;
  if (head.starts_with("GIF87a") || head.starts_with("GIF89a")) return FileKind::Gif;
  if (head.starts_with("BM") && head.size() > 14 && head[14] >= 12 && head[14] <= 124) return FileKind::Bmp;
  if ((head.starts_with("P5") || head.starts_with("P6")) && head.size() > 2 && " \t\r\n#"sv.find(head[2]) != head.npos)
    return FileKind::Pnm;
  if (head.starts_with("RIFF") && head.size() >= 12 && head.substr(8, 4) == "WEBP") return FileKind::WebP;
  if (head.size() >= 12 && head.substr(4, 4) == "ftyp") return kind_of_brand(head.substr(8, 4));
  if (head.starts_with("\xff\x0a") || head.starts_with("\0\0\0\x0cJXL "sv)) return FileKind::JpegXl;
  for (const auto tiff : {"II*\0"sv, "MM\0*"sv, "II+\0"sv, "MM\0+"sv})
    if (head.starts_with(tiff)) return FileKind::Tiff;
  if (head.starts_with("\0\0\0\x0cjP  "sv)) return FileKind::Jpeg2000;
  if (head.starts_with("8BPS")) return FileKind::Psd;
  if (head.starts_with("FUJIFILMCCD-RAW")) return FileKind::Raf;
  return FileKind::Other;
}

FileKind file_kind(const std::string& path) {
  std::array<uint8_t, kHead> head{};
  std::ifstream file(path, std::ios::binary);
  file.read(reinterpret_cast<char*>(head.data()), kHead);
  return file_kind(std::span(head).first(static_cast<size_t>(file.gcount())));
}

}  // namespace qfm
