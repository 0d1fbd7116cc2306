// Tags of TIFF directories, where EXIF and camera raw files keep what they say of a photo.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>

namespace qfm {

// Numbers of a TIFF block in its own byte order; 0 outside of the block.
struct TiffTags {
  static constexpr uint32_t text_type = 2, short_type = 3, long_type = 4, directory_type = 13;

  std::span<const uint8_t> bytes;
  bool big_endian;

  // Nothing where the block does not begin as TIFF does.
  static std::optional<TiffTags> of(std::span<const uint8_t> block) {
    if (block.size() < 8 || block[0] != block[1] || (block[0] != 'I' && block[0] != 'M')) return std::nullopt;
    const TiffTags tiff{block, block[0] == 'M'};
    return tiff.number(2, 2) == 42 ? std::optional(tiff) : std::nullopt;
  }

  uint32_t number(size_t at, size_t size) const {
    uint32_t value = 0;
    if (at > bytes.size() || size > bytes.size() - at) return 0;
    for (size_t i = 0; i < size; ++i) value = value << 8 | bytes[big_endian ? at + i : at + size - 1 - i];
    return value;
  }
  size_t first_directory() const { return number(4, 4); }
  // Of the directory behind this one; 0: none.
  size_t next_directory(size_t directory) const { return number(directory + 2 + size_t{12} * number(directory, 2), 4); }

  // Where the directory's first entry of this tag lies that is of one of these types.
  std::optional<size_t> entry(size_t directory, uint32_t tag, std::initializer_list<uint32_t> types) const {
    const uint32_t entries = number(directory, 2);
    for (uint32_t i = 0; i < entries; ++i) {
      const size_t at = directory + 2 + size_t{12} * i;
      if (number(at, 2) == tag && std::ranges::count(types, number(at + 2, 2))) return at;
    }
    return std::nullopt;
  }
  // The first number of an entry, short or long, that is in the entry itself.
  std::optional<uint32_t> value(size_t directory, uint32_t tag) const {
    const auto at = entry(directory, tag, {short_type, long_type});
    if (!at) return std::nullopt;
    return number(*at + 8, number(*at + 2, 2) == short_type ? 2 : 4);
  }
};

}  // namespace qfm
