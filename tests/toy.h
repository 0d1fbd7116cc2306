// A model, photos and a training run small enough for tests: fractions of a second.
#pragma once
#include <fstream>
#include <string>
#include <vector>

#include "models/backbones/vit.h"
#include "models/checkpoint.h"
#include "models/heads/query_decoder.h"
#include "tests/support.h"
#include "tests/train/image/image_fixtures.h"
#include "train/run/config.h"

namespace qfm::test {

constexpr int kToyCrop = 32;

inline ModelConfig toy_config(int64_t width = 24) {
  VitConfig vit;
  vit.image_height = vit.image_width = kToyCrop;
  vit.width = width, vit.depth = 2, vit.heads = 3;
  return {"toy", std::make_shared<const VitConfig>(vit), false, std::make_shared<const QueryDecoderConfig>()};
}

inline ModelInfo toy_info() {
  ModelInfo info;
  info.config = toy_config();
  info.crop = kToyCrop;
  return info;
}

// Photos of 40 x 36 and more, each of another brightness, and their paths.
inline std::vector<std::string> write_photos(const TemporaryFolder& folder, int count) {
  std::vector<std::string> paths;
  for (int i = 0; i < count; ++i) {
    Image photo = drawn(40 + i, 36 + i % 5, static_cast<uint64_t>(i));
    for (auto& value : photo.rgb) value = static_cast<uint8_t>(value * (i + 1) / (count + 1));
    paths.push_back(folder / ("photo" + std::to_string(i) + ".png"));
    write_image(paths.back(), photo);
  }
  return paths;
}

// Twelve photos of which three validate, three epochs of 4 steps.
inline TrainConfig toy_run(const TemporaryFolder& folder, const std::string& out) {
  if (!std::filesystem::exists(folder / "labels.csv")) {
    write_photos(folder, 12);
    std::ofstream table(folder / "labels.csv");
    table << "image,score\n";
    for (int i = 0; i < 12; ++i) table << "photo" << i << ".png," << 10 + 5 * i << "\n";
    Model model(toy_config(), cpu_device, DType::F32, false);
    model.params.initialise(5);
    save_model(folder / "init.safetensors", model, toy_info());
  }
  TrainConfig config;
  config.dtype = "f32", config.device = "cpu";  // tests that fork cannot share a GPU with their children
  config.data = folder / "labels.csv", config.init = folder / "init.safetensors", config.out = folder / out;
  config.scale = "0:100", config.val = "0.25";
  config.epochs = 3, config.warmup = 1, config.batch = 4, config.crops_per_image = 2;
  config.seed = 11;
  return config;
}

}  // namespace qfm::test
