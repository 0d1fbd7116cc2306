// Starting a model from somebody's weights.
#include <algorithm>
#include <cmath>

#include "models/checkpoint.h"

namespace qfm {
namespace {

// Keys' cubic, a = -0.5.
double cubic(double x) {
  x = std::abs(x);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  if (x < 2) return ((-0.5 * x + 2.5) * x - 4) * x + 2;
  return 0;
}

// Weights (out, in) of the antialiased resize of one axis.
std::vector<double> axis_weights(int64_t in, int64_t out) {
  const double step = static_cast<double>(in) / static_cast<double>(out), filter = std::max(step, 1.0);
  std::vector<double> w(static_cast<size_t>(in * out), 0.0);
  for (int64_t o = 0; o < out; ++o) {
    const double centre = (static_cast<double>(o) + 0.5) * step, support = 2 * filter;
    const auto first = std::max<int64_t>(0, static_cast<int64_t>(centre - support + 0.5));
    const auto last = std::min<int64_t>(in, static_cast<int64_t>(centre + support + 0.5));
    double sum = 0;
    double* row = w.data() + o * in;
    for (int64_t i = first; i < last; ++i)
      sum += row[i] = cubic((static_cast<double>(i) - centre + 0.5) / filter);
    for (int64_t i = first; i < last; ++i) row[i] /= sum;
  }
  return w;
}

// Tensors of a timm file that must be resampled to fit the model: the position embedding of another grid.
std::map<std::string, Tensor> resampled(const QfmIqm& model, const SafeTensors& file,
                                        const std::string& name) {
  const VitConfig& v = model.config.vit;
  const Shape wanted = model.vit.pos_embed.shape();
  if (!file.has(name) || file.entry(name).shape == wanted) return {};
  const Shape& given = file.entry(name).shape;
  if (given.rank() != 3 || given[0] != 1 || given[2] != v.width || given[1] < 2)
    return {};  // load_params names it
  try {
    return {{name, interpolate_pos_embed(file.tensor(name).to(DType::F32), v.image_height / v.patch,
                                         v.image_width / v.patch, v.pos_embed_on_cls)}};
  } catch (const OutOfMemory&) {
    throw;
  } catch (const Error& e) {
    QFM_FAIL(file.path(), ": ", e.what());
  }
}

}  // namespace

ModelConfig timm_config(const SafeTensors& file) {
  const int64_t width = file.entry("cls_token").shape.rank() == 3 ? file.entry("cls_token").shape[-1] : 0;
  for (const char* arch : {"vit-tiny", "vit-small", "vit-base"})
    if (model_config(arch).vit.width == width)
      return model_config(arch, file.has("blocks.0.ls1.gamma") ? "deit3" : "deit");
  QFM_FAIL(file.path(), ": no known architecture has width ", width);
}

void load_pretrained(QfmIqm& model, const std::string& path) {
  const SafeTensors file = SafeTensors::open(path);
  if (file.metadata().count("qfm")) {
    auto instead = resampled(model, file, "vit.pos_embed");
    for (const Param& p : model.params.params())
      if (p.name().rfind("select.", 0) == 0 && !file.has("select.norm.weight"))
        instead.emplace(p.name(), p.master().clone());
    load_params(
        model.params, file, "", [](const std::string&) { return false; }, instead);
  } else {
    load_params(
        model.params, file, "vit.", [](const std::string& name) { return name.rfind("head.", 0) == 0; },
        resampled(model, file, "pos_embed"));
  }
}

Tensor interpolate_pos_embed(const Tensor& pos, int64_t rows, int64_t cols, bool has_cls) {
  const int64_t extra = has_cls ? 1 : 0, old = pos.dim(1) - extra, d = pos.dim(2);
  int64_t side = 0;
  while (side * side < old) ++side;
  QFM_CHECK(side * side == old, "position embedding ", pos.shape(), " is not a square grid");
  if (side == rows && side == cols) return pos;
  const auto wy = axis_weights(side, rows), wx = axis_weights(side, cols);
  Tensor result({1, extra + rows * cols, d});
  const auto from = pos.span<float>();
  auto to = result.span<float>();
  std::copy_n(from.begin(), extra * d, to.begin());
  for (int64_t y = 0; y < rows; ++y)
    for (int64_t x = 0; x < cols; ++x)
      for (int64_t c = 0; c < d; ++c) {
        double sum = 0;
        for (int64_t v = 0; v < side; ++v)
          for (int64_t u = 0; u < side; ++u)
            sum += wy[static_cast<size_t>(y * side + v)] * wx[static_cast<size_t>(x * side + u)] *
                   from[static_cast<size_t>((extra + v * side + u) * d + c)];
        to[static_cast<size_t>((extra + y * cols + x) * d + c)] = static_cast<float>(sum);
      }
  return result;
}

}  // namespace qfm
