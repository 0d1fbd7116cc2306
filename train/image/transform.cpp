#include "train/image/transform.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "engine/base/error.h"
#include "engine/dispatch.h"

namespace qfm {
namespace {

constexpr int most_windows = 10, most_an_axis = 4;
constexpr int64_t most_pixels = int64_t{1} << 27, most_length = int64_t{1} << 28;

int grid_count(int length, int crop) { return std::clamp((length + crop - 1) / crop, 1, most_an_axis); }

// round(k * room / (n - 1)), halves up, in integers.
int grid_offset(int k, int n, int room) { return n == 1 ? 0 : (2 * k * room + n - 1) / (2 * (n - 1)); }

std::vector<CropWindow> grid(int width, int height, int crop) {
  int columns = grid_count(width, crop), rows = grid_count(height, crop);
  while (columns * rows > most_windows) --(columns > rows ? columns : rows);
  std::vector<CropWindow> windows;
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < columns; ++c)
      windows.push_back({grid_offset(c, columns, width - crop), grid_offset(r, rows, height - crop)});
  return windows;
}

}  // namespace

Crops parse_crops(const std::string& text) {
  if (text == "grid") return {Crops::Kind::Grid, most_windows};
  if (text == "center") return {Crops::Kind::Center, 1};
  constexpr std::string_view random = "random:";
  if (text.starts_with(random)) {
    int count = 0;
    const char* end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data() + random.size(), end, count);
    if (error == std::errc{} && rest == end && count >= 1 && count <= 1000)
      return {Crops::Kind::Random, count};
  }
  QFM_FAIL("crops are 'grid', 'center' or 'random:N' with N in 1..1000, not '", text, "'");
}

std::string name_of(const Crops& crops) {
  if (crops.kind == Crops::Kind::Grid) return "grid";
  return crops.kind == Crops::Kind::Center ? "center" : concat("random:", crops.count);
}

namespace {

struct ImageSize {
  int width, height;
  int64_t pixels() const { return int64_t{width} * height; }
};

ImageSize size_for_crops(const Image& image, const Resize& size, int crop) {
  const int64_t shorter = std::min(image.width, image.height), longer = std::max(image.width, image.height);
  QFM_CHECK(shorter > 0, "a picture without pixels");
  if (size.fixed())
    return {static_cast<int>(std::max<int64_t>(size.width, crop)), static_cast<int>(std::max<int64_t>(size.height, crop))};
  const int64_t side = size.side > 0 ? std::min(size.side, shorter) : shorter, to = std::max<int64_t>(side, crop),
                other = to * longer / shorter;
  QFM_CHECK(other <= most_length, image.width, "x", image.height, " pixels: too narrow to be brought up to ", crop);
  if (image.width <= image.height) return {static_cast<int>(to), static_cast<int>(other)};
  return {static_cast<int>(other), static_cast<int>(to)};
}

Image resize_to(Image image, ImageSize size, Resampling how) {
  if (size.width == image.width && size.height == image.height) return image;
  return resize(image, size.width, size.height, how);
}

}  // namespace

Image fit_for_crops(Image image, const Resize& size, int crop, Resampling how) {
  const ImageSize fitted = size_for_crops(image, size, crop);
  QFM_CHECK(size.fixed() || fitted.pixels() <= std::max(most_pixels, int64_t{image.width} * image.height), image.width, "x",
            image.height, " pixels: too narrow to be brought up to ", crop, " as a whole");
  return resize_to(std::move(image), fitted, how);
}

CutPhoto cut_photo(Image photo, const Resize& size, int crop, const Crops& crops, const Rng& rng, Resampling how) {
  const ImageSize fitted = size_for_crops(photo, size, crop);
  auto windows = crop_windows(crops, fitted.width, fitted.height, crop, rng);
  const bool enlarged = fitted.width > photo.width && fitted.height > photo.height;
  if (!enlarged || fitted.pixels() <= static_cast<int64_t>(windows.size()) * crop * crop)
    return {resize_to(std::move(photo), fitted, how), windows, windows};
  CutPhoto cut{Image(crop, crop * static_cast<int>(windows.size())), std::move(windows), {}};
  uint8_t* to = cut.image.rgb.data();
  for (const CropWindow& w : cut.windows) {
    cut.places.push_back({0, crop * static_cast<int>(cut.places.size())});
    const Image part = resize_part(photo, fitted.width, fitted.height, {w.left, w.top, crop, crop}, how);
    to = std::copy(part.rgb.begin(), part.rgb.end(), to);
  }
  return cut;
}

std::vector<CropWindow> crop_windows(const Crops& crops, int width, int height, int crop, Rng rng) {
  QFM_CHECK(crop > 0 && width >= crop && height >= crop, "no window of ", crop, "x", crop, " fits into ",
            width, "x", height, " pixels");
  if (crops.kind == Crops::Kind::Grid) return grid(width, height, crop);
  if (crops.kind == Crops::Kind::Center) return {{(width - crop) / 2, (height - crop) / 2}};
  std::vector<CropWindow> windows;
  for (int i = 0; i < crops.count; ++i) {
    const auto top = static_cast<int>(rng.below(static_cast<uint32_t>(height - crop + 1)));
    const auto left = static_cast<int>(rng.below(static_cast<uint32_t>(width - crop + 1)));
    windows.push_back({left, top});
  }
  return windows;
}

namespace {

ChannelScale channel_scale(const Normalisation& norm) {
  return {{norm.mean[0], norm.mean[1], norm.mean[2]}, {norm.std[0], norm.std[1], norm.std[2]}};
}

}  // namespace

void cut_crops(const Tensor& images, const CropSource* sources, const Normalisation& norm) {
  const ChannelScale scale = channel_scale(norm);
  dispatch({"crop_normalise", 0, static_cast<double>(images.bytes())}, images, [&](auto dev, auto t) {
    crop_normalise(dev, ptr<decltype(t)>(images), sources, scale, images.dim(0), images.dim(3));
  });
}

void normalise(float* out, const Image& image, CropWindow window, int crop, bool mirror,
               const Normalisation& norm) {
  QFM_CHECK(window.left >= 0 && window.top >= 0 && window.left <= image.width - crop &&
                window.top <= image.height - crop,
            "window at ", window.left, ",", window.top, " leaves the picture");
  const CropSource source{image.rgb.data(), image.width, image.height, window.left, window.top, mirror};
  crop_normalise(Cpu{}, out, &source, channel_scale(norm), 1, crop);
}

}  // namespace qfm
