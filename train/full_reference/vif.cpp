// Visual information fidelity in wavelets: Sheikh and Bovik, "Image information and visual quality", 2006.
//
// A band of the reference is taken as blocks of 3 x 3 numbers, each a Gaussian vector of one covariance C times a scale
// s of its own. The distorted band is g times the reference plus noise of variance v, both from windows around each
// block. What eye noise of variance 0.4 lets through is, in bits, sum log2(1 + s lambda / 0.4) of the reference and sum
// log2(1 + g^2 s lambda / (v + 0.4)) of the distorted one, lambda the eigenvalues of C: VIF is their ratio.
#include <array>
#include <cmath>
#include <vector>

#include "train/full_reference/eigen.h"
#include "train/full_reference/measures.h"
#include "train/full_reference/row_loops.h"

namespace qfm {
namespace {

constexpr int kScales = 4, kSide = 3, kBlock = kSide * kSide,
              kReach = 4;  // the widest filter reads 4 columns further

using Filter = void (*)(float*, const float* const*, float* const*, int);

// Index `at` of 0..n-1, borders reflected without repeating the border itself.
int reflected(int at, int n) { return at < 0 ? -at : at >= n ? 2 * (n - 1) - at : at; }

void reflect_margins(Plane& plane) {
  for (int y = 0; y < plane.height; ++y) {
    float* row = plane.row(y);
    for (int k = 1; k <= kReach; ++k) row[-k] = row[k], row[plane.width - 1 + k] = row[plane.width - 1 - k];
  }
}

// Rows of a plane through a filter of 2 radius + 1 rows.
class FilteredRows {
 public:
  FilteredRows(const Plane& from, Filter filter, int radius)
      : from_(from), filter_(filter), radius_(radius), folded_(from.width + 1, radius + 1) {}

  // n numbers of row y.
  void operator()(float* out, int y, int n) {
    const float* rows[2 * kReach + 1];
    float* folded[kReach + 1];
    for (int k = -radius_; k <= radius_; ++k) rows[radius_ + k] = from_.row(reflected(y + k, from_.height));
    for (int k = 0; k <= radius_; ++k) folded[k] = folded_.row(k);
    filter_(out, rows, folded, n);
  }

 private:
  const Plane& from_;
  const Filter filter_;
  const int radius_;
  Plane folded_;
};

// The low passes that the bands of each scale are cut from, finest first.
std::vector<Plane> low_passes(const Plane& luma) {
  Plane source(luma.width, luma.height);
  for (int y = 0; y < luma.height; ++y) std::copy_n(luma.row(y), luma.width, source.row(y));
  reflect_margins(source);
  std::vector<Plane> passes;
  const auto add = [&](const Plane& from, Filter filter, int radius, int step) {
    Plane pass((from.width + step - 1) / step, (from.height + step - 1) / step);
    FilteredRows rows(from, filter, radius);
    for (int y = 0; y < pass.height; ++y) rows(pass.row(y), step * y, pass.width);
    reflect_margins(pass);
    passes.push_back(std::move(pass));
  };
  passes.reserve(kScales);
  add(source, row_loops().smooth, 2, 1);
  for (int scale = 1; scale < kScales; ++scale) add(passes.back(), row_loops().shrink, 4, 2);
  return passes;
}

// The covariance of the 3 x 3 neighbourhoods of a band, from sums of products of its rows: those over a neighbour at a
// fixed distance serve all pairs of places with it, which differ at the borders only.
class Covariance {
 public:
  Covariance(int width, int height) : width_(width), height_(height) {}

  // Rows in order; next and second are the two behind it, null below the band.
  void add_row(int y, const float* row, const float* next, const float* second) {
    const float* const others[kSide] = {row, next ? next : row, second ? second : row};
    const int inner = width_ - 4;  // columns 2 .. width - 3 are in every sum
    const RowProducts products = row_loops().row_products(row + 2, others[1] + 2, others[2] + 2, inner);
    const double sum = row_loops().sum(row + 2, inner);
    for (int left = 0; left < kSide; ++left) {
      const double shifted = sum + border(left, [&](int x) { return static_cast<double>(row[x]); });
      for (int top = 0; top < kSide; ++top)
        if (counts(y, top)) sums_[static_cast<size_t>(top * kSide + left)] += shifted;
    }
    for (int down = 0; down < kSide && y + down < height_; ++down)
      for (int left = 0; left < kSide; ++left)
        for (int other = down == 0 ? left : 0; other < kSide; ++other) {
          const int across = other - left;
          const double product =
              (down == 0   ? products.same[across]
               : down == 1 ? products.next[2 + across]
                           : products.second[2 + across]) +
              border(left, [&](int x) {
                return static_cast<double>(row[x]) * static_cast<double>(others[down][x + across]);
              });
          for (int top = 0; top + down < kSide; ++top)
            if (counts(y, top)) at(top * kSide + left, (top + down) * kSide + other) += product;
        }
  }

  SymmetricMatrix<kBlock> finish() {
    const double count = static_cast<double>(width_ - 2) * (height_ - 2);
    for (int i = 0; i < kBlock; ++i)
      for (int j = i; j < kBlock; ++j) {
        const double product =
            sums_[static_cast<size_t>(i)] / count * (sums_[static_cast<size_t>(j)] / count);
        at(j, i) = at(i, j) = at(i, j) / count - product;
      }
    return products_;
  }

 private:
  double& at(int i, int j) { return products_[static_cast<size_t>(i)][static_cast<size_t>(j)]; }
  // Whether row y is the `top`-th of a neighbourhood inside the band.
  bool counts(int y, int top) const { return y >= top && y <= height_ - kSide + top; }
  // f over those columns left .. width - 3 + left that are not in 2 .. width - 3.
  template <class F>
  double border(int left, F&& f) const {
    double sum = 0;
    for (int x = left; x < 2; ++x) sum += f(x);
    for (int x = width_ - 2; x <= width_ - kSide + left; ++x) sum += f(x);
    return sum;
  }

  const int width_, height_;
  std::array<double, kBlock> sums_{};
  SymmetricMatrix<kBlock> products_{};
};

struct Bits {
  double received = 0, sent = 0;
  int64_t blocks = 0;
};

// One band of both pictures at one scale.
class BandBits {
 public:
  // half: of the window of each block
  BandBits(const Plane& x, const Plane& y, Filter filter, int half)
      : width_(x.width / kSide * kSide),
        height_(x.height / kSide * kSide),
        half_(half),
        groups_((2 * half + 1) / kSide | 1),
        skipped_((half + kSide - 1) / kSide),
        x_rows_(x, filter, kSide),
        y_rows_(y, filter, kSide),
        x_(width_, 2 * half + 1 + kSide),
        y_(width_, 2 * half + 1 + kSide),
        group_sums_(width_, kSums * groups_),
        sums_(width_, kSums),
        thirds_(width_ / kSide, kSide),
        windows_(width_ / kSide, kSums),
        blocks_(width_ / kSide, kBlock * (height_ / kSide)),
        channel_(width_ / kSide, height_ / kSide) {}

  Bits operator()() {
    const int count = width_ / kSide - 2 * skipped_;
    if (count <= 0 || height_ / kSide - 2 * skipped_ <= 0) return {};
    measure();
    return information(count);
  }

 private:
  static constexpr int kSums = 5;  // x, y, x x, y y, x y
  static constexpr int kMostGroups = 5;

  // Makes the band's rows; keeps the reference's blocks, its covariance and each block's channel.
  void measure() {
    int made = 0;
    const auto make_to = [&](int end) {
      for (; made < end; ++made) {
        x_rows_(x_[made], made, width_), y_rows_(y_[made], made, width_);
        if (made % kSide == kSide - 1) sum_group(made / kSide);
        if (made >= 2) covariance_.add_row(made - 2, x_[made - 2], x_[made - 1], x_[made]);
      }
    };
    for (int row = 0; row < height_ / kSide; ++row) {
      const int middle = kSide * row + 1;
      make_to(std::min(height_, std::max(middle + half_ + 1, kSide * row + kSide)));
      for (int k = 0; k < kSide; ++k) {
        float* const thirds[kSide] = {blocks_.row(kBlock * row + kSide * k),
                                      blocks_.row(kBlock * row + kSide * k + 1),
                                      blocks_.row(kBlock * row + kSide * k + 2)};
        row_loops().split3(thirds, x_[kSide * row + k], width_ / kSide);
      }
      if (row >= skipped_ && row < height_ / kSide - skipped_) make_channel(row);
    }
    covariance_.add_row(height_ - 2, x_[height_ - 2], x_[height_ - 1], nullptr);
    covariance_.add_row(height_ - 1, x_[height_ - 1], nullptr, nullptr);
  }

  // Windows are sums over whole rows of blocks, and at most a row above and one below them.
  void sum_group(int group) {
    float* sums[kSums];
    for (int q = 0; q < kSums; ++q) sums[q] = group_sums_[kSums * group + q];
    const int top = kSide * group;
    const float *const x[kSide] = {x_[top], x_[top + 1], x_[top + 2]}, *const y[kSide] = {
                                                                           y_[top], y_[top + 1], y_[top + 2]};
    row_loops().column_sums(sums, x, y, width_);
  }

  void make_channel(int row) {
    const int size = 2 * half_ + 1, first = row - groups_ / 2, middle = kSide * row + 1;
    const float *of_groups[kSums * kMostGroups], *windows[kSums];
    for (int k = 0; k < kSums * groups_; ++k) of_groups[k] = group_sums_[kSums * first + k];
    float* sums[kSums];
    for (int q = 0; q < kSums; ++q) sums[q] = sums_.row(q);
    const bool more = size > kSide * groups_;  // a row above and one below
    const float *const x[2] = {x_[middle - half_], x_[middle + half_]}, *const y[2] = {y_[middle - half_],
                                                                                       y_[middle + half_]};
    row_loops().window_sums(sums, of_groups, groups_, more ? x : nullptr, y, width_);
    float *const first_columns = thirds_.row(0), *const last_columns = thirds_.row(1),
                 *const triples = thirds_.row(2);
    const int count = width_ / kSide - 2 * skipped_;
    for (int q = 0; q < kSums; ++q) {
      row_loops().sum3(first_columns, last_columns, triples, sums[q], width_ / kSide);
      row_loops().window_across(windows_.row(q), first_columns + skipped_, last_columns + skipped_,
                                triples + skipped_, groups_, more, count);
      windows[q] = windows_.row(q);
    }
    row_loops().channel(channel_.row(row), windows, static_cast<float>(size * size), count);
  }

  Bits information(int count) {
    const auto [values, vectors] = eigen(covariance_.finish());
    std::array<float, kBlock> lambda;
    std::array<float, kBlock * kBlock> whiten;
    const double least = 1e-15 * *std::max_element(values.begin(), values.end());
    for (size_t k = 0; k < kBlock; ++k) {
      lambda[k] = static_cast<float>(std::max(0.0, values[k]));
      for (size_t i = 0; i < kBlock; ++i)
        whiten[kBlock * k + i] =
            values[k] > least ? static_cast<float>(vectors[i][k] / std::sqrt(values[k])) : 0;
    }
    Bits bits;
    for (int row = skipped_; row < height_ / kSide - skipped_; ++row, bits.blocks += count) {
      const float* block[kBlock];
      for (int k = 0; k < kBlock; ++k) block[k] = blocks_.row(kBlock * row + k) + skipped_;
      row_loops().information(&bits.received, &bits.sent, block, channel_.row(row), whiten.data(),
                              lambda.data(), count);
    }
    return bits;
  }

  const int width_, height_;  // whole blocks
  const int half_;
  const int groups_;   // whole rows of blocks in a window: 5, 3, 1, 1 for half 8, 4, 2, 1
  const int skipped_;  // blocks at each side whose windows leave the band
  FilteredRows x_rows_, y_rows_;
  RowRing x_, y_, group_sums_;
  Plane sums_, thirds_, windows_, blocks_, channel_;
  Covariance covariance_{width_, height_};
};

}  // namespace

std::optional<double> vif(const Plane& x, const Plane& y) {
  const auto of_x = low_passes(x), of_y = low_passes(y);
  Bits all;
  for (int scale = 0; scale < kScales; ++scale)
    for (const Filter filter : {row_loops().edge_across, row_loops().edge_down}) {
      const auto at = static_cast<size_t>(scale);
      const Bits bits = BandBits(of_x[at], of_y[at], filter, 8 >> scale)();
      all.received += bits.received, all.sent += bits.sent, all.blocks += bits.blocks;
    }
  // What rounding makes of a flat band is no information.
  if (all.sent < 1e-6 * static_cast<double>(all.blocks)) return std::nullopt;
  return all.received / all.sent;
}

}  // namespace qfm
