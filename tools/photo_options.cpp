#include "tools/photo_options.h"

#include <CLI/CLI.hpp>
#include <charconv>

#include "tools/command.h"

namespace qfm {

PredictOptions PhotoOptions::predict(uint64_t seed) const {
  PredictOptions predict;
  predict.crops = as_usage("--crops", [&] { return parse_crops(crops); });
  predict.seed = seed;
  if (resize.empty()) return predict;
  if (resize == "none") {
    predict.resize = 0;
    return predict;
  }
  int64_t side = 0;
  const auto [end, error] = std::from_chars(resize.data(), resize.data() + resize.size(), side);
  if (error != std::errc{} || end != resize.data() + resize.size() || side < 224 || side > 65536)
    throw UsageError("--resize " + resize + ": use 'none' or a side in pixels, 224 to 65536");
  predict.resize = side;
  return predict;
}

void add_photo_options(CLI::App& app, PhotoOptions& options) {
  app.add_option("PATH", options.paths, "Photos, folders, or - for a list on standard input, one a line")
      ->required();
  app.add_flag("-r,--recursive", options.recursive, "Descend into the folders of folders");
  add_view_options(app, options);
}

void add_view_options(CLI::App& app, PhotoOptions& options) {
  app.add_option(
         "--crops", options.crops,
         "Windows of 224 x 224 looked at: grid (default: evenly spaced, at most 10), center, random:N")
      ->type_name("HOW");
  app.add_option(
         "--resize", options.resize,
         "Bring the shorter side down to SIDE before cropping, or none (default: as the checkpoint says); a "
         "side below 224 is brought up to 224; Pillow's antialiased filter")
      ->type_name("SIDE");
  app.add_flag("--no-exif", options.no_exif, "Do not turn photos upright by their EXIF orientation");
  app.add_option("--max-pixels", options.max_pixels,
                 "Refuse larger photos before decoding (default 200000000)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40).description(""))
      ->type_name("N");
  app.footer(
      "Photos are JPEG, PNG, BMP, GIF (first frame), PNM or TGA. EXIF orientation is applied; alpha is "
      "composited "
      "over white,\n16-bit takes the high byte, CMYK is converted, gray is repeated.\n" +
      app.get_footer());
}

}  // namespace qfm
