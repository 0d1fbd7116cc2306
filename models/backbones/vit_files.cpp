// What a ViT is called and how it is described in files; position embeddings of other grids.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "engine/base/resample.h"
#include "models/backbones/vit.h"
#include "models/within.h"

namespace qfm {
std::string VitConfig::json() const {
  return nlohmann::ordered_json{{"type", "vit"},
                                {"image_height", image_height},
                                {"image_width", image_width},
                                {"patch", patch},
                                {"width", width},
                                {"depth", depth},
                                {"heads", heads},
                                {"layer_scale", layer_scale},
                                {"pos_embed_on_cls", pos_embed_on_cls},
                                {"eps", eps}}
      .dump();
}

VitConfig vit_from_json(const nlohmann::ordered_json& j) {
  VitConfig v;
  v.image_height = j.at("image_height"), v.image_width = j.at("image_width"), v.patch = j.at("patch");
  v.width = j.at("width"), v.depth = j.at("depth"), v.heads = j.at("heads"), v.eps = j.at("eps");
  v.layer_scale = j.at("layer_scale"), v.pos_embed_on_cls = j.at("pos_embed_on_cls");
  check_within("patch", v.patch, 1, 256), check_within("image height", v.image_height, v.patch, 4096);
  check_within("image width", v.image_width, v.patch, 4096), check_within("width", v.width, 1, 8192);
  check_within("depth", v.depth, 0, 128), check_within("heads", v.heads, 1, v.width);
  return v;
}

std::unique_ptr<VitConfig> vit_named(const std::string& arch, const std::string& convention) {
  auto v = std::make_unique<VitConfig>();
  if (arch == "vit-tiny") v->width = 192, v->heads = 3;
  else if (arch == "vit-small") v->width = 384, v->heads = 6;
  else if (arch == "vit-base") v->width = 768, v->heads = 12;
  else return nullptr;
  QFM_CHECK(convention == "deit" || convention == "deit3", "convention '", convention,
            "' is not known: deit or deit3");
  if (convention == "deit3") v->layer_scale = true, v->pos_embed_on_cls = false;
  return v;
}

namespace {

int64_t square_root(int64_t n) {
  int64_t root = 0;
  while (root * root < n) ++root;
  return root;
}

// Of a position embedding for n tokens: whether the class token is one of them. Neither: n is no grid's.
bool covers_cls(int64_t n) { return square_root(n - 1) * square_root(n - 1) == n - 1; }

}  // namespace

std::shared_ptr<const BackboneConfig> vit_in_file(const TensorFile& file, std::string& arch) {
  const auto shape = [&](const char* name, int rank) -> const Shape* {
    return file.has(name) && file.entry(name).shape.rank() == rank ? &file.entry(name).shape : nullptr;
  };
  const Shape *cls = shape("cls_token", 3), *proj = shape("patch_embed.proj.weight", 4), *pos = shape("pos_embed", 3);
  if (!cls || !proj || !pos || (*proj)[2] < 1 || (*proj)[2] > 224) return nullptr;
  for (const char* name : {"vit-tiny", "vit-small", "vit-base"}) {
    auto v = vit_named(name, "deit");
    if (v->width != (*cls)[2]) continue;
    v->patch = (*proj)[2];
    v->image_height = v->image_width = 224 / v->patch * v->patch;
    v->layer_scale = file.has("blocks.0.ls1.gamma"), v->pos_embed_on_cls = covers_cls((*pos)[1]);
    if (const auto from = file.metadata().find(kOrigin); from != file.metadata().end() && from->second == kHuggingFaceVit)
      v->eps = 1e-12;
    arch = name;
    return v;
  }
  return nullptr;
}

FeatureShape VitConfig::shape() const {
  return {image_height, image_width, width, image_height / patch, image_width / patch};
}

std::optional<TransformerSizes> VitConfig::transformer() const {
  return TransformerSizes{image_height, image_width, patch, sequence(), width, depth, heads};
}

namespace {
double embed_flops(const VitConfig& v) {
  return 2 * static_cast<double>(v.patches() * 3 * v.patch * v.patch * v.width);
}
}  // namespace

double VitConfig::forward_flops() const {
  const auto d = static_cast<double>(width), t = static_cast<double>(sequence());
  const double block = 24 * t * d * d + 4 * t * t * d;  // qkv, proj, fc1, fc2; q k^T and p v
  return embed_flops(*this) + static_cast<double>(depth) * block;
}
double VitConfig::backward_flops() const { return 2 * forward_flops() - embed_flops(*this); }

std::unique_ptr<Backbone> VitConfig::make(const Scope& scope) const {
  return std::make_unique<Vit>(scope / "vit", *this);
}

std::map<std::string, Tensor> Vit::resampled(const TensorFile& file, const std::string& prefix) const {
  const std::string name = prefix + "pos_embed";
  if (!file.has(name) || file.entry(name).shape == pos_embed.shape()) return {};
  const Shape& given = file.entry(name).shape;
  if (given.rank() != 3 || given[0] != 1 || given[2] != config.width || given[1] < 2)
    return {};  // load_params names it
  try {
    return {{name, interpolate_pos_embed(file.tensor(name).to(DType::F32), config.image_height / config.patch,
                                         config.image_width / config.patch, config.pos_embed_on_cls)}};
  } catch (const OutOfMemory&) {
    throw;
  } catch (const Error& e) {
    QFM_FAIL(file.path(), ": ", e.what());
  }
}

Tensor interpolate_pos_embed(const Tensor& pos, int64_t rows, int64_t cols, bool has_cls) {
  const int64_t extra = has_cls ? 1 : 0, old = pos.dim(1) - extra, d = pos.dim(2);
  const int64_t side = square_root(old);
  QFM_CHECK(side * side == old, "position embedding ", pos.shape(), " is not a square grid");
  if (side == rows && side == cols) return pos;
  const auto weights = [side](int64_t out) {
    const double filter = std::max(static_cast<double>(side) / static_cast<double>(out), 1.0);
    return resample_axis(side, out, 2 * filter, [=](double x) { return cubic_kernel(x / filter); });
  };
  const auto wy = weights(rows), wx = weights(cols);
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
