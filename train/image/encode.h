// From pixels to the bytes of a file.
#pragma once
#include <string>
#include <vector>

#include "train/image/image.h"

namespace qfm {

// Quality 1..100 (libjpeg's scale), chroma 4:2:0 (4:4:4 above quality 90 where stb writes it). Throws Error.
std::vector<uint8_t> encode_jpeg(const Image& image, int quality);
std::vector<uint8_t> encode_png(const Image& image);

// The extension picks the format: .png, .jpg or .jpeg (quality 95). Atomic. Throws Error "PATH: reason".
void write_image(const std::string& path, const Image& image);

}  // namespace qfm
