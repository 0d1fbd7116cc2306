// Weights under the names of Hugging Face and torchvision: the same features as there (tests/golden/make_pytorch.py).
#include <tuple>

#include "models/backbones/vit.h"
#include "models/heads/linear_head.h"
#include "models/pretrained.h"
#include "models/weight_names.h"
#include "tests/support.h"
#include "tests/tolerance.h"

using namespace qfm;
using namespace qfm::test;

namespace {

ModelConfig small_vit(double eps, bool layer_scale) {
  VitConfig c;
  c.image_height = c.image_width = 12, c.patch = 4, c.width = 12, c.depth = 2, c.heads = 3;
  c.eps = eps, c.layer_scale = layer_scale;
  return {"vit", std::make_shared<const VitConfig>(c), false, std::make_shared<const LinearHeadConfig>()};
}

}  // namespace

TEST_CASE("weights under others' names give the features that they give there") {
  const TensorFile expected = TensorFile::open(golden_path("pytorch/expected.safetensors"));
  const NoGrad inference;
  for (const auto& [name, golden, eps] :
       {std::tuple("vit.pth", "vit", 1e-12), std::tuple("vit_as_saved.pth", "vit", 1e-12),
        std::tuple("dinov2.pth", "dinov2", 1e-6), std::tuple("torchvision.pth", "torchvision", 1e-6)}) {
    CAPTURE(std::string(name));
    Model model(small_vit(eps, std::string(golden) == "dinov2"), cpu_device, DType::F32, false);
    model.params.initialise(1);
    const std::string path = golden_path("pytorch/" + std::string(name));
    load_pretrained(model, path);
    const auto& vit = dynamic_cast<const Vit&>(*model.backbone);
    const Tensor found = vit.tokens(expected.tensor("image")).value.to(DType::F64),
                 wanted = expected.tensor(golden).to(DType::F64);
    check_close(golden, found.span<double>(), wanted.span<double>(), DType::F32, 4 * 48);
    CHECK((open_weights(path).metadata().count(kOrigin) == 1) == (eps < 1e-6));
  }
}

TEST_CASE("patch embeddings for other patches are timm's") {
  const TensorFile golden = TensorFile::open(golden_path("pytorch/patches.safetensors"));
  for (const auto& [old, size] : {std::pair(4, 8), std::pair(16, 14), std::pair(14, 16)}) {
    const std::string which = concat(old, ".", size);
    const Tensor found = resample_patch_embed(golden.tensor("from." + which), size).to(DType::F64),
                 wanted = golden.tensor("to." + which).to(DType::F64);
    check_close(which, found.span<double>(), wanted.span<double>(), DType::F32, old * size);  // timm's is F32's
  }
}
