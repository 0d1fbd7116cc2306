// qfm compare: photos beside their originals.
#include <malloc.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <memory>
#include <new>
#include <optional>

#include "engine/base/io.h"
#include "engine/base/prefetch.h"
#include "engine/base/threads.h"
#include "tools/cli/command.h"
#include "tools/cli/console.h"
#include "tools/cli/photo_options.h"
#include "tools/cli/photo_pairs.h"
#include "tools/cli/results.h"
#include "tools/cli/version.h"
#include "tools/commands/map_image.h"
#include "train/data/csv_field.h"
#include "train/full_reference/full_reference.h"
#include "train/image/decode.h"
#include "train/image/encode.h"

namespace qfm {
namespace {

struct CompareOptions {
  CommonOptions common;
  PhotoOptions photos;
  std::string reference, output, map;
  bool json = false;
};

struct Compared {
  PhotoPair pair;
  FullReference measures;
};

std::vector<std::pair<const char*, std::optional<double>>> named(const FullReference& m) {
  return {{"psnr", m.psnr}, {"ssim", m.ssim}, {"ms_ssim", m.ms_ssim}, {"gmsd", m.gmsd}, {"vif", m.vif}};
}

std::string text_row(const Compared& c) {
  std::string line;
  for (const auto& [name, value] : named(c.measures)) {
    const bool decibels = name == std::string_view("psnr");
    line += (value ? format(decibels ? "%.2f" : "%.4f", *value) : decibels ? "inf" : "-") + "  ";
  }
  return line + c.pair.path + "\n";
}

Json json_of(const Compared& c) {
  const auto path_or_null = [](const std::string& path) { return path.empty() ? Json(nullptr) : Json(path); };
  Json line{{"reference", path_or_null(c.pair.reference)}, {"path", path_or_null(c.pair.path)}};
  if (!c.pair.error.empty()) line["error"] = c.pair.error;
  else
    for (const auto& [name, value] : named(c.measures))
      line[name] = value ? Json(std::round(*value * 1e6) / 1e6) : Json(nullptr);
  return line;
}

std::string csv_row(const Compared& c) {
  std::string line = csv_field(c.pair.reference) + "," + csv_field(c.pair.path);
  for (const auto& [name, value] : named(c.measures))
    line += "," + (c.pair.error.empty() && value ? format("%.6f", *value) : "");
  return line + "," + csv_field(c.pair.error) + "\n";
}

std::string file_of(const std::string& extension, const std::vector<Compared>& all, bool ignores_icc) {
  Json header{{"tool", "qfm"}, {"version", version()}, {"commit", commit()}};
  if (ignores_icc) header["icc"] = "ignored";
  add_kernels(header, cpu_device);
  if (extension == ".csv") {
    std::string text = csv_header(header) + "reference,path,psnr,ssim,ms_ssim,gmsd,vif,error\n";
    for (const Compared& c : all) text += csv_row(c);
    return text;
  }
  std::vector<Json> lines;
  for (const Compared& c : all) lines.push_back(json_of(c));
  return json_file(extension, header, lines);
}

void write_map(const std::string& path, const Image& reference, const Image& distorted) {
  const Plane difference = ssim_difference(reference, distorted);
  QualityMap map{difference.width, difference.height, {}};
  for (int y = 0; y < map.height; ++y)
    map.values.insert(map.values.end(), difference.row(y), difference.row(y) + map.width);
  write_image(path, map_over(distorted, map, 0, 1));
}

// Decodes and compares a pair; what is wrong with it is its error.
class Comparer {
 public:
  Comparer(const CompareOptions& options, const std::vector<PhotoPair>& pairs)
      : decode_(options.photos.decode()), map_(options.map), pairs_(pairs) {
    // The one original of many photos is decoded once.
    if (pairs.size() > 1 && std::all_of(pairs.begin(), pairs.end(), [&](const PhotoPair& pair) {
          return pair.reference == pairs.front().reference;
        }))
      common_ = decode_image(pairs.front().reference, decode_);
  }

  Compared operator()(int64_t i) const {
    Compared c{pairs_[static_cast<size_t>(i)], {}};
    if (!c.pair.error.empty()) return c;
    try {
      const Image own = common_ ? Image() : decode_image(c.pair.reference, decode_);
      const Image& reference = common_ ? *common_ : own;
      const Image distorted = decode_image(c.pair.path, decode_);
      c.measures = full_reference(reference, distorted);
      if (!map_.empty()) write_map(map_, reference, distorted);
    } catch (const Error& error) {
      c.pair.error = error.what();
      if (const std::string name = c.pair.path + ": "; c.pair.error.starts_with(name))
        c.pair.error.erase(0, name.size());
    } catch (const std::bad_alloc&) {
      c.pair.error = "out of memory";
    }
    return c;
  }

 private:
  const DecodeOptions decode_;
  const std::string map_;
  const std::vector<PhotoPair>& pairs_;
  std::optional<Image> common_;
};

int compare(const CompareOptions& options) {
  const std::string extension =
      options.output.empty() ? "" : checked_extension(options.output, ".json .jsonl .csv");
  if (!options.map.empty()) checked_extension(options.map, ".png");
  set_threads(options.common.threads);
  const auto pairs = list_pairs(options.reference, options.photos.paths, options.photos.recursive);
  if (!options.map.empty() && pairs.size() != 1)
    throw UsageError(concat("--map is for one pair of photos, not ", pairs.size()));
  const Comparer comparer(options, pairs);
  const auto count = static_cast<int64_t>(pairs.size());
  // Several pairs are compared side by side, each on one thread.
  const int workers = count > 1 && threads() > 1 ? threads() : 0;
  if (workers > 0) set_threads(1);
  // Every pair takes and leaves the same large blocks: kept, not given back to the system and zeroed by it again.
  ::mallopt(M_MMAP_THRESHOLD, 1 << 30);
  ::mallopt(M_TRIM_THRESHOLD, 1 << 30);
  Prefetch<Compared> ahead(0, count, workers, workers + 2, comparer);
  Progress progress(options.common.quiet, "pairs", count);
  std::vector<Compared> all;
  int64_t failed = 0;
  while (!ahead.done()) {
    all.push_back(ahead.next());
    const Compared& c = all.back();
    progress.clear();
    if (!c.pair.error.empty()) {
      ++failed;
      warn(error_line((c.pair.path.empty() ? c.pair.reference : c.pair.path) + ": " + c.pair.error));
    }
    if (options.json) print(to_line(json_of(c)));
    else if (extension.empty() && c.pair.error.empty()) print(text_row(c));
    progress.update(static_cast<int64_t>(all.size()));
  }
  progress.clear();
  if (!extension.empty()) write_file(options.output, file_of(extension, all, options.photos.ignores_icc()));
  note(options.common.quiet,
       format("%lld pair%s compared, %lld failed, %.1f pairs a second\n", static_cast<long long>(count - failed),
              count - failed == 1 ? "" : "s", static_cast<long long>(failed),
              static_cast<double>(count - failed) / std::max(progress.seconds(), 1e-9)));
  return failed > 0;
}

}  // namespace

void add_compare(CLI::App& parent, const RegisterAction& on) {
  const auto options = std::make_shared<CompareOptions>();
  CLI::App* app = add_subcommand(
      parent, "compare",
      "Compare photos with their originals: how much a codec, a resize or a filter changed.\n"
      "Prints PSNR  SSIM  MS-SSIM  GMSD  VIF  PATH. Better is higher, but for GMSD, which is 0 for equal "
      "photos; of those PSNR is "
      "infinite (null in JSON) and the others are 1. No opinion is asked and none was learned from.\n"
      "PSNR is over R, G and B; the others on luma, 0.299 R + 0.587 G + 0.114 B, rounded. PSNR and SSIM "
      "equal scikit-image "
      "(SSIM: Gaussian window 11 x 11, sigma 1.5, K1 0.01, K2 0.03, biased variances, no downsampling), the "
      "others pyiqa: MS-SSIM "
      "with 5 scales of this window, halved by means of 2 x 2; GMSD after one halving, Prewitt, T 170; VIF "
      "in the wavelet domain, "
      "4 scales, noise 0.4. A side below 11 pixels has no SSIM, below 161 no MS-SSIM, below 4 no GMSD, below "
      "33 no VIF, nor has "
      "a flat original: - in text, null in JSON.",
      "qfm compare original.png smaller.jpg smaller.webp");
  app->add_option("REF", options->reference, "The original, or a folder of originals")->required();
  app->add_option("DIST", options->photos.paths,
                  "Photos to compare with it, or folders of them; where REF is a folder, folders whose "
                  "photos have its names "
                  "(an extension may differ where that leaves one of a name on both sides)")
      ->required();
  app->add_flag("-r,--recursive", options->photos.recursive, "Descend into the folders of folders");
  app->add_flag("--json", options->json, "Print JSON lines, one a pair");
  app->add_option("-o", options->output, "Write a file instead: .json, .jsonl or .csv")->type_name("FILE");
  app->add_option("--map", options->map,
                  "Of one pair: where they differ, 1 - SSIM from 0 (dark blue) to 1 (yellow), over the photo")
      ->type_name("FILE.png");
  add_decode_options(*app, options->photos);
  add_common_options(*app, options->common);
  on(app, [options] { return compare(*options); });
}

}  // namespace qfm
