// Cases of the backbone's kernels: forward, backward, and the pixels on their way in.
#include "tools/bench/kernel_cases.h"

#include "engine/memory/memory.h"
#include "kernels/attention/attention.h"
#include "kernels/gemm/gemm.h"
#include "kernels/image/crops.h"
#include "kernels/image/patchify.h"
#include "kernels/norm/layernorm.h"
#include "kernels/pointwise/elementwise.h"
#include "kernels/pointwise/gelu.h"
#include "kernels/reduce/reduce.h"
#include "kernels/reduce/softmax.h"
#include "tools/bench/case_maker.h"

namespace qfm {
namespace {

void add_norms(CaseMaker& make) {
  const int64_t m = make.b * make.t, n = make.d;
  const Array area = make.of({m, n}), row = make.of({n}), stats = make.sums({m}), sums = make.sums({n});
  const auto streams = [&](int count) { return count * make.bytes(m * n); };
  make.add({"layernorm", "layernorm_forward", {m, n}, 0, streams(2)}, {area, stats, stats, area, row, row},
           [=]<class T>(auto dev, T, const BufferSet& at) {
             layernorm_forward<T>(dev, at[0], at[1], at[2], at[3], at[4], at[5], m, n, 1e-6);
           });
  make.add({"layernorm.backward", "layernorm_backward", {m, n}, 0, streams(3)},
           {area, sums, sums, area, area, row, stats, stats, make.sums({layernorm_workspace(m, n)})},
           [=]<class T>(auto dev, T, const BufferSet& at) {
             layernorm_backward<T>(dev, at[0], at[1], at[2], at[3], at[4], at[5], at[6], at[7], at[8], m, n);
           });
  make.add({"residual_layernorm", "residual_layernorm_forward", {m, n}, 0, streams(4)},
           {area, area, stats, stats, area, row, area, row, row},
           [=]<class T>(auto dev, T, const BufferSet& at) {
             residual_layernorm_forward<T>(dev, at[0], at[1], at[2], at[3], at[4], at[5], at[6], at[7], at[8],
                                           m, n, 1e-6);
           });
  make.add({"residual_layernorm.backward", "residual_layernorm_backward", {m, n}, 0, streams(6)},
           {area, area, sums, sums, sums, area, area, area, area, row, row, stats, stats},
           [=]<class T>(auto dev, T, const BufferSet& at) {
             residual_layernorm_backward<T>(dev, at[0], at[1], at[2], at[3], at[4], at[5], at[6], at[7],
                                            at[8], at[9], at[10], at[11], at[12], m, n);
           });
}

enum class Product { Forward, Dx, Dw };
struct Fused {
  bool bias = false, gelu = false, residual = false, gelu_grad = false;
};
// One Linear (n, k) over all rows, in one of its three directions.
void add_product(CaseMaker& make, const std::string& name, Product what, int64_t n, int64_t k, Fused fused) {
  const int64_t m = make.b * make.t;
  const GemmShape s = what == Product::Forward ? GemmShape{m, n, k, false, true}
                      : what == Product::Dx    ? GemmShape{m, k, n, false, false}
                                               : GemmShape{n, k, m, true, false};
  const Shape out{s.m, s.n}, none{1};
  const bool dw = what == Product::Dw, pre = fused.gelu || fused.gelu_grad;
  const double written = dw ? make.sum_bytes(s.m * s.n) : make.bytes(s.m * s.n);
  const double bytes =
      make.bytes(s.m * s.k + s.k * s.n + (int64_t{pre} + int64_t{fused.residual}) * s.m * s.n) + written;
  make.add({name, "gemm", {s.m, s.n, s.k}, s.flops(), bytes},
           {dw ? make.sums(out) : make.of(out), make.of({s.m, s.k}), make.of({s.k, s.n}), make.of({s.n}),
            make.of(pre ? out : none), make.of(fused.residual ? out : none), make.sums({s.m})},
           [=]<class T>(auto dev, T, const BufferSet& at) {
             GemmEpilogue<T> e;
             if (fused.bias) e.bias = at[3];
             if (fused.gelu) e.pre_gelu = at[4], e.gelu = true;
             if (fused.gelu_grad) e.times_gelu_grad_of = at[4];
             if (fused.residual) e.residual = at[5];
             if (!dw) return gemm<T, T>(dev, s, at[0], at[1], at[2], e);
             e.sum_a = at[6];
             gemm<T, acc<T>>(dev, s, at[0], at[1], at[2], e);
           });
}
void add_products(CaseMaker& make) {
  const int64_t d = make.d;
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
void add_attention(CaseMaker& make) {
  const int64_t b = make.b, t = make.t, d = make.d;
  const AttentionShape s{b, make.h, t, t, d / make.h};
  const Array qkv = make.of({b, t, 3 * d}), o = make.of({b, t, d}), lse = make.sums({b, s.heads, t});
  make.add({"attention",
            "attention_forward",
            {b, s.heads, t, s.head_dim},
            s.forward_flops(),
            make.bytes(4 * b * t * d)},
           {o, lse, qkv}, [=]<class T>(auto dev, T, const BufferSet& at) {
             const T* x = at[2];
             attention_forward<T>(dev, s, view<T>(at[0], 0, d), at[1], view(x, 0, 3 * d), view(x, d, 3 * d),
                                  view(x, 2 * d, 3 * d));
           });
  make.add({"attention.backward",
            "attention_backward",
            {b, s.heads, t, s.head_dim},
            2.5 * s.forward_flops(),
            make.bytes(8 * b * t * d),
            "FLOPs as public charts count them: 2.5 x forward, 5 products"},
           {qkv, o, qkv, o, lse}, [=]<class T>(auto dev, T, const BufferSet& at) {
             T* dx = at[0];
             const T* x = at[2];
             attention_backward<T>(dev, s, view(dx, 0, 3 * d), view(dx, d, 3 * d), view(dx, 2 * d, 3 * d),
                                   view<const T>(at[1], 0, d), view(x, 0, 3 * d), view(x, d, 3 * d),
                                   view(x, 2 * d, 3 * d), view<const T>(at[3], 0, d), at[4]);
           });
}

// call(dev, T{}, y, x, z, n): elementwise over n elements with `streams` arrays, at most three.
template <class Call>
void add_simple(CaseMaker& make, const std::string& name, const std::string& kernel, Shape shape, int streams,
                Call call) {
  const int64_t n = shape.numel();
  make.add({name, kernel, {n}, 0, streams * make.bytes(n)},
           {make.of(shape), make.of(shape), make.of(streams > 2 ? shape : Shape{1})},
           [=]<class T>(auto dev, T type, const BufferSet& at) {
             T* y = at[0];
             const T *x = at[1], *z = at[2];
             call(dev, type, y, x, z, n);
           });
}
void add_elementwise(CaseMaker& make) {
  const int64_t rows = make.b * make.t, d = make.d, b = make.b, t = make.t;
  const Shape hidden{rows, 4 * d}, area{rows, d};
  const auto simple = [&](const char* name, const char* kernel, Shape shape, int streams, auto call) {
    add_simple(make, name, kernel, shape, streams, call);
  };
  simple("gelu", "gelu_forward", hidden, 2,
         [](auto dev, auto, auto* y, auto* x, auto*, int64_t n) { gelu_forward(dev, y, x, n); });
  simple("gelu.backward", "gelu_backward", hidden, 3,
         [](auto dev, auto, auto* y, auto* x, auto* z, int64_t n) { gelu_backward(dev, y, x, z, n); });
  simple("sigmoid", "sigmoid_forward", area, 2,
         [](auto dev, auto, auto* y, auto* x, auto*, int64_t n) { sigmoid_forward(dev, y, x, n); });
  simple("sigmoid.backward", "sigmoid_backward", area, 3,
         [](auto dev, auto, auto* y, auto* x, auto* z, int64_t n) { sigmoid_backward(dev, y, x, z, n); });
  simple("add", "add", area, 3,
         [](auto dev, auto, auto* y, auto* x, auto* z, int64_t n) { add(dev, y, x, z, n); });
  simple("scale", "scale", area, 2,
         [](auto dev, auto, auto* y, auto* x, auto*, int64_t n) { scale(dev, y, x, 0.5, n); });
  make.add({"scale_by", "scale_by", {rows * d}, 0, make.bytes(2 * rows * d)},
           {make.of(area), make.of(area), make.sums({1})},
           [n = rows * d]<class T>(auto dev, T, const BufferSet& at) {
             scale_by<T>(dev, at[0], at[1], at[2], n);
           });
  make.add({"cast", "cast", {rows * d}, 0, make.bytes(rows * d) + make.sum_bytes(rows * d)},
           {make.sums(area), make.of(area)}, [n = rows * d]<class T>(auto dev, T, const BufferSet& at) {
             cast<acc<T>, T>(dev, at[0], at[1], n);
           });
  make.add({"add_position", "add_broadcast", {b, t * d}, 0, make.bytes(2 * rows * d)},
           {make.of(area), make.of(area), make.of({t, d})}, [=]<class T>(auto dev, T, const BufferSet& at) {
             add_broadcast<T>(dev, at[0], at[1], at[2], b, t * d);
           });
}

void add_rowwise(CaseMaker& make) {
  const int64_t b = make.b, t = make.t, d = make.d, n = make.n, rows = b * t, scores = b * make.h * t;
  const Array area = make.of({rows, d}), row = make.of({d}), attention = make.of({scores, t});
  make.add({"layerscale", "layerscale_forward", {rows, d}, 0, make.bytes(3 * rows * d)},
           {area, area, row, area}, [=]<class T>(auto dev, T, const BufferSet& at) {
             layerscale_forward<T>(dev, at[0], at[1], at[2], at[3], rows, d);
           });
  make.add({"layerscale.backward", "layerscale_backward", {rows, d}, 0, make.bytes(3 * rows * d)},
           {area, make.sums({d}), area, area, row}, [=]<class T>(auto dev, T, const BufferSet& at) {
             layerscale_backward<T>(dev, at[0], at[1], at[2], at[3], at[4], rows, d);
           });
  make.add(
      {"softmax", "softmax_forward", {scores, t}, 0, make.bytes(2 * scores * t)}, {attention, attention},
      [=]<class T>(auto dev, T, const BufferSet& at) { softmax_forward<T>(dev, at[0], at[1], scores, t); });
  make.add({"softmax.backward", "softmax_backward", {scores, t}, 0, make.bytes(3 * scores * t)},
           {attention, attention, attention}, [=]<class T>(auto dev, T, const BufferSet& at) {
             softmax_backward<T>(dev, at[0], at[1], at[2], scores, t);
           });
  // The patches without the CLS token.
  const TokenCopy slice{b, n, d, n, 0, t, t - n};
  make.add({"copy_tokens", "copy_tokens", {b, n, d}, 0, make.bytes(2 * b * n * d)},
           {make.of({b, n, d}), area},
           [=]<class T>(auto dev, T, const BufferSet& at) { copy_tokens<T>(dev, slice, at[0], at[1]); });
  make.add({"sum_rows", "sum_rows", {rows, 4 * d}, 0, make.bytes(4 * rows * d)},
           {make.sums({4 * d}), make.of({rows, 4 * d})},
           [=]<class T>(auto dev, T, const BufferSet& at) { sum_rows<T>(dev, at[0], at[1], rows, 4 * d); });
}

void add_pixels(CaseMaker& make) {
  const int64_t b = make.b, crop = make.vit.image_width, height = make.vit.image_height;
  const PatchShape p{b, 3, height, crop, make.vit.patch};
  const int64_t values = b * 3 * height * crop;
  const Array images = make.of({b, 3, height, crop});
  make.add({"patchify", "patchify", {values}, 0, make.bytes(2 * values)}, {images, images},
           [=]<class T>(auto dev, T, const BufferSet& at) { patchify<T>(dev, p, at[0], at[1]); });
  make.add({"unpatchify", "unpatchify", {values}, 0, make.bytes(2 * values)}, {images, images},
           [=]<class T>(auto dev, T, const BufferSet& at) { unpatchify<T>(dev, p, at[0], at[1]); });
  // The sources name the pixels of their own turn.
  const auto prepare = [=](const ColdBuffers& rotation) {
    const Buffer pixels = rotation({b, height, crop, 3}, DType::U8), out = rotation({b, 3, height, crop});
    std::vector<Tensor> sources;
    for (size_t i = 0; i < rotation.copies; ++i) {
      std::vector<CropSource> names;
      for (int64_t at = 0; at < b; ++at)
        names.push_back({pixels[i].data<uint8_t>() + at * height * crop * 3, static_cast<int32_t>(crop),
                         static_cast<int32_t>(height), 0, 0, static_cast<int32_t>(at % 2)});
      sources.push_back(Tensor({b * int64_t{sizeof(CropSource)}}, DType::U8, rotation.where.device));
      copy_bytes(rotation.where.device, sources[i].raw(), cpu_device, names.data(), sources[i].bytes());
    }
    return [=](size_t i) {
      const auto* from = static_cast<const CropSource*>(sources[i % sources.size()].raw());
      dispatch({"crop_normalise"}, out[i], [&](auto dev, auto t) {
        using T = decltype(t);
        crop_normalise<T>(dev, ptr<T>(out[i]), from, {{.5f, .5f, .5f}, {.2f, .2f, .2f}}, b, crop);
      });
    };
  };
  make.add_prepared({"crop_normalise",
                     "crop_normalise",
                     {b, 3, height, crop},
                     0,
                     static_cast<double>(values) + make.bytes(values)},
                    prepare);
}

}  // namespace

void add_transformer_cases(CaseMaker& make) {
  add_norms(make);
  add_products(make);
  add_attention(make);
  add_elementwise(make);
  add_rowwise(make);
  add_pixels(make);
}

std::vector<KernelCase> kernel_cases(const ModelConfig& model, int64_t batch, Placement where,
                                     int64_t cold_bytes) {
  CaseMaker make(model, batch, where, cold_bytes);
  add_transformer_cases(make);
  add_training_cases(make);
  return make.take();
}

}  // namespace qfm
