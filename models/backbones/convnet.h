// What convolutional backbones share: a convolution with its normalisation, features from the last map, FLOPs.
#pragma once
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "layers/batchnorm.h"
#include "layers/conv2d.h"
#include "layers/reduce.h"
#include "layers/shape.h"
#include "models/backbone.h"

namespace qfm {

// The convolution begins as He et al. 2015 have it, by its outputs, cut at two standard deviations.
struct ConvNorm {
  ConvNorm(const Scope& conv_scope, const Scope& norm_scope, int64_t in, int64_t out, int64_t kernel,
           const ConvOptions& options, double eps = 1e-5, double momentum = 0.1)
      : conv(conv_scope, in, out, kernel, options,
             trunc_normal(
                 std::sqrt(2.0 * static_cast<double>(options.groups) / static_cast<double>(kernel * kernel * out)))),
        norm(norm_scope, out, eps, momentum) {}
  // activation(norm(conv(x)) + residual)
  Var operator()(const Var& x, Activation activation, const Var& residual = {}) const {
    return conv_norm(conv, norm, x, activation, residual);
  }

  Conv2d conv;
  BatchNorm norm;
};

inline void check_images(const char* who, const Var& images, const FeatureShape& shape) {
  QFM_CHECK(images.value.rank() == 4 && images.dim(1) == 3 && images.dim(2) == shape.image_height &&
                images.dim(3) == shape.image_width,
            who, ": images are ", images.shape(), ", expected (B, 3, ", shape.image_height, ", ", shape.image_width,
            ")");
}

// Tokens: the places of the last map (B, D, H, W), row by row; pooled: their mean.
inline Features features_of(const Var& map, std::vector<Var> stages) {
  const int64_t b = map.dim(0), d = map.dim(1), places = map.dim(2) * map.dim(3);
  const Var tokens = reshape(permute(map, {0, 2, 3, 1}), {b, places, d});
  return {mean(tokens, {1}), tokens, std::move(stages)};
}

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Multiplications and additions of a convolution that gives rows x cols places.
inline double conv_flops(int64_t rows, int64_t cols, int64_t in, int64_t out, int64_t kernel, int64_t groups = 1) {
  return 2 * static_cast<double>(rows * cols) * static_cast<double>(out * (in / groups) * kernel * kernel);
}

}  // namespace qfm
