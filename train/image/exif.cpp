#include "train/image/exif.h"

#include <algorithm>
#include <chrono>
#include <initializer_list>

namespace qfm {
namespace {

// Numbers of a TIFF block in its own byte order; 0 outside of the block.
struct Tiff {
  std::span<const uint8_t> bytes;
  bool big_endian;

  uint32_t number(size_t at, size_t size) const {
    uint32_t value = 0;
    if (at > bytes.size() || size > bytes.size() - at) return 0;
    for (size_t i = 0; i < size; ++i) value = value << 8 | bytes[big_endian ? at + i : at + size - 1 - i];
    return value;
  }
};

constexpr uint32_t orientation_tag = 0x0112, directory_tag = 0x8769, taken_tag = 0x9003;
constexpr uint32_t text_type = 2, short_type = 3, long_type = 4;
constexpr uint8_t prefix[] = {'E', 'x', 'i', 'f', 0, 0};

std::optional<Tiff> tiff_of(std::span<const uint8_t> block) {
  if (std::ranges::equal(block.first(std::min(block.size(), sizeof(prefix))), prefix)) block = block.subspan(sizeof(prefix));
  if (block.size() < 8 || block[0] != block[1] || (block[0] != 'I' && block[0] != 'M')) return std::nullopt;
  const Tiff tiff{block, block[0] == 'M'};
  return tiff.number(2, 2) == 42 ? std::optional(tiff) : std::nullopt;
}

// Where the directory's first entry of this tag lies that is of one of these types.
std::optional<size_t> entry_of(const Tiff& tiff, size_t directory, uint32_t tag, std::initializer_list<uint32_t> types) {
  const uint32_t entries = tiff.number(directory, 2);
  for (uint32_t i = 0; i < entries; ++i) {
    const size_t entry = directory + 2 + size_t{12} * i;
    if (tiff.number(entry, 2) == tag && std::ranges::count(types, tiff.number(entry + 2, 2))) return entry;
  }
  return std::nullopt;
}

// "2024:05:17 09:03:59"
std::optional<int64_t> seconds_of(std::span<const uint8_t> text) {
  int field[6] = {};
  const int digits[] = {4, 2, 2, 2, 2, 2};
  size_t at = 0;
  for (int f = 0; f < 6; ++f, ++at)
    for (int d = 0; d < digits[f]; ++d, ++at) {
      if (at >= text.size() || text[at] < '0' || text[at] > '9') return std::nullopt;
      field[f] = 10 * field[f] + (text[at] - '0');
    }
  const std::chrono::year_month_day day{std::chrono::year(field[0]), std::chrono::month(static_cast<unsigned>(field[1])),
                                        std::chrono::day(static_cast<unsigned>(field[2]))};
  if (!day.ok() || field[3] > 23 || field[4] > 59 || field[5] > 60) return std::nullopt;
  const int64_t days = std::chrono::sys_days(day).time_since_epoch().count();
  return ((days * 24 + field[3]) * 60 + field[4]) * 60 + field[5];
}

}  // namespace

int exif_orientation(std::span<const uint8_t> block) {
  const auto tiff = tiff_of(block);
  if (!tiff) return 1;
  const auto entry = entry_of(*tiff, tiff->number(4, 4), orientation_tag, {short_type, long_type});
  if (!entry) return 1;
  const uint32_t value = tiff->number(*entry + 8, tiff->number(*entry + 2, 2) == long_type ? 4 : 2);
  return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
}

std::optional<int64_t> capture_time(std::span<const uint8_t> file) {
  constexpr size_t kReach = size_t{256} << 10, kLength = 19;
  const auto head = file.first(std::min(file.size(), kReach));
  const auto found = std::ranges::search(head, prefix);
  if (found.empty()) return std::nullopt;
  const auto tiff = tiff_of(file.subspan(static_cast<size_t>(found.begin() - head.begin())));
  if (!tiff) return std::nullopt;
  const auto exif = entry_of(*tiff, tiff->number(4, 4), directory_tag, {long_type});
  if (!exif) return std::nullopt;
  const auto entry = entry_of(*tiff, tiff->number(*exif + 8, 4), taken_tag, {text_type});
  if (!entry || tiff->number(*entry + 4, 4) < kLength) return std::nullopt;
  const size_t at = tiff->number(*entry + 8, 4);
  if (at > tiff->bytes.size() || tiff->bytes.size() - at < kLength) return std::nullopt;
  return seconds_of(tiff->bytes.subspan(at, kLength));
}

Image upright(Image stored, int orientation) {
  if (orientation <= 1 || orientation > 8) return stored;
  const ptrdiff_t w = stored.width, h = stored.height;
  // Where the upright image's first pixel is stored, and how far to go for one step right and one step down.
  const ptrdiff_t top_left = 0, top_right = w - 1, bottom_left = (h - 1) * w, bottom_right = w * h - 1;
  struct Walk {
    ptrdiff_t start, right, down;
  };
  const Walk walks[] = {{top_left, 1, w}, {top_right, -1, w},   {bottom_right, -1, -w}, {bottom_left, 1, -w},
                        {top_left, w, 1}, {bottom_left, -w, 1}, {bottom_right, -w, -1}, {top_right, w, -1}};
  const Walk walk = walks[orientation - 1];
  const bool swapped = orientation >= 5;
  Image out(swapped ? stored.height : stored.width, swapped ? stored.width : stored.height);
  for (int y = 0; y < out.height; ++y) {
    const uint8_t* from = stored.rgb.data() + 3 * (walk.start + walk.down * y);
    uint8_t* to = out.row(y);
    for (int x = 0; x < out.width; ++x, to += 3, from += 3 * walk.right) {
      to[0] = from[0];
      to[1] = from[1];
      to[2] = from[2];
    }
  }
  return out;
}

}  // namespace qfm
