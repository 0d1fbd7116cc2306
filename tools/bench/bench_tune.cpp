// qfm bench tune: own kernels against cuBLASLt's and cuDNN's, operation by operation, and the table of the
// faster ones.
#include <algorithm>
#include <functional>
#include <set>

#include "engine/base/io.h"
#include "engine/cuda/cuda.h"
#include "kernels/vendor/kernel_policy.h"
#include "kernels/vendor/vendor_case.h"
#include "layers/patch_embed.h"
#include "tools/bench/bench.h"
#include "tools/bench/cold_buffers.h"
#include "tools/bench/model_cases.h"
#include "tools/cli/console.h"
#include "tools/cli/version.h"

namespace qfm {
namespace {

constexpr int kMostSuggestions = 8;

struct TunedCase {
  std::string name;
  std::function<TimedRun()> prepare;
};

// The patch embedding as the model runs it without gradients.
TimedRun patch_embedding(const TransformerSizes& sizes, int64_t batch, Placement where, int64_t cold_bytes) {
  const Shape pixels{batch, 3, sizes.image_height, sizes.image_width};
  const ColdBuffers make(
      where, static_cast<double>(pixels.numel()) * static_cast<double>(size_of(where.dtype)), cold_bytes);
  return [images = make(pixels), w = make({sizes.width, 3, sizes.patch, sizes.patch}),
          b = make({sizes.width})](size_t turn) {
    const NoGrad inference;
    patch_embed(images[turn], w[turn], b[turn]);
  };
}

std::vector<TunedCase> tuned_cases(const ModelConfig& config, int64_t batch, Placement where) {
  const int64_t cold_bytes = beyond_caches(where.device);
  std::vector<TunedCase> cases;
  for (const KernelCase& c : model_cases(config, batch, where.dtype))
    cases.push_back({c.name, [=] { return prepared(c, where.device, cold_bytes); }});
  cases.push_back({"patch_embed", [=] { return patch_embedding(transformer_of(config), batch, where, cold_bytes); }});
  return cases;
}

// While it lives, choices are made so and the operations that ask are listed.
struct Listening {
  std::set<std::string> asked;
  explicit Listening(KernelPolicy by) {
    by.asked = &asked;
    set_policy(std::move(by));
  }
  ~Listening() {
    KernelPolicy by = policy();
    by.asked = nullptr;
    set_policy(std::move(by));
  }
  Listening(const Listening&) = delete;
  Listening& operator=(const Listening&) = delete;
};

// The operations of the case that may go to a vendor. A patch embedding decides before the product that it
// else is.
std::set<std::string> asked_by(const TimedRun& run) {
  KernelPolicy own;
  own.prefer = KernelPolicy::Prefer::Own;
  Listening listening(std::move(own));
  run(0);
  std::set<std::string> asked = listening.asked;
  const auto is_patch_embed = [](const std::string& key) { return key.starts_with("patch_embed"); };
  if (std::any_of(asked.begin(), asked.end(), is_patch_embed))
    std::erase_if(asked, std::not_fn(is_patch_embed));
  return asked;
}

// Makes every operation of the case follow the choice. False: the vendor could not.
bool follow(const Choice& choice, const std::set<std::string>& keys, const TimedRun& run) {
  KernelPolicy by;
  for (const std::string& key : keys) by.table.choices[key] = choice;
  const Listening listening(std::move(by));
  const uint64_t before = vendor_calls();
  run(0), run(1);
  cuda::synchronize();
  return !choice.vendor || (vendor_calls() > before &&
                            listening.asked == keys);  // a patch embedding refused asks for a product
}

struct Tuned {
  double own = 0, vendor = 0;  // microseconds; the best of the vendor's suggestions, 0 where it has none
  Choice choice;
};

// A suggestion that fails is never chosen, and is reported; those after it have their turn.
Tuned tuned(const std::set<std::string>& keys, const TimedRun& run, Device device) {
  const auto microseconds = [&] { return 1e3 * time_calls(device, run).median; };
  follow({}, keys, run);
  Tuned t;
  t.own = microseconds();
  double best = t.own;
  for (int i = 0; i < kMostSuggestions; ++i) {
    const size_t failures = vendor_failures().size();
    const auto failed = [&] { return vendor_failures().size() > failures; };
    bool more = true;
    const std::string why = failure_of([&] {
      more = follow({true, i}, keys, run) || failed();
      if (!more || failed()) return;
      const double us = microseconds();
      if (failed()) return;
      t.vendor = t.vendor == 0 ? us : std::min(t.vendor, us);
      if (us < best) best = us, t.choice = {true, i};
    });
    if (!why.empty()) warn(error_line(concat(*keys.begin(), " = vendor ", i, ": ", why)));
    if (!more) break;
  }
  return t;
}

}  // namespace

int bench_tune(const BenchOptions& options, Placement where) {
  const std::string vendors = vendors_text();
  QFM_CHECK(where.device != cpu_device, "bench tune: needs a GPU: ",
            cuda::available() ? "give --device cuda" : cuda::unavailable_reason());
  QFM_CHECK(!vendors.empty(), "bench tune: this build has neither cuBLASLt nor cuDNN to measure");
  const std::string arch = options.arch.empty() ? "vit-small" : options.arch;
  const int64_t batch = options.batch > 0 ? options.batch : 256;
  PolicyTable table;
  table.about = {{"device", cuda::device_name()}, {"driver", cuda::driver_version()}, {"commit", commit()}};
  for (size_t begin = 0; begin < vendors.size();) {  // "cublaslt 13.1.0, cudnn 9.19.0"
    const size_t end = std::min(vendors.find(", ", begin), vendors.size()), space = vendors.find(' ', begin);
    table.about[vendors.substr(begin, space - begin)] = vendors.substr(space + 1, end - space - 1);
    begin = end + 2;
  }
  print(format("%s, %s, %s\n%-52s %10s %10s  %s\n", cuda::device_name().c_str(), vendors.c_str(),
               options.common.dtype.c_str(), "", "own us", "vendor us", "choice"));
  int failed = 0;
  for (const TunedCase& c : tuned_cases(model_config(arch), batch, where)) {
    if (c.name.find(options.only) == std::string::npos) continue;
    std::set<std::string> keys;
    Tuned t;
    const std::string failure = failure_of([&] {
      const TimedRun run = c.prepare();
      keys = asked_by(run);
      if (!keys.empty()) t = tuned(keys, run, where.device);
    });
    set_policy({});
    if (!failure.empty()) {
      warn(error_line(concat(c.name, ": ", failure, "; left out of the table")));
      ++failed;
      continue;
    }
    for (const std::string& key : keys) {
      table.choices[key] = t.choice;
      print(format("%-52s %10.1f %10s  %s\n", key.c_str(), t.own,
                   t.vendor == 0 ? "-" : format("%.1f", t.vendor).c_str(),
                   t.choice.vendor ? format("vendor %d", t.choice.algorithm).c_str() : "own"));
    }
  }
  QFM_CHECK(failed > 0 || !table.choices.empty(), "--only ", options.only,
            ": no operation that a vendor has");
  if (!options.output.empty()) write_file(options.output, table.text());
  return failed != 0;
}

}  // namespace qfm
