#include "tools/kernel_cases.h"

#include "engine/dispatch.h"
#include "kernels/attention.h"
#include "kernels/elementwise.h"
#include "kernels/gelu.h"
#include "kernels/gemm.h"
#include "kernels/layernorm.h"
#include "kernels/patchify.h"
#include "kernels/reduce.h"
#include "kernels/softmax.h"
#include "tools/rotation.h"

namespace qfm {
namespace {

std::string text(std::initializer_list<int64_t> dims) {
  std::string s;
  for (int64_t d : dims) s += (s.empty() ? "" : "x") + std::to_string(d);
  return s;
}

class Cases {
 public:
  Cases(const VitConfig& vit, int64_t batch, Placement where, int64_t beyond)
      : b_(batch),
        t_(vit.tokens()),
        d_(vit.width),
        h_(vit.heads),
        rows_(batch * vit.tokens()),
        vit_(vit),
        where_(where),
        beyond_(beyond) {}

  std::vector<KernelCase> all() {
    norms(), products(), attention(), elementwise(), reductions();
    return std::move(cases_);
  }

 private:
  // `prepare` is given a Rotation and returns what runs once.
  template <class Prepare>
  void add(const std::string& name, std::string shape, double flops, double elements, Prepare prepare) {
    const double bytes = elements * static_cast<double>(size_of(where_.dtype));
    const Rotation make(where_, bytes, beyond_);
    cases_.push_back(
        {name, std::move(shape), flops, bytes, [prepare, make] { return KernelCase::Run(prepare(make)); }});
  }

  void norms() {
    const int64_t m = rows_, n = d_;
    const auto area = static_cast<double>(m * n);
    add("layernorm", text({m, n}), 0, 2 * area, [=](const Rotation& make) {
      return [=, x = make({m, n}), y = make({m, n}), w = make({n}), b = make({n}), mean = make({m}, true),
              rstd = make({m}, true)](size_t i) {
        dispatch({"layernorm"}, x[i], [&](auto dev, auto t) {
          using T = decltype(t);
          layernorm_forward<T>(dev, ptr<T>(y[i]), ptr<acc<T>>(mean[i]), ptr<acc<T>>(rstd[i]),
                               ptr<const T>(x[i]), ptr<const T>(w[i]), ptr<const T>(b[i]), m, n, 1e-6);
        });
      };
    });
    add("layernorm.backward", text({m, n}), 0, 3 * area, [=](const Rotation& make) {
      return [=, x = make({m, n}), dy = make({m, n}), dx = make({m, n}), w = make({n}),
              mean = make({m}, true), rstd = make({m}, true), dw = make({n}, true), db = make({n}, true),
              work = make({layernorm_workspace(m, n)}, true)](size_t i) {
        dispatch({"layernorm.backward"}, x[i], [&](auto dev, auto t) {
          using T = decltype(t);
          layernorm_backward<T>(dev, ptr<T>(dx[i]), ptr<acc<T>>(dw[i]), ptr<acc<T>>(db[i]),
                                ptr<const T>(dy[i]), ptr<const T>(x[i]), ptr<const T>(w[i]),
                                ptr<const acc<T>>(mean[i]), ptr<const acc<T>>(rstd[i]), ptr<acc<T>>(work[i]),
                                m, n);
        });
      };
    });
  }

  enum class Product { Forward, Dx, Dw };
  struct Fused {
    bool bias = false, gelu = false, residual = false, gelu_grad = false;
  };
  // One Linear (n, k) over all rows, in one of its three directions.
  void product(const std::string& name, Product what, int64_t n, int64_t k, Fused fused) {
    const int64_t m = rows_;
    const GemmShape s = what == Product::Forward ? GemmShape{m, n, k, false, true}
                        : what == Product::Dx    ? GemmShape{m, k, n, false, false}
                                                 : GemmShape{n, k, m, true, false};
    const double extra =
        (fused.gelu ? 1.0 : 0.0) + (fused.residual ? 1.0 : 0.0) + (fused.gelu_grad ? 1.0 : 0.0);
    const double elements =
        static_cast<double>(s.m * s.k + s.k * s.n) + (1 + extra) * static_cast<double>(s.m * s.n);
    add(name, text({s.m, s.n, s.k}), s.flops(), elements, [=](const Rotation& make) {
      const Shape out{s.m, s.n};
      return [=, a = make({s.m, s.k}), w = make({s.k, s.n}), c = make(out, what == Product::Dw),
              bias = make({s.n}), pre = make(fused.gelu || fused.gelu_grad ? out : Shape{1}),
              residual = make(fused.residual ? out : Shape{1}), db = make({s.m}, true)](size_t i) {
        dispatch({"gemm"}, a[i], [&](auto dev, auto t) {
          using T = decltype(t);
          GemmEpilogue<T> e;
          if (fused.bias) e.bias = ptr<const T>(bias[i]);
          if (fused.gelu) e.pre_gelu = ptr<T>(pre[i]), e.gelu = true;
          if (fused.gelu_grad) e.times_gelu_grad_of = ptr<const T>(pre[i]);
          if (fused.residual) e.residual = ptr<const T>(residual[i]);
          if (what == Product::Dw) {
            e.sum_a = ptr<acc<T>>(db[i]);
            gemm<T, acc<T>>(dev, s, ptr<acc<T>>(c[i]), ptr<const T>(a[i]), ptr<const T>(w[i]), e);
          } else {
            gemm<T, T>(dev, s, ptr<T>(c[i]), ptr<const T>(a[i]), ptr<const T>(w[i]), e);
          }
        });
      };
    });
  }
  void products() {
    const int64_t d = d_;
    const auto linear = [&](const std::string& name, int64_t n, int64_t k, Fused forward, Fused dx) {
      product(name, Product::Forward, n, k, forward);
      product(name + ".dx", Product::Dx, n, k, dx);
      product(name + ".dw", Product::Dw, n, k, {});
    };
    linear("qkv", 3 * d, d, {.bias = true}, {});
    linear("proj", d, d, {.bias = true, .residual = true}, {});
    linear("fc1", 4 * d, d, {.bias = true, .gelu = true}, {});
    linear("fc2", d, 4 * d, {.bias = true, .residual = true}, {.gelu_grad = true});
  }

  void attention() {
    const AttentionShape s{b_, h_, t_, t_, d_ / h_};
    const int64_t b = b_, t = t_, d = d_;
    const auto area = static_cast<double>(rows_ * d_);
    const std::string shape = text({b, h_, t, d / h_});
    const auto view = [d](auto* data, int64_t at) {
      return Heads<std::remove_pointer_t<decltype(data)>>{data + at, 3 * d};
    };
    add("attention", shape, s.forward_flops(), 4 * area, [=](const Rotation& make) {
      return
          [=, qkv = make({b, t, 3 * d}), o = make({b, t, d}), lse = make({b, s.heads, t}, true)](size_t i) {
            dispatch({"attention"}, qkv[i], [&](auto dev, auto type) {
              using T = decltype(type);
              const T* x = ptr<const T>(qkv[i]);
              attention_forward<T>(dev, s, Heads<T>{ptr<T>(o[i]), d}, ptr<acc<T>>(lse[i]), view(x, 0),
                                   view(x, d), view(x, 2 * d));
            });
          };
    });
    add("attention.backward", shape, 2 * s.forward_flops(), 8 * area, [=](const Rotation& make) {
      return [=, qkv = make({b, t, 3 * d}), dqkv = make({b, t, 3 * d}), o = make({b, t, d}),
              d_o = make({b, t, d}), lse = make({b, s.heads, t}, true)](size_t i) {
        dispatch({"attention.backward"}, qkv[i], [&](auto dev, auto type) {
          using T = decltype(type);
          const T* x = ptr<const T>(qkv[i]);
          T* dx = ptr<T>(dqkv[i]);
          attention_backward<T>(dev, s, view(dx, 0), view(dx, d), view(dx, 2 * d),
                                Heads<const T>{ptr<const T>(d_o[i]), d}, view(x, 0), view(x, d),
                                view(x, 2 * d), Heads<const T>{ptr<const T>(o[i]), d},
                                ptr<const acc<T>>(lse[i]));
        });
      };
    });
  }

  // f(dev, y, x, z, n): elementwise over `n` elements with `streams` arrays, at most three.
  template <class F>
  void simple(const std::string& name, Shape shape, int streams, F f) {
    const int64_t n = shape.numel();
    add(name, concat(n), 0, streams * static_cast<double>(n), [=](const Rotation& make) {
      return [=, x = make(shape), y = make(shape), z = make(streams > 2 ? shape : Shape{1})](size_t i) {
        dispatch({"elementwise"}, x[i], [&](auto dev, auto t) {
          using T = decltype(t);
          f(dev, ptr<T>(y[i]), ptr<const T>(x[i]), ptr<const T>(z[i]), n);
        });
      };
    });
  }
  void elementwise() {
    const Shape hidden{rows_, 4 * d_}, tokens{rows_, d_}, scores{b_ * h_, t_};
    simple("gelu", hidden, 2,
           [](auto dev, auto* y, auto* x, auto*, int64_t n) { gelu_forward(dev, y, x, n); });
    simple("gelu.backward", hidden, 3,
           [](auto dev, auto* y, auto* x, auto* z, int64_t n) { gelu_backward(dev, y, x, z, n); });
    simple("add", tokens, 3, [](auto dev, auto* y, auto* x, auto* z, int64_t n) { add_(dev, y, x, z, n); });
    simple("layerscale", tokens, 3, [rows = rows_, d = d_](auto dev, auto* y, auto* x, auto* z, int64_t) {
      layerscale_forward(dev, y, x, x, z, rows, d);
    });
    simple("softmax", scores, 2, [rows = b_ * h_, t = t_](auto dev, auto* y, auto* x, auto*, int64_t) {
      softmax_forward(dev, y, x, rows, t);
    });
    const PatchShape p{b_, 3, vit_.image_height, vit_.image_width, vit_.patch};
    simple("patchify", {b_, 3, vit_.image_height, vit_.image_width}, 2,
           [p](auto dev, auto* y, auto* x, auto*, int64_t) { patchify(dev, p, y, x); });
  }
  template <class Dev, class T>
  static void add_(Dev dev, T* y, const T* a, const T* b, int64_t n) {
    qfm::add(dev, y, a, b, n);
  }

  void reductions() {
    const int64_t m = rows_, n = 4 * d_;
    add("sum_rows", text({m, n}), 0, static_cast<double>(m * n), [=](const Rotation& make) {
      return [=, x = make({m, n}), y = make({n}, true)](size_t i) {
        dispatch({"sum_rows"}, x[i], [&](auto dev, auto t) {
          using T = decltype(t);
          sum_rows<T>(dev, ptr<acc<T>>(y[i]), ptr<const T>(x[i]), m, n);
        });
      };
    });
  }

  const int64_t b_, t_, d_, h_, rows_;
  const VitConfig vit_;
  const Placement where_;
  const int64_t beyond_;
  std::vector<KernelCase> cases_;
};

}  // namespace

std::vector<KernelCase> kernel_cases(const VitConfig& vit, int64_t batch, Placement where, int64_t beyond) {
  return Cases(vit, batch, where, beyond).all();
}

}  // namespace qfm
