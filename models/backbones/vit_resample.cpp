// Embeddings of a ViT for other grids and other patches than a file has.
#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/base/resample.h"
#include "models/backbones/vit.h"

namespace qfm {
namespace {

// Antialiased bicubic, one axis.
std::vector<ResampledPoint> bicubic(int64_t from, int64_t to) {
  const double filter = std::max(static_cast<double>(from) / static_cast<double>(to), 1.0);
  return resample_axis(from, to, 2 * filter, [=](double x) { return cubic_kernel(x / filter); });
}

struct Matrix {
  int64_t rows, cols;
  std::vector<double> values = std::vector<double>(static_cast<size_t>(rows * cols));
  double& operator()(int64_t r, int64_t c) { return values[static_cast<size_t>(r * cols + c)]; }
  double operator()(int64_t r, int64_t c) const { return values[static_cast<size_t>(r * cols + c)]; }
};

Matrix transposed(const Matrix& a) {
  Matrix t{a.cols, a.rows};
  for (int64_t r = 0; r < a.rows; ++r)
    for (int64_t c = 0; c < a.cols; ++c) t(c, r) = a(r, c);
  return t;
}

// a b^T
Matrix product_with_transposed(const Matrix& a, const Matrix& b) {
  Matrix y{a.rows, b.rows};
  for (int64_t r = 0; r < a.rows; ++r)
    for (int64_t c = 0; c < b.rows; ++c)
      for (int64_t k = 0; k < a.cols; ++k) y(r, c) += a(r, k) * b(c, k);
  return y;
}

// s^-1 b for a symmetric positive definite s, by Cholesky's factors.
Matrix solved(Matrix s, Matrix b) {
  const int64_t n = s.rows;
  for (int64_t c = 0; c < n; ++c)
    for (int64_t r = c; r < n; ++r) {
      double sum = s(r, c);
      for (int64_t k = 0; k < c; ++k) sum -= s(r, k) * s(c, k);
      QFM_CHECK(r != c || sum > 0, "patch embedding: ", n, " points do not determine it");
      s(r, c) = r == c ? std::sqrt(sum) : sum / s(c, c);
    }
  for (int64_t col = 0; col < b.cols; ++col) {
    for (int64_t r = 0; r < n; ++r) {
      for (int64_t k = 0; k < r; ++k) b(r, col) -= s(r, k) * b(k, col);
      b(r, col) /= s(r, r);
    }
    for (int64_t r = n; r-- > 0;) {
      for (int64_t k = r + 1; k < n; ++k) b(r, col) -= s(k, r) * b(k, col);
      b(r, col) /= s(r, r);
    }
  }
  return b;
}

// The pseudoinverse of R^T, (to, from), where R (to, from) resamples one axis. R has full rank.
Matrix patch_transform(int64_t from, int64_t to) {
  Matrix r{to, from};
  const auto points = bicubic(from, to);
  for (int64_t i = 0; i < to; ++i) {
    const ResampledPoint& p = points[static_cast<size_t>(i)];
    for (size_t k = 0; k < p.weights.size(); ++k) r(i, p.first + static_cast<int64_t>(k)) = p.weights[k];
  }
  if (to < from) return solved(product_with_transposed(r, r), r);  // (R R^T)^-1 R
  const Matrix t = transposed(r);
  return transposed(solved(product_with_transposed(t, t), t));  // R (R^T R)^-1
}

}  // namespace

std::map<std::string, Tensor> Vit::resampled(const TensorFile& file, const std::string& prefix) const {
  std::map<std::string, Tensor> result;
  // What has another rank or width is named by load_params.
  const auto given = [&](const std::string& name, const Param& param) -> const Shape* {
    if (!file.has(prefix + name) || file.entry(prefix + name).shape == param.shape()) return nullptr;
    return file.entry(prefix + name).shape.rank() == param.shape().rank() ? &file.entry(prefix + name).shape : nullptr;
  };
  const auto read = [&](const std::string& name) { return file.tensor(prefix + name).to(DType::F32); };
  const std::string pos = "pos_embed", proj = "patch_embed.proj.weight";
  try {
    if (const Shape* s = given(pos, pos_embed); s && (*s)[0] == 1 && (*s)[2] == config.width && (*s)[1] >= 2)
      result[prefix + pos] = interpolate_pos_embed(read(pos), config.image_height / config.patch,
                                                   config.image_width / config.patch, config.pos_embed_on_cls);
    if (const Shape* s = given(proj, patch_embed.weight);
        s && (*s)[0] == config.width && (*s)[1] == 3 && (*s)[2] == (*s)[3] && (*s)[2] > 0)
      result[prefix + proj] = resample_patch_embed(read(proj), config.patch);
  } catch (const OutOfMemory&) {
    throw;
  } catch (const Error& e) {
    QFM_FAIL(file.path(), ": ", e.what());
  }
  return result;
}

Tensor resample_patch_embed(const Tensor& weight, int64_t patch) {
  const int64_t planes = weight.dim(0) * weight.dim(1), old = weight.dim(2);
  const Matrix p = patch_transform(old, patch);
  Tensor result({weight.dim(0), weight.dim(1), patch, patch});
  auto from = weight.span<float>().begin();
  auto to = result.span<float>().begin();
  for (int64_t i = 0; i < planes; ++i, from += old * old, to += patch * patch) {
    Matrix w{old, old};
    std::copy_n(from, old * old, w.values.begin());
    const Matrix y = product_with_transposed(product_with_transposed(p, transposed(w)), p);  // P W P^T
    std::copy(y.values.begin(), y.values.end(), to);
  }
  return result;
}

Tensor interpolate_pos_embed(const Tensor& pos, int64_t rows, int64_t cols, bool has_cls) {
  const int64_t extra = has_cls ? 1 : 0, old = pos.dim(1) - extra, d = pos.dim(2);
  int64_t side = 0;
  while (side * side < old) ++side;
  QFM_CHECK(side * side == old, "position embedding ", pos.shape(), " is not a square grid");
  if (side == rows && side == cols) return pos;
  const auto wy = bicubic(side, rows), wx = bicubic(side, cols);
  Tensor result({1, extra + rows * cols, d});
  const auto from = pos.span<float>();
  auto to = result.span<float>();
  std::copy_n(from.begin(), extra * d, to.begin());
  for (int64_t y = 0; y < rows; ++y)
    for (int64_t x = 0; x < cols; ++x)
      for (int64_t c = 0; c < d; ++c) {
        const ResampledPoint &py = wy[static_cast<size_t>(y)], &px = wx[static_cast<size_t>(x)];
        double sum = 0;
        for (size_t v = 0; v < py.weights.size(); ++v)
          for (size_t u = 0; u < px.weights.size(); ++u) {
            const int64_t at =
                (py.first + static_cast<int64_t>(v)) * side + px.first + static_cast<int64_t>(u);
            sum += py.weights[v] * px.weights[u] * from[static_cast<size_t>((extra + at) * d + c)];
          }
        to[static_cast<size_t>((extra + y * cols + x) * d + c)] = static_cast<float>(sum);
      }
  return result;
}

}  // namespace qfm
