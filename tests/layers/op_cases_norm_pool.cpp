#include "layers/batchnorm.h"
#include "layers/pool2d.h"
#include "tests/layers/op_cases.h"

namespace qfm::test {
namespace {

using In = std::vector<Var>;
OpInput images(Shape s) { return {s}; }
OpInput channels(int64_t c) { return {{c}, true}; }

Var by_batch(const In& v, Activation activation = Activation::None, const Var& residual = {}) {
  return batchnorm(v[0], v[1], v[2], {}, {}, 1e-5, 0.1, activation, residual);
}
// By running statistics that are not those of x.
Var by_running(const In& v, Activation activation = Activation::None, const Var& residual = {}) {
  std::vector<float> mean, var;
  for (int64_t c = 0; c < v[1].dim(0); ++c)
    mean.push_back(0.25f * static_cast<float>(c % 5) - 0.3f),
        var.push_back(0.5f + 0.125f * static_cast<float>(c % 7));
  const Device device = v[0].value.device();
  return batchnorm_fixed(v[0], v[1], v[2], Tensor::from(mean, v[1].shape()).to(device),
                         Tensor::from(var, v[1].shape()).to(device), 1e-5, activation, residual);
}

void add_batchnorm(std::vector<OpCase>& t) {
  // The last two are more than a run of the CPU's sums, and than a block of CUDA's.
  for (const Shape& s :
       {Shape{1, 1, 1, 7}, {2, 5, 3, 3}, {3, 19, 7, 7}, {1, 2, 12, 16}, {2, 1, 47, 47}, {3, 1, 44, 44}})
    t.push_back({concat("batchnorm ", s),
                 {images(s), channels(s[1]), channels(s[1])},
                 [](const In& v) { return by_batch(v); },
                 s.numel() / s[1]});
  const Shape small{2, 5, 3, 7};
  const std::vector<OpInput> inputs{images(small), channels(5), channels(5)},
      with_residual{images(small), channels(5), channels(5), images(small)};
  for (const auto& [name, a] :
       {std::pair{"relu", Activation::Relu}, {"relu6", Activation::Relu6}, {"silu", Activation::Silu}}) {
    t.push_back({concat("batchnorm ", name), inputs, [a = a](const In& v) { return by_batch(v, a); }, 42});
    t.push_back({concat("batchnorm ", name, " with a residual"), with_residual,
                 [a = a](const In& v) { return by_batch(v, a, v[3]); }, 42});
    t.push_back({concat("batchnorm_fixed ", name, " with a residual"), with_residual,
                 [a = a](const In& v) { return by_running(v, a, v[3]); }, 42});
  }
  t.push_back({"batchnorm with a residual", with_residual,
               [](const In& v) { return by_batch(v, Activation::None, v[3]); }, 42});
  t.push_back({"batchnorm_fixed", inputs, [](const In& v) { return by_running(v); }, 42});
  t.push_back({"batchnorm far from zero",
               {{{3, 2, 5, 5}, false, true, 0.05, 10}, channels(2), channels(2)},
               [](const In& v) { return by_batch(v); },
               75 * 200 * 200});
}

void add_pools(std::vector<OpCase>& t) {
  const Window three{3, 2, 1, 1}, two{2, 2}, wide{3, 1, 2, 2, 2}, uneven{5, 3, 0, 2}, one{};
  const std::vector<std::pair<Window, Window>> windows{{three, three}, {two, two},   {wide, three},
                                                       {uneven, two},  {one, three}, {one, one}};
  // Sizes at which no maximum that the finite differences move is there twice (values are those of bf16).
  for (const Shape& s : {Shape{2, 3, 13, 9}, {1, 1, 5, 41}})
    for (const auto& [down, along] : windows) {
      const std::string what =
          concat(s, " by ", down.size, "/", down.stride, " x ", along.size, "/", along.stride);
      t.push_back({"max_pool2d " + what,
                   {images(s)},
                   [down = down, along = along](const In& v) { return max_pool2d(v[0], down, along); },
                   9});
      for (const bool all : {true, false})
        t.push_back(
            {concat("mean_pool2d ", what, all ? "" : ", padding not counted"),
             {images(s)},
             [down = down, along = along, all](const In& v) { return mean_pool2d(v[0], down, along, all); },
             15});
    }
  for (const auto& [h, w] : {std::pair<int64_t, int64_t>{1, 1}, {3, 4}, {13, 1}, {17, 20}})
    t.push_back({concat("adaptive_mean_pool2d ", h, "x", w),
                 {images({2, 3, 13, 9})},
                 [h = h, w = w](const In& v) { return adaptive_mean_pool2d(v[0], h, w); },
                 117});
}

}  // namespace

void add_norm_pool_cases(std::vector<OpCase>& table) { add_batchnorm(table), add_pools(table); }

}  // namespace qfm::test
