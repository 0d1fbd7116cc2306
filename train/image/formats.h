// What decodes what: one row a format.
#pragma once
#include <span>
#include <string>
#include <string_view>

#include "train/image/decode/decoders.h"
#include "train/image/file_kind.h"

namespace qfm {

struct Format {
  FileKind kind;
  const char* name;
  decoders::Decoded (*decode)(const decoders::Source&);  // null: not built in
  const char* library;
  // Where it is not built in: CMake's option for it, if there is one, and a program that makes such a file readable.
  const char *option, *converter;
  std::string_view extensions;  // lower case, each after a point
};

std::span<const Format> formats();
// The row of a kind; of Other one without decoder.
const Format& format_of(FileKind kind);
// "JPEG, PNG, GIF, BMP, PNM or TGA": what this build reads.
std::string readable_formats();
// "JPEG (libjpeg-turbo), PNG (stb), ...; colour profiles (lcms2); without WebP (-DQFM_WEBP=ON)"
std::string formats_text();

}  // namespace qfm
