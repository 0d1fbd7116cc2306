#include "models/backbones/vit.h"

#include <utility>

#include "layers/pointwise.h"
#include "layers/shape.h"

namespace qfm {
namespace {

// A branch joins the stream, which `norm` reads next. The residual is added inside the last product of the
// branch, or with LayerScale, where there is one, in the normalisation.
template <class Branch>
ResidualNorm add_and_norm(const Branch& branch, const Var& x, const Var& stream, const LayerScale& scale,
                          const LayerNorm& norm) {
  if (!scale.gamma) return norm({}, {}, branch(x, stream));
  return norm(branch(x, Var()), *scale.gamma, stream);
}

}  // namespace

VitBlock::VitBlock(const Scope& scope, const VitConfig& c)
    : norm1(scope / "norm1", c.width, c.eps),
      qkv(scope / "attn" / "qkv", c.width, 3 * c.width),
      proj(scope / "attn" / "proj", c.width, c.width),
      ls1(scope / "ls1", c.width, c.layer_scale, c.layer_scale_init),
      norm2(scope / "norm2", c.width, c.eps),
      mlp(scope / "mlp" / "fc1", scope / "mlp" / "fc2", c.width, 4 * c.width),
      ls2(scope / "ls2", c.width, c.layer_scale, c.layer_scale_init),
      heads(c.heads) {
  norm1.feeds(qkv.weight), norm2.feeds(mlp.fc1.weight);
}

ResidualNorm VitBlock::operator()(ResidualNorm x, const LayerNorm& next) const {
  // What is read last is let go, where nothing is recorded.
  const Var a = self_attention(qkv(std::exchange(x.y, Var())), heads, {}, proj.weight.value());
  x = add_and_norm(proj, a, x.sum, ls1, norm2);
  return add_and_norm(mlp, x.y, x.sum, ls2, next);
}

Vit::Vit(const Scope& scope, const VitConfig& c)
    : config(c),
      patch_embed(scope / "patch_embed" / "proj", 3, c.patch, c.width),
      cls_token(scope.vector("cls_token", {1, 1, c.width}, trunc_normal(0.02))),
      pos_embed(scope.vector("pos_embed", {1, c.pos_embed_on_cls ? c.sequence() : c.patches(), c.width},
                             trunc_normal(0.02))),
      norm(scope / "norm", c.width, c.eps) {
  QFM_CHECK(c.image_height % c.patch == 0 && c.image_width % c.patch == 0, "vit: ", c.image_height, "x",
            c.image_width, " images do not divide into patches of ", c.patch);
  QFM_CHECK(c.width % c.heads == 0, "vit: width ", c.width, " does not divide into ", c.heads, " heads");
  for (int64_t i = 0; i < c.depth; ++i) blocks.emplace_back((scope / "blocks" / i).in_int8(), c);
}

Var Vit::embed(const Var& images) const {
  QFM_CHECK(images.value.rank() == 4 && images.dim(1) == 3 && images.dim(2) == config.image_height &&
                images.dim(3) == config.image_width,
            "vit: images are ", images.shape(), ", expected (B, 3, ", config.image_height, ", ",
            config.image_width, ")");
  const Var patches = patch_embed(images);
  const Var cls = expand(cls_token, {images.dim(0), 1, config.width});
  if (config.pos_embed_on_cls) return concat({cls, patches}, 1) + pos_embed;
  return concat({cls, patches + pos_embed}, 1);
}

Var Vit::tokens(const Var& images) const {
  ResidualNorm x = norm_before(0)({}, {}, embed(images));
  for (size_t i = 0; i < blocks.size(); ++i) x = blocks[i](std::move(x), norm_before(i + 1));
  return x.y;
}

Features Vit::operator()(const Var& images) const {
  const Var x = tokens(images);
  const int64_t b = x.dim(0), t = x.dim(1), d = x.dim(2);
  return {reshape(slice(x, 1, 0, 1), {b, d}), slice(x, 1, 1, t), {}};
}

}  // namespace qfm
