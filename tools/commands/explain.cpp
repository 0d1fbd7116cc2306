// qfm explain: where in a photo its score comes from.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <map>
#include <memory>

#include "tools/cli/command.h"
#include "tools/cli/console.h"
#include "tools/cli/photo_options.h"
#include "tools/cli/results.h"
#include "tools/commands/map_image.h"
#include "train/image/decode.h"
#include "train/image/encode.h"

namespace qfm {
namespace {

struct ExplainOptions {
  CommonOptions common;
  PhotoOptions photos;
  std::string image, kind = "windows", output;
  bool json = false;
};

constexpr int kMostRegions = 5;

// The ends of the legend: the map's own, for the signed kind as far below 0 as above.
std::pair<double, double> ends_of(const QualityMap& map, ExplainKind kind) {
  const auto [least, most] = std::minmax_element(map.values.begin(), map.values.end());
  if (kind != ExplainKind::Gradient) return {*least, *most};
  const double far = std::max(std::abs(*least), std::abs(*most));
  return {-far, far};
}

// In pixels of the upright photo.
Json as_json(const Region& region, const QualityMap& map, const Image& photo) {
  const auto scaled = [](int at, int from, int to) {
    return static_cast<int>(std::lround(static_cast<double>(at) * to / from));
  };
  const int x = scaled(region.x, map.width, photo.width), y = scaled(region.y, map.height, photo.height);
  return {{"x", x},
          {"y", y},
          {"width", scaled(region.x + region.width, map.width, photo.width) - x},
          {"height", scaled(region.y + region.height, map.height, photo.height) - y},
          {"value", rounded(region.value)}};
}

int explain_photo(const ExplainOptions& options) {
  if (options.output.empty() && !options.json) throw UsageError("-o MAP.png is required, or --json");
  if (!options.output.empty()) checked_extension(options.output, ".png");
  const std::map<std::string, ExplainKind> kinds{{"windows", ExplainKind::Windows},
                                                 {"gradient", ExplainKind::Gradient},
                                                 {"attention", ExplainKind::Attention}};
  const ExplainKind kind = kinds.at(options.kind);
  const PredictOptions predict = options.photos.predict(options.common.seed);
  const Device device = apply(options.common).device;
  const Image photo = decode_image(options.image, options.photos.decode());
  const LoadedModel loaded =
      load_model(model_path(options.common), device, asked_dtype(options.common), false);
  if (kind == ExplainKind::Gradient && loaded.dtype == DType::I8)
    throw UsageError("--kind gradient: there is none in INT8; give --dtype f32");
  const Prediction prediction = Predictor(*loaded.model, loaded.info, predict)(photo);
  const QualityMap map = explain(*loaded.model, loaded.info, photo, kind, predict);
  const auto [low, high] = ends_of(map, kind);
  QFM_CHECK(std::isfinite(prediction.score + low + high), options.image, ": the model gives no finite score");
  if (!options.output.empty()) write_image(options.output, map_over(photo, map, low, high));
  if (!options.json) return 0;
  Json regions = Json::array();
  for (const Region& region : extreme_regions(map, kMostRegions, kind == ExplainKind::Attention))
    regions.push_back(as_json(region, map, photo));
  print(to_line({{"path", options.image},
                 {"score", rounded(loaded.info.to_0_100(prediction.score))},
                 {"kind", options.kind},
                 {"regions", regions}}));
  return 0;
}

}  // namespace

void add_explain(CLI::App& parent, const RegisterAction& on) {
  const auto options = std::make_shared<ExplainOptions>();
  CLI::App* app = add_subcommand(
      parent, "explain",
      "Show where in a photo its score comes from, as a map over it: dark blue is low, yellow is "
      "high, and the legend has the ends.\n"
      "windows: the score of each place's surroundings. gradient: points that the detail of a place adds "
      "or takes. attention: how much the model looks there, 1 on average.",
      "qfm explain photo.jpg -o map.png");
  app->add_option("IMAGE", options->image, "The photo")->required();
  app->add_option("--kind", options->kind, "What the map shows")
      ->check(CLI::IsMember({"windows", "gradient", "attention"}))
      ->capture_default_str()
      ->type_name("KIND");
  app->add_option("-o", options->output, "The map, of the upright photo's size")->type_name("MAP.png");
  app->add_flag("--json", options->json,
                "Print the worst regions as boxes, worst first; of attention those most looked at");
  add_view_options(*app, options->photos);
  add_model_option(*app, options->common);
  add_device_options(*app, options->common);
  add_common_options(*app, options->common);
  on(app, [options] { return explain_photo(*options); });
}

}  // namespace qfm
