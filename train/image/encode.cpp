#include "train/image/encode.h"

#include <cstdlib>
#include <filesystem>

#include "engine/base/error.h"
#include "engine/base/io.h"

#define STBI_WRITE_NO_STDIO
#define STB_IMAGE_WRITE_STATIC
#define STB_IMAGE_WRITE_IMPLEMENTATION
#include <stb/stb_image_write.h>

namespace qfm {
namespace {

void append(void* to, void* data, int size) {
  const auto* bytes = static_cast<const uint8_t*>(data);
  auto& out = *static_cast<std::vector<uint8_t>*>(to);
  out.insert(out.end(), bytes, bytes + size);
}

}  // namespace

std::vector<uint8_t> encode_png(const Image& image) {
  std::vector<uint8_t> out;
  const int done = stbi_write_png_to_func(append, &out, image.width, image.height, 3, image.rgb.data(), 0);
  QFM_CHECK(done, "PNG encoder: ", image.width, "x", image.height, " pixels cannot be written");
  return out;
}

#if !QFM_WITH_JPEG_TURBO
std::vector<uint8_t> encode_jpeg(const Image& image, int quality) {
  QFM_CHECK(quality >= 1 && quality <= 100, "JPEG quality is ", quality, ", expected 1..100");
  std::vector<uint8_t> out;
  const int done =
      stbi_write_jpg_to_func(append, &out, image.width, image.height, 3, image.rgb.data(), quality);
  QFM_CHECK(done, "JPEG encoder: ", image.width, "x", image.height, " pixels cannot be written");
  return out;
}
#endif

void write_image(const std::string& path, const Image& image) {
  const auto extension = std::filesystem::path(path).extension();
  const bool jpeg = extension == ".jpg" || extension == ".jpeg";
  QFM_CHECK(jpeg || extension == ".png", path, ": pictures are written as .png, .jpg or .jpeg");
  const auto bytes = jpeg ? encode_jpeg(image, 95) : encode_png(image);
  AtomicFile file(path);
  file.write(bytes.data(), bytes.size());
  file.commit();
}

}  // namespace qfm
