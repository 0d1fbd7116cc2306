#include "tools/commands/map_image.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include "tools/cli/console.h"

namespace qfm {
namespace {

using Colour = std::array<double, 3>;

// Lightness rises evenly, blue to yellow.
Colour colour_at(double share) {
  constexpr std::array<Colour, 5> scale{
      {{10, 20, 90}, {60, 75, 125}, {125, 125, 125}, {190, 180, 100}, {255, 235, 60}}};
  const double at = std::clamp(share, 0.0, 1.0) * (scale.size() - 1);
  const size_t i = std::min(static_cast<size_t>(at), scale.size() - 2);
  Colour c;
  for (size_t k = 0; k < 3; ++k)
    c[k] = scale[i][k] + (at - static_cast<double>(i)) * (scale[i + 1][k] - scale[i][k]);
  return c;
}

// Of "0123456789-.", 3 x 5 cells each, rows from the top, the left cell in bit 2.
constexpr std::string_view kGlyphs = "0123456789-.";
constexpr uint8_t kCells[][5] = {{7, 5, 5, 5, 7}, {2, 6, 2, 2, 7}, {7, 1, 7, 4, 7}, {7, 1, 3, 1, 7},
                                 {5, 5, 7, 1, 1}, {7, 4, 7, 1, 7}, {7, 4, 7, 5, 7}, {7, 1, 2, 2, 2},
                                 {7, 5, 7, 5, 7}, {7, 5, 7, 1, 7}, {0, 0, 7, 0, 0}, {0, 0, 0, 0, 2}};

void fill(Image& image, int left, int top, int width, int height, const Colour& colour) {
  for (int y = std::max(0, top); y < std::min(image.height, top + height); ++y)
    for (int x = std::max(0, left); x < std::min(image.width, left + width); ++x)
      for (int k = 0; k < 3; ++k)
        image.row(y)[3 * x + k] = static_cast<uint8_t>(colour[static_cast<size_t>(k)]);
}

// Each cell cell x cell pixels; returns where the text ends.
int draw(Image& image, const std::string& text, int left, int top, int cell) {
  for (const char c : text) {
    const size_t glyph = kGlyphs.find(c);
    if (glyph == kGlyphs.npos) continue;
    for (int y = 0; y < 5; ++y)
      for (int x = 0; x < 3; ++x)
        if (kCells[glyph][y] >> (2 - x) & 1)
          fill(image, left + x * cell, top + y * cell, cell, cell, {255, 255, 255});
    left += 4 * cell;
  }
  return left;
}

void draw_legend(Image& image, double low, double high) {
  const int cell = std::max(2, std::min(image.width, image.height) / 200), bar = 40 * cell;
  const std::string from = format("%.1f", low), to = format("%.1f", high);
  const int text = static_cast<int>(from.size() + to.size()) * 4 * cell, height = 9 * cell,
            width = bar + text + 6 * cell;
  if (width > image.width || 2 * height > image.height) return;
  const int top = image.height - height;
  fill(image, 0, top, width, height, {0, 0, 0});
  const int begin = draw(image, from, 2 * cell, top + 2 * cell, cell) + cell;
  for (int x = 0; x < bar; ++x)
    fill(image, begin + x, top + 2 * cell, 1, 5 * cell, colour_at(static_cast<double>(x) / (bar - 1)));
  draw(image, to, begin + bar + 2 * cell, top + 2 * cell, cell);
}

// Where pixel `at` of `to` pixels lies between the centres of `from`.
struct Between {
  int first, second;
  float share;
  Between(int at, int to, int from) {
    const float place =
        std::clamp((static_cast<float>(at) + 0.5f) * static_cast<float>(from) / static_cast<float>(to) - 0.5f,
                   0.0f, static_cast<float>(from - 1));
    first = static_cast<int>(place), second = std::min(first + 1, from - 1),
    share = place - static_cast<float>(first);
  }
};

}  // namespace

Image map_over(const Image& photo, const QualityMap& map, double low, double high) {
  Image image(photo.width, photo.height);
  std::vector<Between> columns;
  for (int x = 0; x < photo.width; ++x) columns.emplace_back(x, photo.width, map.width);
  for (int y = 0; y < photo.height; ++y) {
    const Between row(y, photo.height, map.height);
    for (int x = 0; x < photo.width; ++x) {
      const Between& column = columns[static_cast<size_t>(x)];
      const auto across = [&](int r) {
        return map.at(column.first, r) + column.share * (map.at(column.second, r) - map.at(column.first, r));
      };
      const double value = across(row.first) + row.share * (across(row.second) - across(row.first));
      const Colour colour = colour_at(high > low ? (value - low) / (high - low) : 0.5);
      const uint8_t* p = photo.row(y) + 3 * x;
      const double gray = 0.299 * p[0] + 0.587 * p[1] + 0.114 * p[2];
      for (int k = 0; k < 3; ++k)
        image.row(y)[3 * x + k] =
            static_cast<uint8_t>(std::lround(0.35 * gray + 0.65 * colour[static_cast<size_t>(k)]));
    }
  }
  draw_legend(image, low, high);
  return image;
}

}  // namespace qfm
