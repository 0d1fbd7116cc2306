// What a file is by its first bytes, whatever its name.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace qfm {

enum class FileKind { Other, Jpeg, Png, Bmp, Gif, Pnm, WebP, Heic, Avif, JpegXl, Tiff };

// From at most the first 16 bytes. TGA has no mark of its own: Other.
FileKind file_kind(std::span<const uint8_t> head);
// Of the file at `path`; Other where it cannot be read.
FileKind file_kind(const std::string& path);

bool is_readable(FileKind kind);          // decode_image has a decoder for it
std::string_view name_of(FileKind kind);  // "WebP"; "other"
std::string_view converter_of(FileKind kind);  // a program that makes a photo of it that can be read; "" for none

}  // namespace qfm
