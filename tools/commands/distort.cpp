// qfm distort: photos of known order of quality.
#include "train/image/distort.h"

#include <CLI/CLI.hpp>
#include <filesystem>
#include <map>
#include <memory>

#include "engine/base/io.h"
#include "engine/base/rng.h"
#include "engine/base/threads.h"
#include "tools/cli/command.h"
#include "tools/cli/console.h"
#include "tools/cli/photos.h"
#include "train/image/decode.h"
#include "train/image/encode.h"

namespace qfm {
namespace {

namespace fs = std::filesystem;

struct DistortOptions {
  CommonOptions common;
  std::vector<std::string> paths, kinds;
  std::vector<int> levels;
  std::string folder;
};

std::vector<Distortion> kinds_of(const DistortOptions& options) {
  if (options.kinds.empty()) return {Distortion::Blur, Distortion::Noise, Distortion::Jpeg};
  std::vector<Distortion> kinds;
  for (const auto& name : options.kinds)
    kinds.push_back(as_usage("--kind", [&] { return parse_distortion(name); }));
  return kinds;
}

void check_names(const std::vector<PhotoEntry>& photos) {
  std::map<std::string, std::string> seen;
  for (const auto& photo : photos) {
    const auto [it, added] = seen.emplace(fs::path(photo.path).stem().string(), photo.path);
    if (!added) throw UsageError(photo.path + ": would get the names of " + it->second);
  }
}

// Writes the versions of one photo and their rows of the manifest.
std::string write_versions(const std::string& path, const std::vector<Distortion>& kinds,
                           const DistortOptions& options) {
  const Image photo = decode_image(path);
  const std::string stem = fs::path(path).stem().string();
  std::string rows;
  const auto write = [&](const std::string& name, const Image& image, int level) {
    write_image((fs::path(options.folder) / name).string(), image);
    rows += "\"" + name + "\"," + std::to_string(100 - 20 * level) + ",\"" + stem + "\"\n";
  };
  write(stem + ".png", photo, 0);
  for (Distortion kind : kinds)
    for (int level : options.levels)
      write(stem + "_" + name_of(kind) + "_" + std::to_string(level) + ".png",
            distort(photo, kind, level, options.common.seed, purpose(stem)), level);
  return rows;
}

int run_distort(const DistortOptions& options) {
  set_threads(options.common.threads);
  const auto kinds = kinds_of(options);
  const auto photos = list_photos(options.paths, false);
  check_names(photos);
  std::error_code error;
  fs::create_directories(options.folder, error);
  QFM_CHECK(!error, options.folder, ": cannot be made: ", error.message());
  Progress progress(options.common.quiet, "photos", static_cast<int64_t>(photos.size()));
  std::string manifest = "image,score,reference\n";
  int64_t done = 0;
  bool failed = false;
  for (const auto& photo : photos) {
    try {
      QFM_CHECK(photo.error.empty(), photo.path, ": ", photo.error);
      manifest += write_versions(photo.path, kinds, options);
    } catch (const Error& e) {
      progress.clear();
      warn(error_line(e.what()));
      failed = true;
    }
    progress.update(++done);
  }
  write_file((fs::path(options.folder) / "manifest.csv").string(), manifest);
  return failed;
}

}  // namespace

void add_distort(CLI::App& parent, const RegisterAction& on) {
  const auto options = std::make_shared<DistortOptions>();
  options->levels = {1, 2, 3, 4, 5};
  CLI::App* app = add_subcommand(
      parent, "distort",
      "Make graded distortions of photos.\n"
      "Blur, noise and JPEG, 5 levels each, as DIR/NAME_KIND_LEVEL.png; DIR/NAME.png is the photo itself. "
      "DIR/manifest.csv gives each a score of 100 - 20 x level, fit for qfm train.",
      "qfm distort photo.jpg -o distorted");
  app->add_option("IMAGE", options->paths, "Photos or folders of photos")->required();
  app->add_option("-o", options->folder, "Folder to write to")->type_name("DIR")->required();
  app->add_option("--kind", options->kinds, "blur, noise, jpeg (default: all)")
      ->delimiter(',')
      ->type_name("KIND,...");
  app->add_option("--level", options->levels, "1 (mild) to 5 (strong) (default: all)")
      ->delimiter(',')
      ->check(CLI::Range(1, distortion_levels).description(""))
      ->type_name("N,...");
  add_common_options(*app, options->common);
  on(app, [options] { return run_distort(*options); });
}

}  // namespace qfm
