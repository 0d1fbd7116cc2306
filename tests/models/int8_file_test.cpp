// Checkpoints with weights in eight bits: they score as their original does in INT8, and lies in them are found.
#include <cmath>
#include <functional>
#include <map>

#include "engine/base/io.h"
#include "models/checkpoint.h"
#include "models/convert.h"
#include "models/pretrained.h"
#include "tests/toy.h"

using namespace qfm;
using namespace qfm::test;

namespace {

const std::string kWeight = "vit.blocks.0.attn.qkv.weight", kScale = kWeight + ".scale";

// No parameter is one that a shorter type holds.
void save_random_model(const std::string& path, StoreAs store) {
  Model model(toy_config(), cpu_device, DType::F32, false);
  model.params.initialise(5);
  Rng rng(3, "int8 file");
  for (float& x : model.params.master.span<float>()) x += 0.02f * rng.normal();
  save_model(path, model, toy_info(), store);
}

struct Scored {
  DType dtype;
  std::vector<float> scores;
  friend bool operator==(const Scored&, const Scored&) = default;
};

Scored scored(const std::string& path, std::optional<DType> dtype) {
  const LoadedModel loaded = load_model(path, cpu_device, dtype, false);
  const NoGrad inference;
  Tensor images({3, 3, kToyCrop, kToyCrop});
  Rng rng(1, "int8 file crops");
  for (float& x : images.span<float>()) x = rng.normal();
  const Tensor scores = (*loaded.model)(images.to(loaded.model->params.compute())).scores.score.value.to(DType::F32);
  return {loaded.dtype, {scores.span<float>().begin(), scores.span<float>().end()}};
}

}  // namespace

TEST_CASE("a file in eight bits scores as its original does in INT8, bit for bit") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.safetensors", small = folder / "small.safetensors";
  const std::string again = folder / "again.safetensors";
  for (const StoreAs store : {StoreAs::AsIs, StoreAs::BF16, StoreAs::F16}) {
    save_random_model(path, store);
    convert_model(path, small, {.weights = WeightsAs::Int8});
    const Scored expected = scored(path, DType::I8);
    CHECK(expected.dtype == DType::I8);
    CHECK(scored(small, std::nullopt) == expected);
    CHECK(scored(path, std::nullopt).dtype == DType::F32);
    CHECK(scored(path, std::nullopt).scores != expected.scores);
    CHECK(TensorFile::open(small).entry(kWeight).dtype == "I8");
    CHECK(TensorFile::open(small).entry("vit.norm.bias").dtype == (store == StoreAs::BF16 ? "BF16" : "F32"));
    if (store == StoreAs::AsIs) CHECK(2 * read_file(small).size() < read_file(path).size());
    // Its weights are numbers of F32: stored as such, and rounded again.
    convert_model(small, again, {.weights = WeightsAs::F32});
    CHECK(scored(again, DType::F32).scores == scored(small, DType::F32).scores);
    convert_model(again, again, {.weights = WeightsAs::Int8});
    CHECK(scored(again, std::nullopt) == expected);
  }
  CHECK(scored(small, DType::BF16).dtype == DType::BF16);
  Model begun(toy_config(), cpu_device, DType::F32, true);  // training starts from it as from any other
  load_pretrained(begun, small);
  save_model(path, begun, load_model(small, cpu_device, DType::F32, false).info);
  CHECK(scored(path, std::nullopt) == scored(small, DType::F32));
}

TEST_CASE("what is damaged in a file of eight bits is one line with its name") {
  const TemporaryFolder folder;
  const std::string original = folder / "model.safetensors", path = folder / "small.safetensors";
  save_random_model(original, StoreAs::AsIs);
  convert_model(original, path, {.weights = WeightsAs::Int8});
  const TensorFile file = TensorFile::open(path);
  std::map<std::string, Tensor> whole;
  for (const auto& [name, entry] : file.entries()) whole[name] = file.tensor(name);
  const auto metadata = file.metadata(), plain = TensorFile::open(original).metadata();

  const auto refused = [&](const std::string& reason, const std::function<void(std::map<std::string, Tensor>&)>& change,
                           const std::map<std::string, std::string>& about) {
    auto tensors = whole;
    change(tensors);
    write_safetensors(path, {tensors.begin(), tensors.end()}, about);
    const std::string message = message_of([&] { load_model(path, cpu_device, std::nullopt, false); });
    INFO(message);
    CHECK(message.starts_with(path + ": "));
    CHECK(contains(message, reason));
    CHECK(message.find('\n') == std::string::npos);
  };
  const auto with_scale = [&](float scale) {
    const auto change = [&](auto& t) { (t[kScale] = t[kScale].clone()).template span<float>()[2] = scale; };
    refused(kScale + ": ", change, metadata);
  };
  for (const float scale : {0.0f, -1.0f, NAN, INFINITY, 1e-40f, 1.0f / 3}) with_scale(scale);
  refused(kScale + ": missing, ", [](auto& t) { t.erase(kScale); }, metadata);
  refused(kScale + ": F32 (1) instead of F32 (72)", [](auto& t) { t[kScale] = t[kScale].rows(0, 1); }, metadata);
  refused(kScale + ": BF16 (72) instead", [](auto& t) { t[kScale] = t[kScale].to(DType::BF16); }, metadata);
  refused("wrong shape: " + kWeight, [](auto& t) { t[kWeight] = t[kWeight].rows(0, 24); }, metadata);
  refused("I8 but no matrix: vit.norm.bias", [](auto& t) { t["vit.norm.bias"] = Tensor({24}, DType::I8); }, metadata);
  const std::string odd = "vit.norm.bias.scale";
  refused("not part of this model: " + odd, [&](auto& t) { t[odd] = Tensor({24}); }, metadata);
  refused("does not speak of the INT8 weights", [](auto&) {}, plain);
  const auto to_floating = [&](auto& t) {
    t.clear();
    const TensorFile floating = TensorFile::open(original);
    for (const auto& [name, entry] : floating.entries()) t[name] = floating.tensor(name);
  };
  refused("speaks of INT8 weights", to_floating, metadata);

  write_file(path, read_text(path).substr(0, 9000));
  const std::string cut = message_of([&] { load_model(path, cpu_device, std::nullopt, false); });
  CHECK(contains(cut, path + ": tensor "));
  CHECK(contains(cut, "lie outside the file"));
  Model broken(toy_config(), cpu_device, DType::F32, false);
  broken.params.initialise(5);
  broken.params.master.span<float>()[0] = NAN;
  save_model(path, broken, toy_info());
  for (const auto& use : std::vector<std::function<void()>>{[&] { load_model(path, cpu_device, DType::I8, false); },
                                                            [&] { convert_model(path, path, {.weights = WeightsAs::Int8}); }})
    CHECK(contains(message_of(use), "weight: has a number that is not finite"));
}
