// qfm bench model: forward passes.
#include "engine/base/rng.h"
#include "engine/memory/memory.h"
#include "tools/bench/bench.h"
#include "train/predict/captured_forward.h"

namespace qfm {
namespace {

// What `forward` costs; on CUDA as it is and, as the product runs it, as a graph.
template <class Output>
void add_rows(BenchReport& report, const std::string& name, const Tensor& images, double gflop,
              const std::function<Output(const Tensor&)>& forward) {
  const Device device = images.device();
  const auto add = [&](const std::string& row, int before, const std::function<void()>& run) {
    if (!report.wants(row)) return;
    reset_peak(device);
    for (int i = 0; i < before; ++i) run();
    const Timing ms = time_calls(device, [&](size_t) { run(); });
    report.add(row, ms.per(static_cast<double>(images.dim(0))), gflop, peak_memory(device));
  };
  if (device == cpu_device) return add(name, 0, [&] { forward(images); });
  add(name + ", eager", 0, [&] { forward(images); });
  CapturedForward<Output> captured(forward);
  add(name + ", graph", 2, [&] { captured(images); });  // by itself, then captured
}

}  // namespace

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
      const Tensor images = pixels.to(where.dtype).to(where.device);
      const auto [backbone, whole] = names(batch);
      const double gflop = forward_gflop(config.vit);
      add_rows<Vit::Features>(report, backbone, images, gflop, [&](const Tensor& x) { return model.vit(x); });
      add_rows<QfmIqm::Output>(report, whole, images, gflop + forward_gflop(config.vit, config.panel),
                               [&](const Tensor& x) { return model(x); });
    }
  }
  return report.finish();
}

}  // namespace qfm
