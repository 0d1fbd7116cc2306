// Cases of the backbone's kernels: forward, backward, and the pixels on their way in.
#include "kernels/attention/attention.h"
#include "kernels/cases/case_maker.h"
#include "kernels/gemm/gemm.h"
#include "kernels/image/crops.h"
#include "kernels/norm/layernorm.h"

namespace qfm {
namespace {

constexpr auto kRounding = Equal::Rounding;

void add_norms(CaseMaker& make) {
  make.group = "norm";
  const int64_t m = make.s.batch * make.s.tokens, n = make.s.width, area = m * n, both = std::max(m, n);
  make.add({"layernorm", {m, n}, both},
           {make.out("y", area, kRounding), make.acc_out("mean", m), make.acc_out("rstd", m),
            make.in("x", area), make.in("w", n), make.in("b", n)},
           QFM_KERNEL(layernorm_forward), m, n, 1e-6);
  make.add({"layernorm.backward", {m, n}, both},
           {make.out("dx", area, kRounding), make.acc_out("dw", n), make.acc_out("db", n),
            make.in("dy", area), make.in("x", area), make.in("w", n), make.acc_in("mean", m),
            make.acc_in("rstd", m), make.scratch(layernorm_workspace(m, n))},
           QFM_KERNEL(layernorm_backward), m, n);
  make.add({"residual_layernorm", {m, n}, both},
           {make.out("sum", area), make.out("y", area, kRounding), make.acc_out("mean", m),
            make.acc_out("rstd", m), make.in("x", area), make.in("gamma", n), make.in("residual", area),
            make.in("w", n), make.in("b", n)},
           QFM_KERNEL(residual_layernorm_forward), m, n, 1e-6);
  make.add({"residual_layernorm.backward", {m, n}, both},
           {make.out("dresidual", area, kRounding), make.out("dx", area, kRounding),
            make.acc_out("dgamma", n, Equal::RoundingOfT), make.acc_out("dw", n), make.acc_out("db", n),
            make.in("dy", area), make.in("dsum", area), make.in("sum", area), make.in("x", area),
            make.in("gamma", n), make.in("w", n), make.acc_in("mean", m), make.acc_in("rstd", m)},
           QFM_KERNEL(residual_layernorm_backward), m, n);
}

enum class Product { Forward, Dx, Dw };
struct Fused {
  bool bias = false, gelu = false, residual = false, gelu_grad = false;
};
// One Linear (n, k) over all rows, in one of its three directions.
void add_product(CaseMaker& make, const std::string& name, Product what, int64_t n, int64_t k, Fused fused) {
  const int64_t m = make.s.batch * make.s.tokens;
  const GemmShape s = what == Product::Forward ? GemmShape{m, n, k, false, true}
                      : what == Product::Dx    ? GemmShape{m, k, n, false, false}
                                               : GemmShape{n, k, m, true, false};
  const int64_t out = s.m * s.n;
  const bool dw = what == Product::Dw, pre = fused.gelu || fused.gelu_grad;
  const double bytes = make.bytes(s.m * s.k + s.k * s.n + (int64_t{pre} + int64_t{fused.residual}) * out) +
                       (dw ? make.acc_bytes(out) : make.bytes(out));
  make.add(
      {name, {s.m, s.n, s.k}, s.k, s.flops(), bytes},
      {dw ? make.acc_out("c", out) : make.out("c", out, kRounding), make.in("a", s.m * s.k),
       make.in("b", s.k * s.n), make.in("bias", s.n),
       fused.gelu ? make.out("pre_gelu", out, kRounding) : make.in("of", pre ? out : 1),
       make.in("residual", fused.residual ? out : 1), make.acc_out("sum_a", dw ? s.m : 0)},
      "gemm",
      [=]<class T>(auto dev, T, auto c, auto a, auto b, auto bias, auto gelu_of, auto residual, auto sum_a) {
        GemmEpilogue<T> e;
        if (fused.bias) e.bias = bias;
        if (fused.gelu) e.pre_gelu = gelu_of, e.gelu = true;
        if (fused.gelu_grad) e.times_gelu_grad_of = gelu_of;
        if (fused.residual) e.residual = residual;
        if (!dw) return gemm<T, T>(dev, s, c, a, b, e);
        e.sum_a = sum_a;
        gemm<T, acc<T>>(dev, s, c, a, b, e);
      });
}
void add_products(CaseMaker& make) {
  make.group = "gemm";
  const int64_t d = make.s.width;
  const auto linear = [&](const std::string& name, int64_t n, int64_t k, Fused forward, Fused dx) {
    add_product(make, name, Product::Forward, n, k, forward);
    add_product(make, name + ".dx", Product::Dx, n, k, dx);
    add_product(make, name + ".dw", Product::Dw, n, k, {});
  };
  linear("qkv", 3 * d, d, {.bias = true}, {});
  linear("proj", d, d, {.bias = true, .residual = true}, {});
  linear("fc1", 4 * d, d, {.bias = true, .gelu = true}, {});
  linear("fc2", d, 4 * d, {.bias = true, .residual = true}, {.gelu_grad = true});
}

template <class T>
Heads<T> view(T* packed, int64_t at, int64_t ld) {
  return {packed + at, ld};
}
void add_self_attention(CaseMaker& make, const std::string& name, const AttentionShape& s) {
  const int64_t b = s.batch, t = s.queries, d = s.heads * s.head_dim, rows = b * t;
  const std::vector<int64_t> shape{b, s.heads, t, s.head_dim};
  make.add(
      {name, shape, 2 * (t + s.head_dim), s.forward_flops(), make.bytes(4 * rows * d)},
      {make.out("y", rows * d, kRounding), make.acc_out("lse", rows * s.heads), make.in("qkv", 3 * rows * d)},
      "attention_forward", [=]<class T>(auto dev, T, auto y, auto lse, auto qkv) {
        const T* x = qkv;
        attention_forward<T>(dev, s, view<T>(y, 0, d), lse, view(x, 0, 3 * d), view(x, d, 3 * d),
                             view(x, 2 * d, 3 * d));
      });
  make.add({name + ".backward", shape, 3 * (t + s.head_dim), 2.5 * s.forward_flops(),
            make.bytes(8 * rows * d), "FLOPs as public charts count them: 2.5 x forward, 5 products"},
           {make.out("dqkv", 3 * rows * d, kRounding), make.in("dy", rows * d), make.in("qkv", 3 * rows * d),
            make.in("y", rows * d), make.acc_in("lse", rows * s.heads)},
           "attention_backward", [=]<class T>(auto dev, T, auto dqkv, auto dy, auto qkv, auto y, auto lse) {
             T* dx = dqkv;
             const T* x = qkv;
             attention_backward<T>(dev, s, view(dx, 0, 3 * d), view(dx, d, 3 * d), view(dx, 2 * d, 3 * d),
                                   view<const T>(dy, 0, d), view(x, 0, 3 * d), view(x, d, 3 * d),
                                   view(x, 2 * d, 3 * d), view<const T>(y, 0, d), lse);
           });
}
void add_attention(CaseMaker& make) {
  make.group = "attention";
  const int64_t b = make.s.batch, t = make.s.tokens, heads = make.s.heads;
  add_self_attention(make, "attention", {b, heads, t, t, make.s.width / heads});
  // The text transformer of CLIP, whatever the model.
  add_self_attention(make, "attention.causal", {b, 8, 77, 77, 64, {.causal = true}});
}

void add_pixels(CaseMaker& make) {
  make.group = "image";
  const int64_t b = make.s.batch, height = make.s.height, width = make.s.image_width,
                crop = std::min(height, width);
  const int64_t values = b * 3 * height * width, cropped = b * 3 * crop * crop;
  // The sources name the pixels of their own call.
  const auto sources = [=](void* const* arrays) {
    std::vector<char> bytes(static_cast<size_t>(b) * sizeof(CropSource));
    for (int64_t i = 0; i < b; ++i) {
      const CropSource source{static_cast<const uint8_t*>(arrays[1]) + i * height * width * 3,
                              static_cast<int32_t>(width),
                              static_cast<int32_t>(height),
                              0,
                              0,
                              static_cast<int32_t>(i % 2)};
      std::memcpy(bytes.data() + static_cast<size_t>(i) * sizeof source, &source, sizeof source);
    }
    return bytes;
  };
  make.add(
      {"crop_normalise", {b, 3, crop, crop}, 1, 0, static_cast<double>(cropped) + make.bytes(cropped)},
      {make.out("y", cropped),
       make.numbers<uint8_t>("pixels", ArrayRole::In, values, [](int64_t i) { return i * i / 7 % 256; }),
       {"sources", ArrayRole::In, DType::I64, b * int64_t{sizeof(CropSource) / 8}, Equal::Bits, sources}},
      "crop_normalise", [=]<class T>(auto dev, T, auto y, auto, auto from) {
        crop_normalise<T>(dev, y, from, {{.5f, .5f, .5f}, {.2f, .2f, .2f}}, b, crop);
      });
}

}  // namespace

void add_backbone_cases(CaseMaker& make) {
  add_norms(make);
  add_products(make);
  add_attention(make);
  add_pixels(make);
}

}  // namespace qfm
