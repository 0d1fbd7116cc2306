// The kit's promises: what a Scope adds, what a ParamSet does with it, heads and backbones by description, and files
// that lie about any of it.
#include <nlohmann/json.hpp>

#include "engine/load_params.h"
#include "engine/packed_weight.h"
#include "engine/scope.h"
#include "layers/linear.h"
#include "models/pretrained.h"
#include "models/registry.h"
#include "tests/toy.h"
#include "train/optim/optimizer.h"

using namespace qfm;
using namespace qfm::test;
using Json = nlohmann::ordered_json;

namespace {

// A linear map and a running mean, as a normalisation would keep it.
struct Toy {
  ParamSet params;
  Linear linear{Scope(params) / "blocks" / 0 / "fc", 4, 3};
  Buffer mean = (Scope(params) / "norm").buffer("running_mean", {3}, 0.5);
  explicit Toy(bool training = false, uint64_t seed = 1) {
    params.allocate(cpu_device, DType::F32, training);
    params.initialise(seed);
  }
};

void rewrite(const std::string& path, const std::function<void(Json&)>& change) {
  const TensorFile file = TensorFile::open(path);
  Json j = Json::parse(file.metadata().at("qfm"));
  change(j);
  NamedTensors tensors;
  for (const auto& [name, entry] : file.entries()) tensors.emplace_back(name, file.tensor(name));
  write_safetensors(path, tensors, {{"format", "pt"}, {"qfm", j.dump()}});
}

std::string refusal(const std::string& path) {
  return message_of([&] { load_model(path, cpu_device, DType::F32, false); });
}

Tensor crops(int64_t batch) {
  Tensor images({batch, 3, kToyCrop, kToyCrop});
  Rng rng(1, "kit crops");
  for (float& x : images.span<float>()) x = rng.normal();
  return images;
}

std::vector<float> scores_of(const Model& model) {
  const NoGrad inference;
  const Tensor score = model(crops(2)).scores.score.value;
  return {score.span<float>().begin(), score.span<float>().end()};
}

}  // namespace

TEST_CASE("a scope names what it adds, and each begins as it was told to") {
  const Toy a, b, other(false, 2);
  CHECK(a.linear.weight.name() == "blocks.0.fc.weight");
  CHECK(a.mean.name() == "norm.running_mean");
  CHECK(a.linear.bias.master().span<float>()[0] == 0);
  CHECK(a.mean.value().span<float>()[2] == 0.5f);
  CHECK(a.linear.weight.master().span<float>()[0] == b.linear.weight.master().span<float>()[0]);
  CHECK(a.linear.weight.master().span<float>()[0] != other.linear.weight.master().span<float>()[0]);
}

TEST_CASE("what is kept from training gets no gradient, no history and no update; its backward is not run") {
  Model model(toy_config());
  model.params.set_trainable("vit.", false);
  CHECK(contains(message_of([&] { model.params.set_trainable("vitt.", false); }), "vitt."));
  model.params.allocate(cpu_device, DType::F32, true);
  model.params.initialise(3);
  Optimizer optimizer(model.params);
  const Tensor before = model.params.master.clone();
  const Var images = crops(2);
  CHECK_FALSE((*model.backbone)(images).tokens.needs_grad());
  const Var score = model(images).scores.score;
  backward(score, Tensor::from(std::vector<float>{1, 1}, {2}));
  optimizer.step(1e-3, Tensor::from(std::vector<float>{1}, {1}));
  for (const Param& p : model.params.params()) {
    CAPTURE(p.name());
    const bool frozen = p.name().starts_with("vit.");
    const Tensor was = before.rows(p.entry()->offset, p.entry()->offset + p.shape().numel());
    CHECK(std::equal(was.span<float>().begin(), was.span<float>().end(), p.master().span<float>().begin()) ==
          frozen);
    CHECK(p.grad().empty() == frozen);
  }
}

TEST_CASE(
    "buffers are saved, loaded and averaged with the parameters; files that lack or misshape one load "
    "nothing") {
  const TemporaryFolder folder;
  const std::string path = folder / "toy.safetensors";
  const auto none = [](const std::string&) { return false; };
  Toy a, b(false, 2);
  a.mean.value().span<float>()[1] = 7;
  write_safetensors(path, a.params.saved(), {});
  load_params(b.params, TensorFile::open(path), "", none);
  CHECK(b.mean.value().span<float>()[1] == 7);
  CHECK(b.linear.weight.master().span<float>()[5] == a.linear.weight.master().span<float>()[5]);

  Toy average(false, 3);
  average.params.copy_from(a.params);
  a.mean.value().span<float>()[1] = 9;
  average.params.average(a.params, 0.75);
  CHECK(average.mean.value().span<float>()[1] == 7.5f);

  NamedTensors lacking = a.params.saved(), misshapen = lacking, whole = lacking;
  lacking.pop_back();
  misshapen.back().second = Tensor::zeros({4});
  whole.back().second = Tensor::zeros({3}, DType::I64);
  for (const auto& [tensors, reason] :
       {std::pair(lacking, "missing norm.running_mean"),
        std::pair(misshapen, "wrong shape: norm.running_mean (4) instead of (3)"),
        std::pair(whole, "of whole numbers: norm.running_mean I64")}) {
    write_safetensors(path, tensors, {});
    Toy fresh(false, 4);
    const float was = fresh.linear.weight.master().span<float>()[0];
    const std::string message =
        message_of([&] { load_params(fresh.params, TensorFile::open(path), "", none); });
    CHECK(contains(message, path));
    CHECK(contains(message, reason));
    CHECK(fresh.linear.weight.master().span<float>()[0] == was);
  }
}

TEST_CASE(
    "a packed weight is found from the weight, gives the same product, and is forgotten when values change") {
  Toy toy;
  const Var x = Tensor::from(std::vector<float>{1, 2, 3, 4, 5, 6, 7, 8}, {2, 4});
  const Tensor plain = toy.linear(x).value;
  CHECK(packed_weight(toy.linear.weight.value()) == nullptr);
  toy.params.pack();
  CHECK(packed_weight(toy.linear.weight.value()) != nullptr);
  CHECK(packed_weight(toy.linear.bias.value()) == nullptr);
  const Tensor packed = toy.linear(x).value;
  CHECK(std::equal(plain.span<float>().begin(), plain.span<float>().end(), packed.span<float>().begin()));
  fill(toy.linear.weight, constant(0));
  toy.params.sync();
  CHECK(packed_weight(toy.linear.weight.value()) == nullptr);
  CHECK(toy.linear(x).value.span<float>()[0] == 0);
}

TEST_CASE(
    "every head comes back from its checkpoint with the same scores, on features that its heads do not "
    "divide") {
  const TemporaryFolder folder;
  for (const std::string& type : head_types())
    for (const int64_t width : {24, 27}) {  // 27: six heads get 24
      CAPTURE(type);
      CAPTURE(width);
      ModelInfo info = toy_info();
      info.config = toy_config(width), info.config.head = standard_head(type);
      Model model(info.config, cpu_device, DType::F32, false);
      model.params.initialise(5);
      const auto expected = scores_of(model);
      CHECK(model(crops(2)).scores.members.shape() == Shape{2 / info.config.head->views(), info.config.head->members()});
      const std::string path = folder / type + ".safetensors";
      save_model(path, model, info);
      CHECK(scores_of(*load_model(path, cpu_device, DType::F32, false).model) == expected);
    }
}

TEST_CASE("the first version of the metadata is read as it was written") {
  const TemporaryFolder folder;
  const std::string path = folder / "first.safetensors";
  Model model(toy_config(), cpu_device, DType::F32, false);
  model.params.initialise(5);
  save_model(path, model, toy_info());
  rewrite(path, [](Json& j) {
    j["format"] = 1;
    j["vit"] = j["backbone"], j["vit"].erase("type"), j.erase("backbone");
    j["decoder"] = {{"judges", 6}, {"heads", 6}, {"eps", 1e-5}}, j.erase("head");
  });
  CHECK(scores_of(*load_model(path, cpu_device, DType::F32, false).model) == scores_of(model));
}

TEST_CASE(
    "a description that is unknown, damaged or does not fit is refused in one line that names the file") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.safetensors";
  const auto refused = [&](const std::function<void(Json&)>& change) {
    Model model(toy_config(), cpu_device, DType::F32, false);
    model.params.initialise(5);
    save_model(path, model, toy_info());
    rewrite(path, change);
    const std::string message = refusal(path);
    CHECK(contains(message, path + ": "));
    CHECK(message.find('\n') == std::string::npos);
    return message;
  };
  CHECK(contains(refused([](Json& j) { j["backbone"]["type"] = "swin"; }),
                 "backbone type 'swin' is not known: vit"));
  CHECK(contains(refused([](Json& j) { j["head"]["type"] = "ensemble"; }),
                 "head type 'ensemble' is not known: query_decoder, linear"));
  CHECK(contains(refused([](Json& j) { j["head"].erase("queries"); }), "head: its description is damaged"));
  CHECK(contains(refused([](Json& j) { j["backbone"]["width"] = int64_t{1} << 40; }),
                 "width 1099511627776 is not between"));
  CHECK(contains(refused([](Json& j) { j["head"]["width"] = 23; }),
                 "decoder: width 23 does not divide into 6 heads"));
  CHECK(contains(refused([](Json& j) { j["backbone"]["patch"] = 7; }), "do not divide into patches of 7"));
  CHECK(contains(refused([](Json& j) { j["backbone"]["depth"] = 3; }), "missing vit.blocks.2."));
  CHECK(contains(refused([](Json& j) {
                   j["head"] = {{"type", "linear"}};
                 }),
                 "missing head.bias; not part of this model: decoder."));
  CHECK(contains(refused([](Json& j) {
                   j["head"] = {{"type", "linear"}, {"offset", 50}, {"scale", 0}};
                 }),
                 "linear head: its scale is 0"));
  CHECK(
      contains(refused([](Json& j) { j["format"] = 3; }), "checkpoint format 3, this program reads 1 and 2"));
  CHECK(contains(message_of([] { model_config("resnet34"); }),
                 "architecture 'resnet34' is not known: vit-tiny"));
}

TEST_CASE("weights of another architecture change nothing in the model that wanted to start from them") {
  const TemporaryFolder folder;
  const std::string path = folder / "wide.safetensors";
  ModelInfo info = toy_info();
  info.config = toy_config(36);
  Model wide(info.config, cpu_device, DType::F32, false), model(toy_config(), cpu_device, DType::F32, false);
  wide.params.initialise(5), model.params.initialise(6);
  save_model(path, wide, info);
  const auto before = scores_of(model);
  CHECK(contains(message_of([&] { load_pretrained(model, path); }), "wrong shape"));
  CHECK(scores_of(model) == before);
}

TEST_CASE("a new linear head begins at the labels' mean and moves in their deviation") {
  const auto scores_with = [](const std::shared_ptr<const HeadConfig>& head) {
    ModelConfig config = toy_config();
    config.head = head;
    Model model(config, cpu_device, DType::F32, false);
    model.params.initialise(3);
    return scores_of(model);
  };
  const auto read_out = scores_with(standard_head("linear")),
             scores = scores_with(standard_head("linear")->for_labels(48.5, 17));
  for (size_t i = 0; i < scores.size(); ++i) CHECK(scores[i] == doctest::Approx(48.5 + 17 * read_out[i]));
}
