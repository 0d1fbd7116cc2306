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
    Model model(model_config(arch), where.device, where.dtype, false);
    model.params.initialise(options.common.seed);
    model.params.pack();
    const FeatureShape shape = model.config.features();
    for (int64_t batch : batches) {
      Tensor pixels({batch, 3, shape.image_height, shape.image_width});
      Rng rng(options.common.seed, "bench pixels");
      for (float& x : pixels.span<float>()) x = 4 * rng.uniform() - 2;
      const Tensor images = pixels.to(model.params.compute()).to(where.device);
      const auto [backbone, whole] = names(batch);
      const double of_backbone = 1e-9 * model.config.backbone->forward_flops(),
                   of_head = 1e-9 * model.config.head->forward_flops(shape);
      add_rows<Features>(report, backbone, images, of_backbone, [&](const Tensor& x) { return (*model.backbone)(x); });
      add_rows<Model::Output>(report, whole, images, of_backbone + of_head, [&](const Tensor& x) { return model(x); });
    }
  }
  return report.finish();
}

}  // namespace qfm
