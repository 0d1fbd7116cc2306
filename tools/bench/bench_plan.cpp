// qfm bench kernels --plan: what every op of a step, and every kernel alone, must compute and move at least,
// and how long that takes on a card.
#include <algorithm>
#include <functional>
#include <map>

#include "engine/base/io.h"
#include "engine/profile.h"
#include "tools/bench/bench.h"
#include "tools/bench/image_cases.h"
#include "tools/bench/model_cases.h"
#include "tools/cli/console.h"
#include "train/loop/train_step.h"
#include "train/optim/optimizer.h"

namespace qfm {
namespace {

// Cards for the floors of a plan. Copy rates and BF16 matrix rates as measured on such cards; F32 without
// tensor cores from the data sheet.
struct Card {
  const char* name;
  double copy_gbs, bf16_gflops, f32_gflops;
  double floor_us(double flops, double bytes, DType dtype) const {
    const double rate = dtype == DType::BF16 ? bf16_gflops : f32_gflops;
    return 1e6 * std::max(bytes / (copy_gbs * 1e9), flops / (rate * 1e9));
  }
};
constexpr Card kCards[] = {{"H100", 3000, 798e3, 67e3}, {"H200", 4300, 790e3, 67e3}};

using Costs = std::map<std::string, ProfileRow>;

// FLOPs and bytes of the ops that `run` runs, as they state them.
Costs costs_of(const std::function<void()>& run) {
  const bool before = profiling();
  reset_profile();
  set_profiling(true);
  run();
  Costs costs;
  for (ProfileRow& row : profile_rows()) costs[row.name] = row;
  set_profiling(before);
  reset_profile();
  return costs;
}

Costs costs_of_inference(const ModelConfig& config, int64_t batch, DType dtype) {
  Model model(config, cpu_device, dtype, false);
  model.params.initialise(0);
  model.params.pack();
  const FeatureShape shape = config.features();
  const Tensor black = Tensor::zeros({batch, 3, shape.image_height, shape.image_width}, dtype);
  const NoGrad inference;
  return costs_of([&] { model(black); });
}

Batch black_batch(const FeatureShape& shape, int64_t batch) {
  Batch photos;
  photos.pixels = Tensor::zeros({batch, shape.image_height, shape.image_width, 3}, DType::U8);
  photos.mirrored.resize(static_cast<size_t>(batch));
  photos.labels = Tensor::zeros({batch});
  for (int64_t i = 0; i < batch; ++i) {
    photos.photos.push_back(i);
    photos.samples.push_back(static_cast<uint32_t>(i));
  }
  photos.labelled = batch;
  return photos;
}

// matching: with gate and matched noise, a step that searches; it costs the same whatever the memory holds.
Costs costs_of_training(ModelConfig config, bool matching, int64_t batch, DType dtype) {
  config.select = matching;
  Model model(config);
  Options options;
  if (matching) options.set("match", std::string("matched"));
  Objectives objectives = make_objectives({options, model, {}, cpu_device, dtype, batch});
  model.params.allocate(cpu_device, dtype, true);
  model.params.initialise(0);
  Optimizer optimizer(model.params);
  TrainStep step(model, optimizer, std::move(objectives));
  const Batch photos = black_batch(config.features(), batch);
  return costs_of([&] { step(photos, 1, 1e-5); });
}

// Costs at any batch from those of small steps: most are linear in the batch (weights count once), that of a
// search is a square.
std::vector<ProfileRow> extrapolated(const std::function<Costs(int64_t batch)>& costs, bool search,
                                     int64_t batch) {
  const Costs one = costs(1), two = costs(2), three = search ? costs(3) : Costs();
  const auto more = static_cast<double>(batch - 1);
  const auto at = [&](const std::string& name, double ProfileRow::*cost) {
    const double f1 = one.at(name).*cost, f2 = two.at(name).*cost;
    const double bend = search ? three.at(name).*cost - 2 * f2 + f1 : 0;
    return f1 + more * (f2 - f1) + more * (more - 1) / 2 * bend;
  };
  std::vector<ProfileRow> rows;
  for (const auto& [name, row] : one)
    rows.push_back({name, row.calls, 0, at(name, &ProfileRow::flops), at(name, &ProfileRow::bytes)});
  return rows;
}

class Plan {
 public:
  Plan(const BenchOptions& options, DType dtype)
      : options_(options),
        dtype_(dtype),
        arch_(options.arch.empty() ? "vit-small" : options.arch),
        batch_(options.batch > 0 ? options.batch : 256) {
    report_ = bench_header("kernels --plan", cpu_device);
    report_.update({{"arch", arch_}, {"batch", batch_}, {"dtype", name_of(dtype)}});
  }

  int print_all() {
    const ModelConfig config = model_config(arch_);
    const auto step = [&](const char* key, const char* title, auto costs, bool search = false) {
      print_step(key, title,
                 extrapolated([&](int64_t b) { return costs(config, b, dtype_); }, search, batch_));
    };
    step("inference", "one inference step", costs_of_inference);
    const auto training = [](bool matching) {
      return [matching](const auto& c, int64_t b, DType dtype) { return costs_of_training(c, matching, b, dtype); };
    };
    step("rows", "one training step", training(false));
    step("method", "one training step with gate, search and permuted noise", training(true), true);
    std::vector<KernelCase> kernels = model_cases(config, batch_, dtype_);
    for (KernelCase& c : image_cases(batch_, dtype_)) kernels.push_back(std::move(c));
    print_kernels(kernels);
    QFM_CHECK(any_, "--only ", options_.only, ": no op has this in its name");
    if (!options_.output.empty()) write_file(options_.output, report_.dump(2) + "\n");
    return 0;
  }

 private:
  bool wants(const std::string& name) const { return name.find(options_.only) != std::string::npos; }

  void print_heading(const char* title, const char* what, const char* column) const {
    print(format("%s%s of %s, batch %lld, %s: what each %s must compute and move at least\n",
                 any_ ? "\n" : "", title, arch_.c_str(), static_cast<long long>(batch_), name_of(dtype_),
                 what));
    print(format("%-28s %18s %12s %12s %12s %12s\n", what, column, "GFLOP", "MB", "H100 us", "H200 us"));
  }
  static Json print_row(const std::string& name, const std::string& column, double flops, double bytes,
                        const double* us, const std::string& note = "") {
    print(format("%-28s %18s %12.3f %12.2f %12.1f %12.1f%s%s\n", name.c_str(), column.c_str(), flops / 1e9,
                 bytes / 1e6, us[0], us[1], note.empty() ? "" : "  ", note.c_str()));
    return {{"name", name},
            {"flops", flops},
            {"bytes", bytes},
            {"floor_us_h100", us[0]},
            {"floor_us_h200", us[1]}};
  }

  void print_step(const char* key, const char* title, std::vector<ProfileRow> rows) {
    std::erase_if(rows, [&](const ProfileRow& r) { return !wants(r.name); });
    report_[key] = Json::array();
    if (rows.empty()) return;
    const auto floor_us = [&](const Card& card, const ProfileRow& r) {
      return card.floor_us(r.flops, r.bytes, dtype_);
    };
    std::sort(rows.begin(), rows.end(), [&](const ProfileRow& a, const ProfileRow& b) {
      return floor_us(kCards[0], a) > floor_us(kCards[0], b);
    });
    print_heading(title, "op", "calls");
    any_ = true;
    ProfileRow sum{"sum of the floors", 0, 0, 0, 0};
    double floors[2] = {};
    const auto show = [&](const ProfileRow& r, const double* us) {
      Json row = print_row(r.name, std::to_string(r.calls), r.flops, r.bytes, us);
      row["calls"] = r.calls;
      report_[key].push_back(std::move(row));
    };
    for (const ProfileRow& r : rows) {
      const double us[2] = {floor_us(kCards[0], r), floor_us(kCards[1], r)};
      show(r, us);
      sum.calls += r.calls, sum.flops += r.flops, sum.bytes += r.bytes;
      for (int i = 0; i < 2; ++i) floors[i] += us[i];
    }
    show(sum, floors);
    print(format("no kernel overlapping another: at most %.0f (H100), %.0f (H200) images a second\n",
                 1e6 * static_cast<double>(batch_) / floors[0],
                 1e6 * static_cast<double>(batch_) / floors[1]));
  }

  void print_kernels(const std::vector<KernelCase>& cases) {
    report_["kernels"] = Json::array();
    for (const KernelCase& c : cases) {
      if (!wants(c.name)) continue;
      if (report_["kernels"].empty()) print_heading("each kernel alone, at the sizes", "kernel", "shape");
      any_ = true;
      const double us[2] = {kCards[0].floor_us(c.flops, c.bytes, dtype_),
                            kCards[1].floor_us(c.flops, c.bytes, dtype_)};
      Json row = print_row(c.name, c.shape, c.flops, c.bytes, us, c.note);
      row.update({{"kernel", c.kernel}, {"shape", c.shape}});
      report_["kernels"].push_back(std::move(row));
    }
  }

  const BenchOptions& options_;
  const DType dtype_;
  const std::string arch_;
  const int64_t batch_;
  Json report_;
  bool any_ = false;  // row has been printed
};

}  // namespace

int bench_plan(const BenchOptions& options, DType dtype) { return Plan(options, dtype).print_all(); }

}  // namespace qfm
