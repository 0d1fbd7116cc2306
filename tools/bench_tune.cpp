// qfm bench tune: own kernels against cuBLASLt's and cuDNN's, operation by operation, and the table of the
// faster ones.
#include <algorithm>
#include <functional>
#include <set>

#include "engine/base/cuda.h"
#include "engine/base/io.h"
#include "kernels/choice.h"
#include "layers/patch_embed.h"
#include "tools/bench.h"
#include "tools/console.h"
#include "tools/kernel_cases.h"
#include "tools/version.h"

namespace qfm {
namespace {

constexpr int kMostSuggestions = 8;

// The patch embedding as the model runs it without gradients.
KernelCase patch_embedding(const VitConfig& vit, int64_t batch, Placement where) {
  const auto prepare = [=]() -> KernelCase::Run {
    const auto zeros = [&](Shape shape) { return Tensor::zeros(shape, where.dtype, where.device); };
    return [images = zeros({batch, 3, vit.image_height, vit.image_width}),
            w = zeros({vit.width, 3, vit.patch, vit.patch}), b = zeros({vit.width})](size_t) {
      const NoGrad inference;
      patch_embed(images, w, b);
    };
  };
  KernelCase made;
  made.name = "patch_embed", made.prepare = prepare;
  return made;
}

// The operations of the case that may go to a vendor. A patch embedding decides before the product that it
// else is.
std::set<std::string> asked_by(const KernelCase::Run& run) {
  std::set<std::string> asked;
  Deciding by;
  by.prefer = Deciding::Prefer::Own, by.asked = &asked;
  set_deciding(by);
  run(0);
  set_deciding({});
  const auto is_patch_embed = [](const std::string& key) { return key.starts_with("patch_embed"); };
  if (std::any_of(asked.begin(), asked.end(), is_patch_embed))
    std::erase_if(asked, std::not_fn(is_patch_embed));
  return asked;
}

// Makes every operation of the case follow the choice. False: the vendor could not.
bool follow(const Choice& choice, const std::set<std::string>& keys, const KernelCase::Run& run) {
  std::set<std::string> asked;
  Deciding by;
  for (const std::string& key : keys) by.table.choices[key] = choice;
  by.asked = &asked;
  set_deciding(by);
  const uint64_t before = vendor_calls();
  run(0), run(1);
  cuda::synchronize();
  by.asked = nullptr;
  set_deciding(by);
  return !choice.vendor ||
         (vendor_calls() > before && asked == keys);  // a patch embedding refused asks for a product
}

}  // namespace

int bench_tune(const BenchOptions& options, Placement where) {
  const std::string vendors = vendors_text();
  QFM_CHECK(where.device != cpu_device, "bench tune: needs a GPU: ",
            cuda::available() ? "give --device cuda" : cuda::unavailable_reason());
  QFM_CHECK(!vendors.empty(), "bench tune: this build has neither cuBLASLt nor cuDNN to measure");
  const std::string arch = options.arch.empty() ? "vit-small" : options.arch;
  const int64_t batch = options.batch > 0 ? options.batch : 256;
  ChoiceTable table;
  table.about = {{"device", cuda::device_name()}, {"driver", cuda::driver_version()}, {"commit", commit()}};
  for (size_t begin = 0; begin < vendors.size();) {  // "cublaslt 13.1.0, cudnn 9.19.0"
    const size_t end = std::min(vendors.find(", ", begin), vendors.size()), space = vendors.find(' ', begin);
    table.about[vendors.substr(begin, space - begin)] = vendors.substr(space + 1, end - space - 1);
    begin = end + 2;
  }
  print(format("%s, %s, %s\n%-52s %10s %10s  %s\n", cuda::device_name().c_str(), vendors.c_str(),
               options.common.dtype.c_str(), "", "own us", "vendor us", "choice"));
  const ModelConfig config = model_config(arch);
  auto cases = kernel_cases(config, batch, where, beyond_caches(where.device));
  cases.push_back(patch_embedding(config.vit, batch, where));
  for (const KernelCase& c : cases) {
    if (c.name.find(options.only) == std::string::npos) continue;
    const KernelCase::Run run = c.prepare();
    const std::set<std::string> keys = asked_by(run);
    if (keys.empty()) continue;
    follow({}, keys, run);
    const auto microseconds = [&] { return 1e3 * time_calls(where.device, run).median; };
    const double own = microseconds();
    double best = own, vendor = 0;
    Choice choice;
    for (int i = 0; i < kMostSuggestions && follow({true, i}, keys, run); ++i) {
      const double us = microseconds();
      vendor = vendor == 0 ? us : std::min(vendor, us);
      if (us < best) best = us, choice = {true, i};
    }
    for (const std::string& key : keys) {
      table.choices[key] = choice;
      print(format("%-52s %10.1f %10s  %s\n", key.c_str(), own,
                   vendor == 0 ? "-" : format("%.1f", vendor).c_str(),
                   choice.vendor ? format("vendor %d", choice.algorithm).c_str() : "own"));
    }
  }
  QFM_CHECK(!table.choices.empty(), "--only ", options.only, ": no operation that a vendor has");
  if (!options.output.empty()) write_file(options.output, table.text());
  return 0;
}

}  // namespace qfm
