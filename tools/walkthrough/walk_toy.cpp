// A photo's way through a toy model, forward and back, on CUDA kernels that run on the CPU: what tools/walk
// steps through under gdb. One block of two heads, 17 tokens: small enough to look at every number.
#include <cmath>
#include <cstdio>

#include "engine/base/error.h"
#include "engine/base/rng.h"
#include "engine/base/threads.h"
#include "layers/loss.h"
#include "models/backbones/vit.h"
#include "models/heads/query_decoder.h"
#include "models/model.h"
#include "train/image/decode.h"
#include "train/image/transform.h"

namespace qfm {
namespace {

ModelConfig toy_model() {
  VitConfig vit;
  vit.image_height = vit.image_width = 64, vit.width = 48, vit.depth = 1, vit.heads = 2;
  QueryDecoderConfig head;
  head.heads = 2;
  return {"toy", std::make_shared<const VitConfig>(vit), false, std::make_shared<const QueryDecoderConfig>(head)};
}

Tensor crop_of(const std::string& path) {
  constexpr int kSide = 64;
  const Image photo = decode_image(path);
  const Crops center{Crops::Kind::Center};
  const CropWindow window = crop_windows(center, photo.width, photo.height, kSide, Rng(0, "walk"))[0];
  Tensor pixels({1, 3, kSide, kSide});
  normalise(pixels.data<float>(), photo, window, kSide, false, {});
  return pixels;
}

int walk(const std::string& path) {
  set_threads(1);  // one CUDA block at a time: the debugger sees them in order
  Model model(toy_model(), cuda_device, DType::F32, true);
  model.params.initialise(0);
  const Var images = crop_of(path).to(cuda_device);
  const Tensor opinion = Tensor::from(std::vector<float>{75}, {1}).to(cuda_device);

  const Model::Output out = model(images);
  const Var loss = smooth_l1(out.scores.score, opinion);
  backward(loss);

  double squares = 0;
  for (const Param& p : model.params.params())
    for (const float g : p.grad().to(cpu_device).span<float>()) squares += static_cast<double>(g) * g;
  std::printf("score %.6f, opinion 75, loss %.6f, gradient norm %.6f\n",
              out.scores.score.value.to(cpu_device).span<float>()[0], loss.value.to(cpu_device).span<float>()[0],
              std::sqrt(squares));
  return 0;
}

}  // namespace
}  // namespace qfm

int main(int argc, char** argv) {
  try {
    QFM_CHECK(argc == 2, "usage: qfm_walk PHOTO");
    return qfm::walk(argv[1]);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "qfm_walk: %s\n", e.what());
    return 1;
  }
}
