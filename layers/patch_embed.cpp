#include "layers/patch_embed.h"

#include "engine/dispatch.h"
#include "kernels/image/patch_embed_cudnn.h"
#include "layers/shape.h"

namespace qfm {
namespace {

// Rows (B, N, C p p), tokens row by row, each in the order of a convolution's weight: (channel, y, x).
Tensor to_rows(const PatchShape& s, const Tensor& images) {
  const int64_t down = s.height / s.patch, across = s.width / s.patch;
  return permute(images.reshape({s.batch, s.channels, down, s.patch, across, s.patch}), {0, 2, 4, 1, 3, 5})
      .reshape({s.batch, s.tokens(), s.cols()});
}

Tensor to_images(const PatchShape& s, const Tensor& rows) {
  const int64_t down = s.height / s.patch, across = s.width / s.patch;
  return permute(rows.reshape({s.batch, down, across, s.channels, s.patch, s.patch}), {0, 3, 1, 4, 2, 5})
      .reshape({s.batch, s.channels, s.height, s.width});
}

// As one convolution, which leaves no rows of patches for a backward. Empty where cuDNN is not to do it.
Tensor convolved(const PatchShape& s, const Tensor& images, const Tensor& w, const Tensor& b) {
  if (images.device() == cpu_device || images.dtype() != DType::BF16) return {};
  const Tensor y = like(images, {s.batch, s.tokens(), w.dim(0)});
  const bool served = cudnn::patch_embed(Cuda{cuda::compute_stream()}, s, w.dim(0), ptr<bf16>(y),
                                         ptr<const bf16>(images), ptr<const bf16>(w), ptr<const bf16>(b));
  return served ? y : Tensor();
}

}  // namespace

Var patch_embed(const Var& images, const Var& w, const Var& b) {
  QFM_CHECK(images.value.rank() == 4 && w.value.rank() == 4 && w.dim(1) == images.dim(1) &&
                w.dim(2) == w.dim(3) && images.dim(2) % w.dim(2) == 0 && images.dim(3) % w.dim(3) == 0,
            "patch_embed: images are ", images.shape(), ", w is ", w.shape());
  const PatchShape s{images.dim(0), images.dim(1), images.dim(2), images.dim(3), w.dim(2)};
  if (!needs_graph({&images, &w, &b}))
    if (const Tensor y = convolved(s, images.value, w.value, b.value); !y.empty()) return y;
  const Tensor rows = to_rows(s, images.value), matrix = w.value.reshape({w.dim(0), s.cols()});
  const Tensor y = linear_forward(rows, matrix, {b.value, {}, {}});
  return record(
      "patch_embed", y, {images, w, b},
      [s, rows, matrix, w_shape = w.shape(), images_need = images.needs_grad(),
       weights_need = w.needs_grad() || b.needs_grad()](const Tensor& dy) -> Grads {
        const Tensor dx = images_need ? to_images(s, linear_dx(dy, matrix, rows.shape())) : Tensor();
        if (!weights_need) return {dx, {}, {}};
        const LinearGrads d = linear_dw(dy, rows, true);
        return {dx, d.weight.reshape(w_shape), d.bias};
      });
}

}  // namespace qfm
