// Convolutional networks in the kit: checkpoints, foreign files, and runs of a model with batch normalisation.
#include "models/backbones/resnet.h"
#include "models/heads/query_decoder.h"
#include "models/pretrained.h"
#include "models/registry.h"
#include "tests/train/run/runs.h"

using namespace qfm;
using namespace qfm::test;

namespace {

constexpr int64_t kMore = 1000;  // steps that no toy run has

ModelInfo small_resnet(const std::string& head = "query_decoder") {
  ResNetConfig resnet;
  resnet.image_height = resnet.image_width = kToyCrop, resnet.stem = 4, resnet.depths = {1, 1, 1, 1};
  return ModelInfo(
      ModelConfig{"small-resnet", std::make_shared<const ResNetConfig>(resnet), false, standard_head(head)});
}

// As toy_run, from a small ResNet and with an averaged student whose features are learnt.
TrainConfig resnet_run(const TemporaryFolder& folder, const std::string& out) {
  TrainConfig config = toy_run(folder, out);
  config.init = folder / "resnet.safetensors", config.lr = 1e-3;
  config.objectives.set("ema", 0.9).set("w-distil-feat", 1);
  if (!std::filesystem::exists(config.init)) {
    Model model(small_resnet().config, cpu_device, DType::F32, false);
    model.params.initialise(5);
    save_model(config.init, model, small_resnet());
  }
  return config;
}

Tensor images_of(const FeatureShape& shape) {
  Tensor images({2, 3, shape.image_height, shape.image_width});
  Rng rng(1, "network images");
  for (float& x : images.span<float>()) x = rng.normal();
  return images;
}

std::vector<float> values(const Tensor& t) { return {t.span<float>().begin(), t.span<float>().end()}; }

// A file of timm's: names without prefix, a classifier, counters of batches.
void write_foreign(const std::string& path, const Model& model, const std::string& classifier) {
  const std::string prefix = model.config.backbone->prefix();
  NamedTensors tensors{{classifier + ".weight", Tensor::zeros({10, model.config.features().width})},
                       {"some.num_batches_tracked", Tensor({1}, DType::I64)}};
  for (const auto& [name, tensor] : model.params.saved())
    if (name.starts_with(prefix)) tensors.emplace_back(name.substr(prefix.size()), tensor);
  write_safetensors(path, tensors, {});
}

}  // namespace

TEST_CASE("networks: a run with batch normalisation and an averaged model resumes to the same bits") {
  const TemporaryFolder folder;
  const TrainConfig whole = resnet_run(folder, "whole");
  train_until(whole, kMore);
  for (const std::vector<int64_t>& stops : {std::vector<int64_t>{1, 5}, {4, 8, 11}}) {
    TrainConfig config = resnet_run(folder, concat("stops", stops[0]));
    for (const int64_t stop : stops) {
      CHECK(train_until(config, stop).steps == stop);
      config.resume = true;
    }
    CHECK(train_until(config, kMore).finished);
    check_equal_runs(whole, config);
    const bool same = bytes_of(whole.out + "/ema.safetensors") == bytes_of(config.out + "/ema.safetensors");
    CHECK(same);
  }
  // The running statistics are averaged too.
  const std::string name = "resnet.layer1.0.bn1.running_var";
  const Tensor last = TensorFile::open(whole.out + "/last.safetensors").tensor(name),
               average = TensorFile::open(whole.out + "/ema.safetensors").tensor(name);
  for (size_t i = 0; i < values(last).size(); ++i) {
    CHECK(values(last)[i] != 1);
    CHECK(values(average)[i] != 1);
    CHECK(values(average)[i] != values(last)[i]);
  }
}

TEST_CASE("networks: each comes back from its checkpoint, under both heads; scores do not move statistics") {
  const TemporaryFolder folder;
  const NoGrad inference;
  QueryDecoderConfig decoder;
  decoder.width = 48;
  const auto narrow = std::make_shared<const QueryDecoderConfig>(decoder);
  for (ModelInfo info : {small_resnet(), ModelInfo(model_config("efficientnet-lite0"))})
    for (const std::shared_ptr<const HeadConfig>& head :
         {standard_head("linear")->for_labels(48, 17), std::shared_ptr<const HeadConfig>(narrow)}) {
      info.config.head = head;
      CAPTURE(info.config.arch);
      CAPTURE(type_of(*head));
      Model model(info.config, cpu_device, DType::F32, false);
      model.params.initialise(5);
      const Tensor images = images_of(info.config.features());
      const auto expected = values(model(images).scores.score.value);
      CHECK(values(model(images).scores.score.value) == expected);
      const std::string path = folder / "model.safetensors";
      save_model(path, model, info);
      const LoadedModel loaded = load_model(path, cpu_device, DType::F32, false);
      const auto found = values((*loaded.model)(images).scores.score.value);
      for (size_t i = 0; i < found.size(); ++i) CHECK(found[i] == doctest::Approx(expected[i]).epsilon(1e-4));
      CHECK(loaded.info.mean == info.mean);
      CHECK(loaded.info.config.backbone->json() == info.config.backbone->json());
    }
}

TEST_CASE("networks: files of timm and torchvision are known by their tensors; classifier and counters are left out") {
  const TemporaryFolder folder;
  const std::string path = folder / "foreign.safetensors";
  for (const auto& [arch, classifier] : {std::pair("resnet18", "fc"), std::pair("efficientnet-lite0", "classifier")}) {
    CAPTURE(arch);
    Model model(model_config(arch, "deit", "linear"), cpu_device, DType::F32, false),
        other(model.config, cpu_device, DType::F32, false);
    for (float& x : model.params.buffers()[3].value().span<float>()) x = 7;
    fill(model.params.params()[0], constant(3));
    write_foreign(path, model, classifier);
    CHECK(timm_config(TensorFile::open(path)).arch == arch);
    load_pretrained(other, path);
    CHECK(values(other.params.buffers()[3].value()) == values(model.params.buffers()[3].value()));
    CHECK(values(other.params.params()[0].master()) == values(model.params.params()[0].master()));
  }
  const auto known = [&](const std::vector<std::string>& names) {
    NamedTensors tensors;
    for (const std::string& name : names) tensors.emplace_back(name, Tensor::zeros({1}));
    write_safetensors(path, tensors, {});
    const auto config = find_timm_config(TensorFile::open(path));
    return config ? config->arch : "";
  };
  const std::vector<std::string> resnet50{"conv1.weight", "layer1.0.conv3.weight", "layer3.5.conv3.weight",
                                          "layer4.0.conv1.weight"};
  CHECK(known(resnet50) == "resnet50");
  std::vector<std::string> resnet101 = resnet50;
  resnet101.emplace_back("layer3.6.conv3.weight");
  CHECK(known(resnet101).empty());
}
