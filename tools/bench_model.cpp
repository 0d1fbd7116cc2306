// qfm bench model: forward passes.
#include "engine/base/rng.h"
#include "tools/bench.h"

namespace qfm {

int bench_model(const BenchOptions& options, Placement where) {
  BenchReport report(options, "model", where);
  std::vector<std::string> archs{"vit-tiny", "vit-small"};
  std::vector<int64_t> batches{1, 8};
  if (!options.arch.empty()) archs = {options.arch};
  if (options.batch > 0) batches = {options.batch};
  const NoGrad inference;
  for (const auto& arch : archs) {
    const auto names = [&](int64_t batch) {
      const std::string end = ", batch " + std::to_string(batch);
      return std::pair(arch + " backbone" + end, arch + " with decoder" + end);
    };
    QfmIqm model(model_config(arch), where.device, where.dtype, false);
    model.init(options.common.seed);
    model.freeze();
    const ModelConfig& config = model.config;
    for (int64_t batch : batches) {
      Tensor pixels({batch, 3, config.vit.image_height, config.vit.image_width});
      Rng rng(options.common.seed, "bench pixels");
      for (float& x : pixels.span<float>()) x = 4 * rng.uniform() - 2;
      const Var images = pixels.to(where.dtype).to(where.device);
      const auto items = static_cast<double>(batch);
      const auto [backbone, whole] = names(batch);
      const double gflop = forward_gflop(config.vit);
      const auto timed = [&](const auto& forward) {
        return time_calls(where.device, [&](size_t) { forward(); }).per(items);
      };
      if (report.wants(backbone)) report.add(backbone, timed([&] { model.vit(images); }), gflop);
      if (report.wants(whole))
        report.add(whole, timed([&] { model(images); }), gflop + forward_gflop(config.vit, config.panel));
    }
  }
  return report.finish();
}

}  // namespace qfm
