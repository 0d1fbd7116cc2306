// What a file is by its first bytes, whatever its name.
#pragma once
#include <cstdint>
#include <span>
#include <string>

namespace qfm {

enum class FileKind { Other, Jpeg, Png, Bmp, Gif, Pnm, Tga, WebP, Heic, Avif, JpegXl, Tiff, Raw, Jpeg2000, Psd, Cr3, Raf };

// From at most the first 16 bytes. TGA has no mark of its own: Other; raw files of cameras are TIFF.
FileKind file_kind(std::span<const uint8_t> head);
// Of the file at `path`; Other where it cannot be read.
FileKind file_kind(const std::string& path);

}  // namespace qfm
