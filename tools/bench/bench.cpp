// qfm bench: how fast, and how near to what the machine can do.
#include "tools/bench/bench.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <ctime>
#include <fstream>
#include <memory>

#include "engine/base/cpu.h"
#include "engine/base/io.h"
#include "engine/base/threads.h"
#include "engine/cuda/cuda.h"
#include "engine/memory/memory.h"
#include "tools/cli/console.h"
#include "tools/cli/version.h"

namespace qfm {

Timing timing_of(std::vector<double> milliseconds) {
  std::sort(milliseconds.begin(), milliseconds.end());
  return {milliseconds[milliseconds.size() / 2], milliseconds.front(), milliseconds.back()};
}

namespace {

// 9 rounds of about 2 ms, at most 20 calls each.
Timing time_on_gpu(const std::function<void(size_t)>& run) {
  cuda::Event begin(true), end(true);
  size_t turn = 0;
  const auto milliseconds = [&](int calls) {
    begin.record(cuda::compute_stream());
    for (int i = 0; i < calls; ++i) run(turn++);
    end.record(cuda::compute_stream());
    return end.milliseconds_since(begin) / calls;
  };
  milliseconds(1);  // loads the kernels, builds the plans
  const int calls = std::clamp(static_cast<int>(2 / std::max(milliseconds(1), 1e-3)), 1, 20);
  milliseconds(calls);
  std::vector<double> times(9);
  for (double& t : times) t = milliseconds(calls);
  return timing_of(std::move(times));
}

}  // namespace

Timing time_calls(Device device, const std::function<void(size_t)>& run) {
  if (device != cpu_device && cuda::keeps_time()) return time_on_gpu(run);
  size_t turn = 0;
  return time_steps(device, [&] {
    run(turn++);
    if (device != cpu_device) cuda::synchronize();
  });
}

Timing time_steps(Device device, const std::function<void()>& f) {
  if (device == cpu_device || cuda::keeps_time()) return measure(f);
  f();
  return timing_of({milliseconds_of(f)});
}

std::pair<Timing, Timing> time_in_turn(Device device, const std::function<void()>& f,
                                       const std::function<void()>& g) {
  const size_t warm_up = 2, rounds = device == cpu_device || cuda::keeps_time() ? 15 : 1;
  std::vector<double> of_f, of_g;
  for (size_t i = 0; i < warm_up; ++i) f(), g();
  for (size_t i = 0; i < rounds; ++i) of_f.push_back(milliseconds_of(f)), of_g.push_back(milliseconds_of(g));
  return {timing_of(std::move(of_f)), timing_of(std::move(of_g))};
}

int64_t beyond_caches(Device device) {
  const int64_t last =
      device == cpu_device ? int64_t{32} << 20 : static_cast<int64_t>(cuda::l2_cache_bytes());
  return 4 * last;
}

Json peak_memory(Device device) { return {{"peak_tensor_mb", memory_count(device).peak >> 20}}; }

namespace {

// "qfm bench train --batch 16", as typed.
std::string command_line() {
  std::ifstream words("/proc/self/cmdline");
  std::string line = "qfm", word;
  std::getline(words, word, '\0');
  while (std::getline(words, word, '\0')) line += " " + word;
  return line;
}

std::string today() {
  char text[11] = "";
  const std::time_t now = std::time(nullptr);
  std::strftime(text, sizeof(text), "%F", std::gmtime(&now));
  return text;
}

}  // namespace

Json bench_header(const std::string& what, Device device) {
  const bool on_cpu = device == cpu_device;
  return {{"tool", "qfm"},
          {"version", version()},
          {"commit", commit()},
          {"date", today()},
          {"command", command_line()},
          {"bench", what},
          {"device", on_cpu ? cpu_name() : cuda::device_name()},
          {"driver", on_cpu ? "none" : cuda::driver_version()}};
}

BenchReport::BenchReport(const BenchOptions& options, const std::string& what, Placement where)
    : options_(options), peaks_(peaks_of(options, where)) {
  const bool on_cpu = where.device == cpu_device;
  report_ = bench_header(what, options, where, peaks_);
  if (on_cpu) report_["path"] = name_of(cpu());
  else add_kernels(report_, where.device);
  report_["rows"] = Json::array();
  const std::string path = on_cpu ? concat(", path ", name_of(cpu())) : "";
  print(format("%s, %d threads, %s%s, commit %s\nmeasured peak: %s\n",
               report_["device"].get<std::string>().c_str(), threads(), options.common.dtype.c_str(),
               path.c_str(), commit(), text_of(peaks_).c_str()));
  print(format("%-34s %10s %20s %9s %8s\n", "", "ms median", "[min, max]", "GFLOP/s", "of peak"));
}

bool BenchReport::wants(const std::string& name) const {
  return name.find(options_.only) != std::string::npos;
}

void BenchReport::add(const std::string& name, const Timing& ms, double gflop, Json more) {
  Json row = {{"name", name}, {"median_ms", ms.median}, {"min_ms", ms.least}, {"max_ms", ms.most}};
  std::string line = format("%-34s %10.3f [%8.3f, %8.3f]", name.c_str(), ms.median, ms.least, ms.most);
  if (gflop > 0) {
    const double rate = gflop / (ms.median / 1e3);
    row.update({{"gflop", gflop}, {"gflops", rate}});
    line += format(" %9.1f", rate);
    if (peaks_.gflops > 0) {
      row["share_of_peak"] = rate / peaks_.gflops;
      line += format(" %7.1f%%", 100 * rate / peaks_.gflops);
    }
  }
  row.update(more);
  report_["rows"].push_back(row);
  for (const auto& [key, value] : more.items()) line += "  " + key + " " + value.dump();
  print(line + "\n");
}

int BenchReport::finish() {
  QFM_CHECK(!report_["rows"].empty(), "--only ", options_.only, ": no row has this in its name");
  if (!options_.output.empty()) write_file(options_.output, report_.dump(2) + "\n");
  return 0;
}

double training_gflop(const ModelConfig& model) {
  const BackboneConfig& backbone = *model.backbone;
  return 1e-9 * (backbone.forward_flops() + backbone.backward_flops() + 3 * model.head->forward_flops(model.features()));
}

#ifndef QFM_DEPLOY
namespace {

void add_method_options(CLI::App& app, BenchOptions& options) {
  app.add_option("--match", options.match, "Semantic noise (matched|random|gaussian|off) [off]")
      ->check(CLI::IsMember({"matched", "random", "gaussian", "off"}).description(""))
      ->type_name("TEXT");
  app.add_option("--method", options.method_version, "Which reconstruction of matching (v1|v2) [v1]")
      ->check(CLI::IsMember({"v1", "v2"}).description(""))
      ->type_name("TEXT");
  app.add_option("--adversarial", options.adversarial, "Strengths or partners of noise tried; 0: off [0]")
      ->check(CLI::Range(0, 64).description(""))
      ->type_name("N");
  app.add_option_function<std::string>(
         "--select", [&](const std::string& text) { options.select = text == "on"; },
         "Feature selection head (on|off) [off]")
      ->check(CLI::IsMember({"on", "off"}).description(""))
      ->type_name("TEXT");
  const auto number = [&](const char* name, double& value, double high, const char* description) {
    app.add_option(name, value, description)->check(CLI::Range(0.0, high).description(""))->type_name("X");
  };
  number("--ema", options.ema, 0.999999, "Decay of the averaged student; 0: off [0]");
  number("--w-contrast", options.w_contrast, 1e6, "Weight of the contrastive term [0]");
  number("--w-distil-feat", options.w_distil_feat, 1e6,
         "Weight of the features of the averaged student, with --ema [0]");
}

}  // namespace
#endif

void add_bench(CLI::App& parent, const RegisterAction& on) {
  CLI::App* bench =
      add_subcommand(parent, "bench", "Measure speed: medians, and shares of this machine's measured peak",
                     "qfm bench model --threads 2");
  bench->require_subcommand(1);
  const auto add = [&](const char* name, const char* description,
                       int (*run)(const BenchOptions&, Placement)) {
    const std::string_view bench_name = name;
    const bool tunes = bench_name == "tune", scores = bench_name == "model" || bench_name == "kernels";
    const auto options = std::make_shared<BenchOptions>();
    CLI::App* app =
        add_subcommand(*bench, name, description, std::string("qfm bench ") + name + " --threads 2");
    app->add_option("--only", options->only, "Only rows with this in their name")->type_name("NAME");
    app->add_option("--arch", options->arch, CLI::detail::join(architectures(), ", "))->type_name("NAME");
    app->add_option("--batch", options->batch, "Images in a batch")
        ->check(CLI::Range(1, 4096).description(""))
        ->type_name("N");
#ifndef QFM_DEPLOY
    if (run == bench_train) add_method_options(*app, *options);
#endif
    if (!tunes)
      app->add_option("--peaks", options->peaks,
                      "Take the peaks of this earlier report of the same device, instead of measuring them")
          ->type_name("FILE.json");
    const std::string extension = tunes ? ".txt" : ".json";
    app->add_option("-o", options->output, "Also write the figures to this " + extension)->type_name("FILE");
    add_device_options(*app, options->common);
    add_common_options(*app, options->common);
    on(app, [options, run, extension, scores] {
      if (!options->output.empty()) checked_extension(options->output, extension);
      if (!options->arch.empty()) as_usage("--arch", [&] { model_config(options->arch); });
      as_usage("--w-distil-feat",
               [&] { QFM_CHECK(options->w_distil_feat == 0 || options->ema > 0, "needs --ema"); });
      if (asked_dtype(options->common) == DType::I8 && !scores)
        throw UsageError("--dtype int8: is for scoring: bench model, bench kernels");
      const Placement where = apply(options->common);
      options->common.dtype = flag_of(where.dtype);  // auto is none of a report's
      return run(*options, where);
    });
    return std::pair(app, options);
  };
  add("model", "Forward passes, per image", bench_model);
#ifndef QFM_DEPLOY
  add("train", "Whole training steps, per image: forward, backward, clipping, AdamW", bench_train);
  const auto [decode, decode_options] = add("decode", "From the bytes of a photo to crops, on one thread",
                                            [](const BenchOptions& options, Placement) { return bench_decode(options); });
  decode->add_option("PHOTO", decode_options->photos, "Files of any format [a drawn photo of 1024 x 768 as JPEG and PNG]");
  const auto [kernels, kernel_options] = add(
      "kernels", "Each kernel of a transformer alone; with --only conv, batchnorm or pool those of ResNet-50 and EfficientNet-Lite0",
      bench_kernels);
  kernels->add_flag("--plan", kernel_options->plan,
                    "Instead of times: FLOPs, bytes and floors of every op of a step and of every kernel, "
                    "for an H100 and an H200");
  add("tune", "On a GPU: own kernels against cuBLASLt and cuDNN; the file is what QFM_KERNELS=FILE reads",
      bench_tune);
#endif
}

}  // namespace qfm
