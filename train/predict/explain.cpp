#include "train/predict/explain.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "layers/pointwise.h"
#include "layers/reduce.h"
#include "layers/shape.h"
#include "train/predict/crop_batches.h"

namespace qfm {
namespace {

constexpr int kSteps = 8;          // from the mosaic to the photo
constexpr size_t kEnough = 400;    // windows: those of a larger photo lie further apart, up to half a window

// Window positions along one side, at most `stride` apart, the first and the last at the ends.
std::vector<int> starts(int side, int crop, int stride) {
  const int n = (side - crop + stride - 1) / stride + 1;
  std::vector<int> all;
  for (int k = 0; k < n; ++k)
    all.push_back(n == 1 ? 0
                         : static_cast<int>(std::lround(static_cast<double>(k) * (side - crop) / (n - 1))));
  return all;
}

std::vector<CropWindow> covering_windows(int width, int height, int crop, int stride) {
  while (stride < crop / 2 && starts(width, crop, stride).size() * starts(height, crop, stride).size() > kEnough)
    ++stride;
  std::vector<CropWindow> windows;
  for (const int top : starts(height, crop, stride))
    for (const int left : starts(width, crop, stride)) windows.push_back({left, top});
  return windows;
}

// Overlapping windows to one map: each weighs most in its middle, nothing at its edge.
class Blend {
 public:
  Blend(int width, int height, int crop)
      : crop_(crop),
        sum_{width, height, std::vector<float>(static_cast<size_t>(width) * static_cast<size_t>(height))},
        weight_(sum_.values.size()) {
    for (int i = 0; i < crop; ++i)
      tent_.push_back(1 - std::abs(2 * (static_cast<float>(i) + 0.5f) / static_cast<float>(crop) - 1));
  }
  // value(x, y) for places of the window.
  template <class Value>
  void add(CropWindow window, Value value) {
    for (int y = 0; y < crop_; ++y) {
      const size_t row = static_cast<size_t>(window.top + y) * static_cast<size_t>(sum_.width) +
                         static_cast<size_t>(window.left);
      for (int x = 0; x < crop_; ++x) {
        const size_t at = row + static_cast<size_t>(x);
        const float w = tent_[static_cast<size_t>(x)] * tent_[static_cast<size_t>(y)];
        sum_.values[at] += w * value(x, y), weight_[at] += w;
      }
    }
  }
  QualityMap take() {
    for (size_t i = 0; i < weight_.size(); ++i) sum_.values[i] /= weight_[i];
    return std::move(sum_);
  }

 private:
  const int crop_;
  QualityMap sum_;
  std::vector<float> weight_, tent_;
};

// A value of each token, read between their centres.
struct TokenGrid {
  const float* values;
  int rows, cols, crop;
  float operator()(int x, int y) const {
    const auto place = [&](int at, int n) {
      return std::clamp(
          (static_cast<float>(at) + 0.5f) * static_cast<float>(n) / static_cast<float>(crop) - 0.5f, 0.0f,
          static_cast<float>(n - 1));
    };
    const float u = place(x, cols), v = place(y, rows);
    const int left = static_cast<int>(u), top = static_cast<int>(v);
    const int right = std::min(left + 1, cols - 1), bottom = std::min(top + 1, rows - 1);
    const float across = u - static_cast<float>(left), down = v - static_cast<float>(top);
    const auto row = [&](int r) {
      const float* line = values + r * cols;
      return line[left] + across * (line[right] - line[left]);
    };
    return row(top) + down * (row(bottom) - row(top));
  }
};

// (B, rows, cols): Integrated gradients of the score from the mosaic, in which each cell of the grid is its mean, to the
// image; summed over each cell, in points. All cells together are the difference of the two scores, but for the steps.
Tensor contributions(const Model& model, const ModelInfo& info, const Tensor& pixels) {
  const FeatureShape grid = model.config.features();
  const Shape cut{pixels.dim(0), 3, grid.rows, pixels.dim(2) / grid.rows, grid.cols, pixels.dim(3) / grid.cols};
  const auto cells = [&](const Tensor& x) { return Var(x.reshape(cut)); };
  const Var mosaic = expand(mean(cells(pixels), {3, 5}, true), cut), detail = cells(pixels) - mosaic;
  Var total = detail * 0.0;
  for (int k = 0; k < kSteps; ++k) {
    const Var images = Var::leaf((mosaic + detail * ((k + 0.5) / kSteps)).value.reshape(pixels.shape()));
    backward(sum(model(images).scores.score));
    total = total + cells(images.grad());
  }
  const Tensor points = on_cpu(sum(total * detail, {1, 3, 5}));
  const double unit = (info.to_0_100(1) - info.to_0_100(0)) / kSteps;
  for (float& v : points.span<float>()) v *= static_cast<float>(unit);
  return points;
}

Tensor attention_of(const Model& model, const Tensor& images) {
  const NoGrad inference;
  const Tensor shares = on_cpu(model.head->attention(model.before_head(images).features));
  for (float& v : shares.span<float>()) v *= static_cast<float>(shares.dim(1));
  return shares;
}

Tensor scores_of(const Model& model, const ModelInfo& info, const Tensor& images) {
  const NoGrad inference;
  const Tensor scores = on_cpu(model(images).scores.score);
  for (float& v : scores.span<float>()) v = static_cast<float>(info.to_0_100(v));
  return scores;
}

// Means over cells of about a 24th of the shorter side.
struct Cells {
  int size, cols, rows;
  std::vector<double> mean;
  explicit Cells(const QualityMap& map)
      : size(std::max(1, std::min(map.width, map.height) / 24)),
        cols((map.width + size - 1) / size),
        rows((map.height + size - 1) / size),
        mean(static_cast<size_t>(cols) * static_cast<size_t>(rows)) {
    std::vector<int64_t> pixels(mean.size());
    for (int y = 0; y < map.height; ++y)
      for (int x = 0; x < map.width; ++x) {
        const auto cell =
            static_cast<size_t>(y / size) * static_cast<size_t>(cols) + static_cast<size_t>(x / size);
        mean[cell] += map.at(x, y), ++pixels[cell];
      }
    for (size_t i = 0; i < mean.size(); ++i) mean[i] /= static_cast<double>(pixels[i]);
  }
};

// The box around the cells that hang together with `first`, each marked as seen.
Region grown(const Cells& cells, const std::vector<bool>& wanted, std::vector<bool>& seen, size_t first,
             const QualityMap& map) {
  int left = cells.cols, right = -1, top = cells.rows, bottom = -1;
  double sum = 0;
  int64_t count = 0;
  std::vector<size_t> next{first};
  seen[first] = true;
  while (!next.empty()) {
    const size_t at = next.back();
    next.pop_back();
    const int x = static_cast<int>(at % static_cast<size_t>(cells.cols)),
              y = static_cast<int>(at / static_cast<size_t>(cells.cols));
    left = std::min(left, x), right = std::max(right, x), top = std::min(top, y),
    bottom = std::max(bottom, y);
    sum += cells.mean[at], ++count;
    const auto visit = [&](bool inside, size_t to) {
      if (inside && wanted[to] && !seen[to]) seen[to] = true, next.push_back(to);
    };
    visit(x > 0, at - 1), visit(x + 1 < cells.cols, at + 1);
    visit(y > 0, at - static_cast<size_t>(cells.cols)),
        visit(y + 1 < cells.rows, at + static_cast<size_t>(cells.cols));
  }
  const int x = left * cells.size, y = top * cells.size;
  return {x, y, std::min((right + 1) * cells.size, map.width) - x,
          std::min((bottom + 1) * cells.size, map.height) - y, sum / static_cast<double>(count)};
}

}  // namespace

QualityMap explain(const Model& model, const ModelInfo& info, Image photo, ExplainKind kind,
                   const PredictOptions& options) {
  QFM_CHECK(model.config.head->views() == 1, "the model's head scores ", model.config.head->views(),
            " views of an image together: a photo alone has no score");
  const int crop = static_cast<int>(info.crop);
  photo = fit_for_crops(std::move(photo), options.resize.value_or(info.resize), crop);
  const auto windows =
      covering_windows(photo.width, photo.height, crop, kind == ExplainKind::Windows ? crop / 4 : crop / 2);
  const CropBatches batches(photo, windows, crop, normalisation(info), model.params);
  const FeatureShape shape = model.config.features();
  Blend blend(photo.width, photo.height, crop);
  for (size_t begin = 0; begin < windows.size(); begin += kMostCrops) {
    const size_t end = std::min(windows.size(), begin + kMostCrops);
    const Tensor images = batches(begin, end);
    const Tensor found = kind == ExplainKind::Windows    ? scores_of(model, info, images)
                         : kind == ExplainKind::Gradient ? contributions(model, info, images)
                                                         : attention_of(model, images);
    const float* values = found.data<float>();
    for (size_t i = begin; i < end; ++i, values += found.numel() / static_cast<int64_t>(end - begin)) {
      if (kind == ExplainKind::Windows) blend.add(windows[i], [&](int, int) { return *values; });
      else
        blend.add(windows[i],
                  TokenGrid{values, static_cast<int>(shape.rows), static_cast<int>(shape.cols), crop});
    }
  }
  return blend.take();
}

std::vector<Region> extreme_regions(const QualityMap& map, int most, bool highest) {
  const Cells cells(map);
  const double sign = highest ? -1 : 1;
  double mean = 0, square = 0, least = INFINITY;
  for (const double v : cells.mean)
    mean += v / static_cast<double>(cells.mean.size()), least = std::min(least, sign * v);
  for (const double v : cells.mean)
    square += (v - mean) * (v - mean) / static_cast<double>(cells.mean.size());
  // A map with no low side has its lowest cells alone.
  const double bound = std::max(sign * mean - std::sqrt(square), least);
  std::vector<bool> wanted, seen(cells.mean.size());
  for (const double v : cells.mean) wanted.push_back(sign * v <= bound);
  std::vector<Region> regions;
  for (size_t i = 0; i < wanted.size(); ++i)
    if (wanted[i] && !seen[i]) regions.push_back(grown(cells, wanted, seen, i, map));
  std::sort(regions.begin(), regions.end(),
            [&](const Region& a, const Region& b) { return sign * a.value < sign * b.value; });
  if (regions.size() > static_cast<size_t>(most)) regions.resize(static_cast<size_t>(most));
  return regions;
}

}  // namespace qfm
