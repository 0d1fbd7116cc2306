#include "train/image/exif.h"

#include <algorithm>
#include <chrono>

#include "train/image/tiff_tags.h"

namespace qfm {
namespace {

constexpr uint32_t orientation_tag = 0x0112, directory_tag = 0x8769, taken_tag = 0x9003;
constexpr uint8_t prefix[] = {'E', 'x', 'i', 'f', 0, 0};

std::optional<TiffTags> tiff_of(std::span<const uint8_t> block) {
  if (std::ranges::equal(block.first(std::min(block.size(), sizeof(prefix))), prefix)) block = block.subspan(sizeof(prefix));
  return TiffTags::of(block);
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
  const uint32_t value = tiff->value(tiff->first_directory(), orientation_tag).value_or(1);
  return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
}

std::optional<int64_t> capture_time(std::span<const uint8_t> file) {
  constexpr size_t kReach = size_t{256} << 10, kLength = 19;
  auto tiff = TiffTags::of(file);
  if (!tiff) {
    const auto head = file.first(std::min(file.size(), kReach));
    const auto found = std::ranges::search(head, prefix);
    if (!found.empty()) tiff = tiff_of(file.subspan(static_cast<size_t>(found.begin() - head.begin())));
  }
  if (!tiff) return std::nullopt;
  const auto exif = tiff->value(tiff->first_directory(), directory_tag);
  if (!exif) return std::nullopt;
  const auto entry = tiff->entry(*exif, taken_tag, {TiffTags::text_type});
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
