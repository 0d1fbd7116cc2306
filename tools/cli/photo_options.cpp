#include "tools/cli/photo_options.h"

#include <CLI/CLI.hpp>

#include "tools/cli/command.h"
#include "train/image/formats.h"

namespace qfm {

PredictOptions PhotoOptions::predict(uint64_t seed) const {
  PredictOptions predict;
  predict.crops = as_usage("--crops", [&] { return parse_crops(crops); });
  predict.seed = seed;
  if (!resize.empty()) predict.resize = as_usage("--resize", [&] { return parse_photo_size(resize); });
  return predict;
}

void add_photo_options(CLI::App& app, PhotoOptions& options) {
  app.add_option("PATH", options.paths, "Photos, folders, or - for a list on standard input, one a line")
      ->required();
  app.add_flag("-0,--null", options.nul, "The list on standard input is NUL-separated (one that holds a NUL is taken so)");
  app.add_flag("-r,--recursive", options.recursive, "Descend into the folders of folders");
  add_view_options(app, options);
}

void add_view_options(CLI::App& app, PhotoOptions& options) {
  app.add_option(
         "--crops", options.crops,
         "Windows of 224 x 224 looked at: grid (default: evenly spaced, at most 10), center, random:N")
      ->type_name("HOW");
  app.add_option("--resize", options.resize,
                 "Bring the shorter side down to SIDE before cropping, or photos to HEIGHTxWIDTH, or none "
                 "(default: as the "
                 "checkpoint says); a side below 224 is brought up to 224; Pillow's antialiased filter")
      ->type_name("SIZE");
  add_decode_options(app, options);
}

void add_decode_options(CLI::App& app, PhotoOptions& options) {
  app.add_flag("--no-exif", options.no_exif, "Do not turn photos upright by their EXIF orientation");
  app.add_flag("--no-icc", options.no_icc, "Take colours as they are stored, not by the photo's ICC profile to sRGB");
  app.add_option("--max-pixels", options.max_pixels,
                 "Refuse larger photos before decoding (default 200000000)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40).description(""))
      ->type_name("N");
  app.footer(
      "Photos are " + readable_formats() +
      "; of animations the first frame.\nEXIF orientation is applied; alpha is composited over white, 16-bit takes the "
      "high byte, CMYK is converted,\ngray is repeated; ICC profiles are " +
      (QFM_WITH_ICC ? "converted to sRGB" : "ignored (built without lcms2: -DQFM_ICC=ON)") + ".\n" +
      app.get_footer());
}

}  // namespace qfm
