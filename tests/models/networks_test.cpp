// Convolutional networks against timm, with weights by formula (network_golden.h): outputs, the gradient of every tensor,
// the running statistics.
#include "models/registry.h"
#include "tests/models/network_golden.h"

using namespace qfm;
using namespace qfm::test;
namespace {

std::vector<std::pair<std::string, Var>> outputs_of(const Features& f) {
  std::vector<std::pair<std::string, Var>> outputs{{"pooled", f.pooled}, {"tokens", f.tokens}};
  for (size_t i = 0; i < f.stages.size(); ++i) outputs.emplace_back(concat("stage", i), f.stages[i]);
  return outputs;
}

std::shared_ptr<const BackboneConfig> with_images(const std::string& arch, const Shape& images) {
  Json j = Json::parse(model_config(arch).backbone->json());
  j["image_height"] = images[2], j["image_width"] = images[3];
  return backbone_from_json(j.dump());
}

// A network whose weights are the formula's.
struct Network {
  Network(const std::string& arch, const Shape& images, DType dtype, bool backwards)
      : name(arch), config(with_images(arch, images)), backbone(config->make(params)) {
    params.allocate(cpu_device, dtype, backwards);
    fill_by_formula(params, config->prefix());
  }
  std::string name;
  std::shared_ptr<const BackboneConfig> config;
  ParamSet params;
  std::unique_ptr<Backbone> backbone;
};

void check_pass(Network& network, bool training, bool backwards) {
  const DType dtype = network.params.compute();
  CAPTURE(network.name);
  CAPTURE(training);
  CAPTURE(std::string(name_of(dtype)));
  Golden golden(network.name + (training ? ".train" : ".eval"));
  network.params.set_training(training);
  const FeatureShape shape = network.config->shape();
  const Tensor pixels = formula_tensor("images", {2, 3, shape.image_height, shape.image_width}, dtype);
  const Var images = backwards ? Var::leaf(pixels) : Var(pixels);
  const auto outputs = outputs_of((*network.backbone)(images));
  CHECK(outputs[1].second.shape() == Shape{2, shape.tokens(), shape.width});
  for (const auto& [name, y] : outputs) golden.check("out." + name, y.value, dtype);
  const auto there = [&](const std::string& name) { return name.substr(network.config->prefix().size()); };
  if (training)
    for (const Buffer& b : network.params.buffers()) golden.check("buffer." + there(b.name()), b.value(), dtype);
  if (!backwards) return;
  network.params.zero_grad();
  backward(weighted(outputs));
  golden.check("grad.images", images.grad(), dtype);
  for (const Param& p : network.params.params()) golden.check("grad." + there(p.name()), p.grad(), dtype);
  CHECK(golden.checked == golden.sketches.size());
}

// First with the running statistics as they are, then with the batch's, which move them. With those F32 finds other sides
// of relu's kinks than F64 does, and deep down other gradients: `deep` ones are then checked in F64 only.
void check_network(const std::string& arch, const Shape& images, DType dtype, bool deep) {
  Network network(arch, images, dtype, true);
  check_pass(network, false, true);
  check_pass(network, true, !deep || dtype == DType::F64);
}

}  // namespace

TEST_CASE("networks: ResNet equals timm, forward, backward and in its running statistics") {
  for (const DType dtype : {DType::F32, DType::F64}) {
    if (dtype == DType::F64 && !std::getenv("QFM_LONG_TESTS")) continue;  // half a minute
    check_network("resnet18", {2, 3, 33, 47}, dtype, false);
    check_network("resnet50", {2, 3, 33, 33}, dtype, true);
  }
}

TEST_CASE("networks: EfficientNet-Lite0 equals timm, forward, backward and in its running statistics") {
  for (const DType dtype : {DType::F32, DType::F64}) check_network("efficientnet-lite0", {2, 3, 54, 38}, dtype, true);
}

TEST_CASE("networks: FLOPs are those of their convolutions") {
  // Multiplications as counted by hooks on timm's convolutions, at 224 x 224.
  const std::map<std::string, double> products{
      {"resnet18", 1813561344}, {"resnet50", 4087136256}, {"efficientnet-lite0", 383907552}};
  for (const auto& [arch, n] : products) {
    CAPTURE(arch);
    CHECK(model_config(arch).backbone->forward_flops() == 2 * n);
  }
}

TEST_CASE("networks: images of another size are refused in one line") {
  for (const char* arch : {"resnet18", "efficientnet-lite0"}) {
    ParamSet params;
    const auto backbone = with_images(arch, {1, 3, 32, 64})->make(params);
    CHECK(contains(message_of([&] { (*backbone)(Tensor::zeros({1, 3, 32, 32})); }), "expected (B, 3, 32, 64)"));
  }
}
