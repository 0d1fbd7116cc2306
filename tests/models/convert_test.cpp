// Checkpoints under other names, in other types, for other patches: what comes back, and what is refused.
#include "engine/safetensors.h"
#include "models/backbones/vit.h"
#include "models/checkpoint.h"
#include "models/convert.h"
#include "models/heads/query_decoder.h"
#include "models/pretrained.h"
#include "models/registry.h"
#include "models/weight_names.h"
#include "tests/support.h"

using namespace qfm;
using namespace qfm::test;

namespace {

constexpr auto kTimm = Conversion::Names::Timm, kOurs = Conversion::Names::Ours;

// A small model of ours with a gate, stored in `store`.
std::string small_model(const TemporaryFolder& folder, StoreAs store) {
  VitConfig vit;
  vit.image_height = vit.image_width = 32, vit.width = 24, vit.depth = 1;
  ModelInfo info(ModelConfig{"vit-tiny", std::make_shared<const VitConfig>(vit), true,
                             std::make_shared<const QueryDecoderConfig>()});
  info.name = "small";
  Model model(info.config, cpu_device, DType::F32, false);
  model.params.initialise(5);
  const std::string path = folder / "ours.safetensors";
  save_model(path, model, info, store);
  return path;
}

// DeiT-Tiny's first blocks would be large: one block of its width, under timm's names with its classifier.
std::string foreign(const TemporaryFolder& folder, int64_t patch, int64_t side) {
  VitConfig vit = *vit_named("vit-tiny", "deit");
  vit.patch = patch, vit.image_height = vit.image_width = side * patch;
  const ModelConfig config{"vit-tiny", std::make_shared<const VitConfig>(vit), false, standard_head("linear")};
  Model model(config, cpu_device, DType::F32, false);
  model.params.initialise(7);
  NamedTensors tensors{{"head.weight", Tensor::zeros({10, 192})}};
  for (const auto& [name, tensor] : model.params.saved())
    if (name.starts_with("vit.")) tensors.emplace_back(name.substr(4), tensor);
  const std::string path = folder / "timm.safetensors";
  write_safetensors(path, tensors, {});
  return path;
}

void check_same(const TensorFile& a, const TensorFile& b) {
  CHECK(a.metadata() == b.metadata());
  REQUIRE(a.entries().size() == b.entries().size());
  for (const auto& [name, entry] : a.entries()) {
    CAPTURE(name);
    CHECK(entry.dtype == b.entry(name).dtype);
    CHECK(a.bytes(name) == b.bytes(name));
  }
}

}  // namespace

TEST_CASE("convert: ours under timm's names and back are the same bits, in every type") {
  const TemporaryFolder folder;
  const std::string there = folder / "timm.safetensors", back = folder / "back.safetensors";
  for (const StoreAs store : {StoreAs::AsIs, StoreAs::BF16, StoreAs::F16}) {
    const std::string ours = small_model(folder, store);
    convert_model(ours, there, {.names = kTimm});
    const TensorFile timm = TensorFile::open(there);
    CHECK(timm.has("blocks.0.attn.qkv.weight"));
    CHECK(timm.has("qfm.decoder.norm1.weight"));
    CHECK(timm.has("qfm.select.fc1.weight"));
    CHECK_FALSE(timm.has("head.weight"));
    convert_model(there, back, {.names = kOurs});
    check_same(TensorFile::open(ours), TensorFile::open(back));
    check_same(open_weights(there), TensorFile::open(ours));  // it is a checkpoint of ours as it is
  }
  const Conversion int8{.names = kTimm, .weights = WeightsAs::Int8};
  CHECK(contains(message_of([&] { convert_model(back, there, int8); }), "QFM's names"));
}

TEST_CASE("convert: weights of others stay under timm's names, on another grid and with other patches where asked") {
  const TemporaryFolder folder;
  const std::string from = foreign(folder, 16, 4), to = folder / "to.safetensors";
  convert_model(from, to, {.weights = WeightsAs::F16});
  const TensorFile plain = TensorFile::open(to);
  CHECK(plain.entries().size() + 1 == TensorFile::open(from).entries().size());  // the classifier is left out
  CHECK(plain.entry("pos_embed").shape == Shape{1, 17, 192});
  CHECK(plain.entry("norm.weight").dtype == "F16");

  convert_model(from, to, {.patch = 14, .rows = 3, .cols = 5});
  const TensorFile other = TensorFile::open(to);
  CHECK(other.entry("pos_embed").shape == Shape{1, 16, 192});
  CHECK(other.entry("patch_embed.proj.weight").shape == Shape{192, 3, 14, 14});
  const TensorFile original = TensorFile::open(from);
  const auto floats = [](const Tensor& t) {
    return std::vector<float>(t.span<float>().begin(), t.span<float>().end());
  };
  CHECK(floats(other.tensor("patch_embed.proj.weight")) ==
        floats(resample_patch_embed(original.tensor("patch_embed.proj.weight"), 14)));
  CHECK(floats(other.tensor("pos_embed")) == floats(interpolate_pos_embed(original.tensor("pos_embed"), 3, 5, true)));
  CHECK(original.bytes("blocks.11.mlp.fc2.weight") == other.bytes("blocks.11.mlp.fc2.weight"));

  CHECK(contains(message_of([&] { convert_model(from, to, {.names = kOurs}); }), from + ": a backbone without"));
  write_safetensors(from, {{"layers.0.blocks.0.attn.qkv.weight", Tensor::zeros({3})}}, {});
  CHECK(contains(message_of([&] { convert_model(from, to, {}); }), from + ": Swin"));
}

TEST_CASE("convert: a model of ours on another grid scores crops of its size") {
  const TemporaryFolder folder;
  const std::string ours = small_model(folder, StoreAs::AsIs), to = folder / "to.safetensors";
  convert_model(ours, to, {.rows = 3, .cols = 3});
  const LoadedModel loaded = load_model(to, cpu_device, DType::F32, false);
  CHECK(loaded.info.crop == 48);
  const NoGrad inference;
  CHECK((*loaded.model)(Tensor::zeros({2, 3, 48, 48})).scores.score.value.shape() == Shape{2});
  CHECK(contains(message_of([&] { convert_model(ours, to, {.rows = 2, .cols = 3}); }), ours + ": "));
}
