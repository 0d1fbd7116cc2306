// qfm bench train and decode: what a training run spends its time on.
#include <filesystem>
#include <limits>
#include <optional>
#include <utility>

#include "engine/base/io.h"
#include "engine/base/rng.h"
#include "engine/base/threads.h"
#include "engine/memory/memory.h"
#include "tools/bench/bench.h"
#include "tools/cli/console.h"
#include "train/image/decode.h"
#include "train/image/encode.h"
#include "train/loop/loader.h"
#include "train/objectives/feature_distillation.h"
#include "train/optim/optimizer.h"
#include "train/run/trainer.h"

namespace qfm {
namespace {

namespace fs = std::filesystem;

// Smooth shapes with grain, so that it compresses as a photo does.
Image synthetic_photo(int width, int height, uint64_t seed) {
  Image image(width, height);
  Rng rng(seed, "bench photo");
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < 3; ++c) {
        const double shape = 60 * std::sin(0.011 * x + c) * std::cos(0.017 * y) + (x * y / 4096 % 2 ? 30 : 0);
        const double value = 110 + shape + 12 * (rng.uniform() - 0.5);
        image.row(y)[3 * x + c] = static_cast<uint8_t>(std::clamp(value, 0.0, 255.0));
      }
  return image;
}

struct TemporaryFolder {
  std::string path = (fs::temp_directory_path() / "qfm-bench-XXXXXX").string();
  TemporaryFolder() { QFM_CHECK(::mkdtemp(path.data()), path, ": cannot be made"); }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
};

std::vector<std::string> write_photos(const std::string& folder, int count) {
  std::vector<std::string> paths;
  for (int i = 0; i < count; ++i) {
    const auto bytes = encode_jpeg(synthetic_photo(1024, 768, static_cast<uint64_t>(i)), 90);
    paths.push_back(folder + "/" + std::to_string(i) + ".jpg");
    write_file(paths.back(), {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }
  return paths;
}

// All that is not the same photo matches: the most that noise can cost.
Options options_of(const BenchOptions& options) {
  Options o;
  o.set("method", options.method_version).set("match", options.match).set("adversarial", options.adversarial);
  o.set("tau-q", 1.0).set("tau-s", 1.0);
  o.set("w-contrast", options.w_contrast).set("ema", options.ema);
  if (options.ema > 0) o.set("w-distil-feat", options.w_distil_feat);
  return o;
}

// ", " and what of the method is on.
std::string method_name(const BenchOptions& options) {
  std::string name;
  if (options.select) name += ", select";
  if (options.match != "off")
    name += (options.method_version == "v2" ? ", whole set " : ", ") + options.match;
  if (options.match != "off" && options.adversarial > 0)
    name += concat(", adversarial ", options.adversarial);
  if (options.w_contrast > 0) name += ", contrast";
  if (options.ema > 0) name += ", averaged student";
  if (options.w_distil_feat > 0) name += ", its features";
  return name;
}

ModelConfig config_of(const BenchOptions& options, const std::string& arch) {
  ModelConfig config = model_config(arch);
  config.select = options.select;
  return config;
}

constexpr int kPhotos = 16;

// What kPhotos photos show: drawn.
Tensor drawn_descriptors() {
  const Tensor rows({kPhotos, 192});
  Rng rng(0, "bench descriptors");
  for (float& x : rows.span<float>()) x = rng.normal();
  return rows;
}

// A run's model and steps, as train/run/trainer.cpp takes them: on CUDA the next batch is on its way while
// one computes.
class Trainee {
 public:
  Trainee(const BenchOptions& options, const std::string& arch, int64_t batch, Placement where)
      : model_(config_of(options, arch)) {
    Objectives objectives = make_objectives({options_of(options),
                                             model_,
                                             {},
                                             where.device,
                                             where.dtype,
                                             batch,
                                             options.common.seed,
                                             {},
                                             std::vector<float>(kPhotos, 0.5f),
                                             {192, drawn_descriptors}});
    model_.params.allocate(where.device, where.dtype, true);
    model_.params.initialise(options.common.seed);
    for (const auto& objective : objectives) objective->started();
    optimizer_.emplace(model_.params);
    step_.emplace(model_, *optimizer_, std::move(objectives));
  }

  const ModelConfig& config() const { return model_.config; }

  // One update; `draw` makes the batch that comes next.
  void operator()(const std::function<Batch()>& draw) {
    const Batch batch = next_ ? *std::exchange(next_, std::nullopt) : draw();
    (*step_)(batch, std::exchange(epoch_, 1u), 1e-5, [&] {
      next_ = draw();
      step_->upload(*next_, epoch_);
    });
  }

 private:
  Model model_;
  std::optional<Optimizer> optimizer_;
  std::optional<TrainStep> step_;
  std::optional<Batch> next_;
  uint32_t epoch_ = 0;  // the first update fills the memory, all others search it
};

BenchOptions without_method(const BenchOptions& options) {
  BenchOptions plain;
  plain.common = options.common;
  return plain;
}

}  // namespace

int bench_train(const BenchOptions& options, Placement where) {
  const std::string arch = options.arch.empty() ? "vit-tiny" : options.arch;
  const int64_t batch = options.batch > 0 ? options.batch : 16;
  BenchReport report(options, "train", where);
  const TemporaryFolder folder;
  const auto paths = write_photos(folder.path, kPhotos);
  LoaderOptions how;
  how.batch = batch;
  Loader loader(paths, std::vector<float>(paths.size(), 50.0f), how);
  const Batch fixed = loader.batch(0, 0);
  const auto draw_fixed = [&] { return fixed; };
  // A step of either kind by itself, then one that is captured.
  const auto warm = [&](Trainee& trainee) {
    for (int i = 0; i < 3 && where.device != cpu_device; ++i) trainee(draw_fixed);
  };
  const auto add = [&](const std::string& row, const Trainee& trainee, const Timing& ms, Json more) {
    more["peak_resident_mb"] = peak_resident_mb();
    report.add(row, ms.per(static_cast<double>(batch)), training_gflop(trainee.config()), more);
  };
  const std::string name = arch + " step, batch " + std::to_string(batch);
  const std::string with_method = name + method_name(options) + ", loader excluded";
  Trainee plain(without_method(options), arch, batch, where);
  const auto add_plain = [&](const std::string& row, const std::function<Batch()>& draw) {
    reset_peak(where.device);
    warm(plain);
    const Timing ms = time_steps(where.device, [&] { plain(draw); });
    add(row, plain, ms, peak_memory(where.device));
  };
  if (const auto row = name + ", loader excluded"; report.wants(row)) add_plain(row, draw_fixed);
  if (const auto row = name + ", loader included"; report.wants(row)) {
    loader.start(0, std::numeric_limits<int64_t>::max() / 2);
    add_plain(row, [&] { return loader.next(); });
  }
  if (options.method() && report.wants(with_method)) {
    Trainee method(options, arch, batch, where);
    warm(plain), warm(method);
    const auto [ms, baseline_ms] = time_in_turn(
        where.device, [&] { method(draw_fixed); }, [&] { plain(draw_fixed); });
    add(with_method, method, ms, {{"times_baseline", ms.median / baseline_ms.median}});
  }
  return report.finish();
}

int bench_decode(const BenchOptions& options) {
  set_threads(1);
  BenchReport report(options, "decode", {cpu_device, DType::F32});
  const Image photo = synthetic_photo(1024, 768, options.common.seed);
  const auto jpeg = encode_jpeg(photo, 90), png = encode_png(photo);
  const auto crops = [](Image image) {
    const auto windows = crop_windows({}, image.width, image.height, 224, Rng(0, "bench crops"));
    std::vector<float> out(static_cast<size_t>(3 * 224 * 224));
    for (const CropWindow& window : windows) normalise(out.data(), image, window, 224, false);
  };
  const auto add = [&](const std::string& name, const std::vector<uint8_t>& bytes) {
    const Json more = {{"kilobytes", bytes.size() / 1000}};
    if (report.wants(name)) report.add(name, measure([&] { decode_image(bytes, name); }), 0, more);
    if (const auto row = name + " and 10 crops"; report.wants(row))
      report.add(row, measure([&] { crops(decode_image(bytes, name)); }), 0, more);
  };
  if (options.photos.empty()) {
    add("JPEG 1024x768 q90", jpeg);
    add("PNG 1024x768", png);
  }
  for (const std::string& path : options.photos) {
    const auto bytes = read_file(path);
    const Image size = decode_image(bytes, path);
    add(concat(std::filesystem::path(path).filename().string(), " ", size.width, "x", size.height), bytes);
  }
  return report.finish();
}

}  // namespace qfm
