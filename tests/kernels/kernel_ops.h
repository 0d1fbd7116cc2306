// The CPU kernels as one table of differentiable operations, for tests that hold for all of them.
#pragma once
#include <algorithm>
#include <functional>
#include <limits>
#include <vector>

#include "engine/base/rng.h"
#include "kernels/image/patchify.h"
#include "kernels/loss/loss.h"
#include "kernels/norm/layernorm.h"
#include "kernels/pointwise/elementwise.h"
#include "kernels/pointwise/gelu.h"
#include "kernels/reduce/reduce.h"
#include "kernels/reduce/softmax.h"
#include "tests/scopes.h"

namespace qfm::test {

using Doubles = std::vector<double>;
inline constexpr Cpu cpu;

// Through the plain casts, whatever the path: they are tested by themselves.
template <class To, class From>
std::vector<To> converted(const std::vector<From>& x) {
  PathScope plain(CpuIsa::Plain);
  std::vector<To> y(x.size());
  cast(cpu, y.data(), x.data(), static_cast<int64_t>(x.size()));
  return y;
}
template <class T>
std::vector<T> random(const char* name, uint32_t index, int64_t n, double spread = 1.5) {
  Rng rng(7, name, index);
  Doubles x(static_cast<size_t>(n));
  for (double& v : x) v = spread * static_cast<double>(rng.normal());
  return converted<T>(x);
}
// An output before the kernel runs: what it does not write is seen.
template <class T>
std::vector<T> unwritten(int64_t n) {
  return converted<T>(Doubles(static_cast<size_t>(n), std::numeric_limits<double>::quiet_NaN()));
}

template <class T>
struct Op {
  using Inputs = std::vector<std::vector<T>>;
  const char* name;
  std::vector<int64_t> sizes;  // elements of each input
  std::function<Doubles(const Inputs&)> forward;
  std::function<std::vector<Doubles>(const Inputs&, const std::vector<T>& dy)>
      backward;  // one for each input
};

template <class T>
Op<T> layernorm_op(int64_t r, int64_t c) {
  struct Saved {
    std::vector<T> y;
    std::vector<acc<T>> mean, rstd;
  };
  const auto run = [=](const auto& in) {
    Saved s{unwritten<T>(r * c), unwritten<acc<T>>(r), unwritten<acc<T>>(r)};
    layernorm_forward(cpu, s.y.data(), s.mean.data(), s.rstd.data(), in[0].data(), in[1].data(), in[2].data(),
                      r, c, 1e-6);
    return s;
  };
  return {"layernorm",
          {r * c, c, c},
          [=](const auto& in) { return converted<double>(run(in).y); },
          [=](const auto& in, const auto& dy) -> std::vector<Doubles> {
            const Saved s = run(in);
            auto dx = unwritten<T>(r * c);
            auto dw = unwritten<acc<T>>(c), db = dw, work = unwritten<acc<T>>(layernorm_workspace(r, c));
            layernorm_backward(cpu, dx.data(), dw.data(), db.data(), dy.data(), in[0].data(), in[1].data(),
                               s.mean.data(), s.rstd.data(), work.data(), r, c);
            return {converted<double>(dx), converted<double>(dw), converted<double>(db)};
          }};
}

// An operation of one input whose kernels take (output, input, sizes...) and (dx, dy, saved, sizes...), where
// saved is the input or the output.
enum class Saves { Input, Output };
template <class T, class Forward, class Backward>
Op<T> unary_op(const char* name, Saves saves, int64_t n, Forward f, Backward b) {
  const auto run = [=](const auto& in) {
    auto y = unwritten<T>(n);
    f(y.data(), in[0].data());
    return y;
  };
  return {name,
          {n},
          [=](const auto& in) { return converted<double>(run(in)); },
          [=](const auto& in, const auto& dy) -> std::vector<Doubles> {
            auto dx = unwritten<T>(n);
            b(dx.data(), dy.data(), saves == Saves::Input ? in[0].data() : run(in).data());
            return {converted<double>(dx)};
          }};
}

template <class T>
Op<T> layerscale_op(int64_t r, int64_t c) {
  return {"layerscale",
          {r * c, c, r * c},
          [=](const auto& in) {
            auto y = unwritten<T>(r * c);
            layerscale_forward(cpu, y.data(), in[0].data(), in[1].data(), in[2].data(), r, c);
            return converted<double>(y);
          },
          [=](const auto& in, const auto& dy) -> std::vector<Doubles> {
            auto dx = unwritten<T>(r * c);
            auto dgamma = unwritten<acc<T>>(c);
            layerscale_backward(cpu, dx.data(), dgamma.data(), dy.data(), in[0].data(), in[1].data(), r, c);
            return {converted<double>(dx), converted<double>(dgamma), converted<double>(dy)};
          }};
}

// The batch of the operations on (batch, tokens, dim), so that tokens = r and dim = c.
inline constexpr int64_t kBatch = 3;

template <class T>
Op<T> gate_op(int64_t r, int64_t c) {
  return {"gate",
          {kBatch * r * c, kBatch * c},
          [=](const auto& in) {
            auto y = unwritten<T>(kBatch * r * c);
            gate_forward(cpu, y.data(), in[0].data(), in[1].data(), kBatch, r, c);
            return converted<double>(y);
          },
          [=](const auto& in, const auto& dy) -> std::vector<Doubles> {
            auto dx = unwritten<T>(kBatch * r * c), dg = unwritten<T>(kBatch * c);
            gate_backward(cpu, dx.data(), dg.data(), dy.data(), in[0].data(), in[1].data(), kBatch, r, c);
            return {converted<double>(dx), converted<double>(dg)};
          }};
}

template <class T>
Op<T> add_broadcast_op(int64_t r, int64_t c) {
  return {"add_broadcast",
          {r * c, c},
          [=](const auto& in) {
            auto y = unwritten<T>(r * c);
            add_broadcast(cpu, y.data(), in[0].data(), in[1].data(), r, c);
            return converted<double>(y);
          },
          [=](const auto&, const auto& dy) -> std::vector<Doubles> {
            auto dp = unwritten<acc<T>>(c);
            sum_rows(cpu, dp.data(), dy.data(), r, c);
            return {converted<double>(dy), converted<double>(dp)};
          }};
}

template <class T>
Op<T> l2norm_op(int64_t r, int64_t c) {
  const auto run = [=](const auto& in, auto& norm) {
    auto y = unwritten<T>(r * c);
    l2norm_forward(cpu, y.data(), norm.data(), in[0].data(), r, c, 1e-12);
    return y;
  };
  return {"l2norm",
          {r * c},
          [=](const auto& in) {
            auto norm = unwritten<acc<T>>(r);
            return converted<double>(run(in, norm));
          },
          [=](const auto& in, const auto& dy) -> std::vector<Doubles> {
            auto norm = unwritten<acc<T>>(r);
            auto y = run(in, norm), dx = unwritten<T>(r * c);
            l2norm_backward(cpu, dx.data(), dy.data(), y.data(), norm.data(), r, c, 1e-12);
            return {converted<double>(dx)};
          }};
}

template <class T>
Op<T> cosine_op(int64_t r, int64_t c) {
  return {"cosine",
          {r * c, r * c},
          [=](const auto& in) {
            auto y = unwritten<T>(r);
            cosine_forward(cpu, y.data(), in[0].data(), in[1].data(), r, c, 1e-8);
            return converted<double>(y);
          },
          [=](const auto& in, const auto& dy) -> std::vector<Doubles> {
            auto da = unwritten<T>(r * c), db = da;
            cosine_backward(cpu, da.data(), db.data(), dy.data(), in[0].data(), in[1].data(), r, c, 1e-8);
            return {converted<double>(da), converted<double>(db)};
          }};
}

// Losses: the gradient comes with the value, for dy = 1.
template <class T, class Loss>
Op<T> loss_op(const char* name, int64_t n, Loss loss) {
  const auto run = [=](const auto& in, std::vector<T>& grad) {
    auto value = unwritten<acc<T>>(1);
    loss(value.data(), grad.data(), in[0].data(), in[1].data(), n);
    return converted<double>(value);
  };
  const auto backward = [=](const auto& in, const auto& dy) -> std::vector<Doubles> {
    auto grad = unwritten<T>(n);
    run(in, grad);
    Doubles dp = converted<double>(grad), dt;
    for (double& g : dp) dt.push_back(-(g *= converted<double>(dy)[0]));
    return {dp, dt};
  };
  return {name,
          {n, n},
          [=](const auto& in) {
            auto grad = unwritten<T>(n);
            return run(in, grad);
          },
          backward};
}

template <class T>
std::vector<Op<T>> operations(int64_t r, int64_t c) {
  using P = const T*;
  const int64_t n = r * c;
  const PatchShape patches{2, 3, 2 * 4, 3 * 4, 4};
  const TokenCopy slice{kBatch, r, c, r, 0, r + 2, 1}, back{kBatch, r, c, r + 2, 1, r, 0};
  std::vector<Op<T>> ops{layernorm_op<T>(r, c),     layerscale_op<T>(r, c), gate_op<T>(r, c),
                         add_broadcast_op<T>(r, c), l2norm_op<T>(r, c),     cosine_op<T>(r, c)};
  ops.push_back(unary_op<T>(
      "gelu", Saves::Input, n, [=](T* y, P x) { gelu_forward(cpu, y, x, n); },
      [=](T* dx, P dy, P x) { gelu_backward(cpu, dx, dy, x, n); }));
  ops.push_back(unary_op<T>(
      "softmax", Saves::Output, n, [=](T* y, P x) { softmax_forward(cpu, y, x, r, c); },
      [=](T* dx, P dy, P y) { softmax_backward(cpu, dx, dy, y, r, c); }));
  ops.push_back(unary_op<T>(
      "sigmoid", Saves::Output, n, [=](T* y, P x) { sigmoid_forward(cpu, y, x, n); },
      [=](T* dx, P dy, P y) { sigmoid_backward(cpu, dx, dy, y, n); }));
  ops.push_back(unary_op<T>(
      "scale", Saves::Input, n, [=](T* y, P x) { scale(cpu, y, x, 0.37, n); },
      [=](T* dx, P dy, P) { scale(cpu, dx, dy, 0.37, n); }));
  ops.push_back(unary_op<T>(
      "double", Saves::Input, n, [=](T* y, P x) { add(cpu, y, x, x, n); },
      [=](T* dx, P dy, P) { add(cpu, dx, dy, dy, n); }));
  ops.push_back(loss_op<T>("smooth_l1", n, [](auto* loss, auto* grad, auto* p, auto* t, int64_t count) {
    smooth_l1(cpu, loss, grad, p, t, 0.8, count);
  }));
  ops.push_back({"patchify",
                 {2 * 3 * 8 * 12},
                 [=](const auto& in) {
                   auto y = unwritten<T>(2 * 3 * 8 * 12);
                   patchify(cpu, patches, y.data(), in[0].data());
                   return converted<double>(y);
                 },
                 [=](const auto&, const auto& dy) -> std::vector<Doubles> {
                   auto dx = unwritten<T>(2 * 3 * 8 * 12);
                   unpatchify(cpu, patches, dx.data(), dy.data());
                   return {converted<double>(dx)};
                 }});
  ops.push_back({"slice",
                 {kBatch * (r + 2) * c},
                 [=](const auto& in) {
                   auto y = unwritten<T>(kBatch * n);
                   copy_tokens(cpu, slice, y.data(), in[0].data());
                   return converted<double>(y);
                 },
                 [=](const auto&, const auto& dy) -> std::vector<Doubles> {
                   auto dx = converted<T>(Doubles(kBatch * (r + 2) * c));
                   copy_tokens(cpu, back, dx.data(), dy.data());
                   return {converted<double>(dx)};
                 }});
  ops.push_back({"mean_tokens",
                 {kBatch * n},
                 [=](const auto& in) {
                   auto y = unwritten<T>(kBatch * c);
                   mean_tokens_forward(cpu, y.data(), in[0].data(), kBatch, r, c);
                   return converted<double>(y);
                 },
                 [=](const auto&, const auto& dy) -> std::vector<Doubles> {
                   auto dx = unwritten<T>(kBatch * n);
                   mean_tokens_backward(cpu, dx.data(), dy.data(), kBatch, r, c);
                   return {converted<double>(dx)};
                 }});
  return ops;
}

}  // namespace qfm::test
