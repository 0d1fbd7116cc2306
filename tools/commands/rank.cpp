// qfm rank: photos in groups, best first in each. Moves and deletes nothing.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <memory>
#include <span>

#include "engine/base/io.h"
#include "tools/cli/command.h"
#include "tools/cli/console.h"
#include "tools/cli/photo_groups.h"
#include "tools/cli/photos.h"
#include "tools/cli/scorer.h"
#include "tools/commands/ranking.h"
#include "train/image/encode.h"
#include "train/image/exif.h"

namespace qfm {
namespace {

struct RankOptions {
  CommonOptions common;
  PhotoOptions photos;
  std::string group = "none", output;
  double sure = 0.75, interval = 0.9;
  int64_t best = 0;  // of each group; 0: all
  bool json = false;
};

constexpr int kThumbnailSide = 320, kThumbnailQuality = 80;

std::vector<uint8_t> thumbnail_of(const Image& image) {
  const double shrink =
      std::min(1.0, static_cast<double>(kThumbnailSide) / std::max(image.width, image.height));
  const auto side = [&](int full) { return std::max(1, static_cast<int>(shrink * full)); };
  return encode_jpeg(resize(image, side(image.width), side(image.height), Resampling::Bilinear),
                     kThumbnailQuality);
}

// The photos that could be scored, each with what it looks like.
struct Scored {
  std::vector<ScoredPhoto> photos;
  std::vector<PhotoGlance> glances;
  std::vector<std::vector<uint8_t>> thumbnails;
  int64_t failed = 0;
};

Scored score_all(const RankOptions& options, const Scorer& scorer, const std::vector<PhotoEntry>& entries,
                 PhotoStream& stream, std::vector<PhotoGlance>& glances,
                 std::vector<std::vector<uint8_t>>& thumbnails) {
  Scored all;
  Progress progress(options.common.quiet, "photos", static_cast<int64_t>(entries.size()));
  for (size_t i = 0; i < entries.size(); ++i) {
    ScoredPhoto photo = scorer(entries[i].path, stream);
    if (photo.error.empty()) {
      all.photos.push_back(std::move(photo));
      all.glances.push_back(std::move(glances[i]));
      all.thumbnails.push_back(std::move(thumbnails[i]));
    } else {
      progress.clear();
      warn(error_line(photo.path + ": " + photo.error));
      ++all.failed;
    }
    progress.update(static_cast<int64_t>(i) + 1);
  }
  return all;
}

// Best first in each group.
std::vector<RankedPhoto> ranked(Scored all, const std::vector<size_t>& group, const Calibration* calibration,
                                double sure) {
  std::vector<size_t> order(all.photos.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return group[a] != group[b] ? group[a] < group[b] : all.photos[a].quality > all.photos[b].quality;
  });
  std::vector<RankedPhoto> ranking;
  for (const size_t i : order) {
    RankedPhoto next{.group = group[i] + 1,
                     .rank = 1,
                     .photo = std::move(all.photos[i]),
                     .thumbnail = std::move(all.thumbnails[i])};
    if (!ranking.empty() && ranking.back().group == next.group) {
      RankedPhoto& above = ranking.back();
      next.rank = above.rank + 1;
      if (calibration) {
        above.better = calibration->probability_above(above.photo.quality, above.photo.deviation,
                                                      next.photo.quality, next.photo.deviation);
        next.tie = *above.better < sure;
      }
    }
    ranking.push_back(std::move(next));
  }
  return ranking;
}

int rank_photos(const RankOptions& options) {
  const std::string extension =
      options.output.empty() ? "" : checked_extension(options.output, ".json .jsonl .csv .html");
  const std::map<std::string, Grouping> groupings{
      {"none", Grouping::None}, {"burst", Grouping::Burst}, {"folder", Grouping::Folder}};
  const Grouping how = groupings.at(options.group);
  const PredictOptions predict = options.photos.predict(options.common.seed);
  const Device device = apply(options.common).device;
  const auto entries = list_photos(options.photos.paths, options.photos.recursive, options.photos.nul);
  std::vector<PhotoGlance> glances;
  for (const PhotoEntry& entry : entries) glances.push_back({.path = entry.path});
  std::vector<std::vector<uint8_t>> thumbnails(entries.size());
  const auto look = [&](int64_t i, Image& image) {
    const auto at = static_cast<size_t>(i);
    if (how == Grouping::Burst) glances[at].look = perceptual_hash(image);
    if (extension == ".html") thumbnails[at] = thumbnail_of(image);
  };
  const auto note_time = [&](int64_t i, std::span<const uint8_t> file) {
    if (how == Grouping::Burst) glances[static_cast<size_t>(i)].taken = capture_time(file);
    return true;
  };
  PhotoStream stream(entries,
                     {.decode = options.photos.decode(), .workers = decode_workers(), .on_file = note_time, .on_image = look});
  const Scorer scorer(options.common, device, predict, options.interval, false);
  scorer.note_limits(options.common.quiet);
  Scored all = score_all(options, scorer, entries, stream, glances, thumbnails);
  const int64_t failed = all.failed;
  const auto group = group_photos(how, all.glances);
  auto ranking = ranked(std::move(all), group, scorer.calibration(), options.sure);
  if (options.best > 0)
    std::erase_if(ranking, [&](const RankedPhoto& r) { return r.rank > static_cast<size_t>(options.best); });
  if (!extension.empty())
    write_file(options.output,
               ranking_file(extension, scorer.header(options.common, options.photos), ranking));
  for (const RankedPhoto& r : ranking) {
    if (options.json) print(to_line(as_json(r)));
    else if (extension.empty()) print(text_line(r));
  }
  return failed > 0;
}

}  // namespace

void add_rank(CLI::App& parent, const RegisterAction& on) {
  const auto options = std::make_shared<RankOptions>();
  CLI::App* app = add_subcommand(
      parent, "rank",
      "Rank photos: best first in each group. Moves and deletes nothing.\n"
      "Prints GROUP  RANK  SCORE  [LOW, HIGH]  PATH, ~ before a PATH that is too close to the one "
      "above to call. From a model without calibration neither [LOW, HIGH] nor ~.",
      "qfm rank -r --group burst --best 1 photos/");
  add_photo_options(*app, options->photos);
  app->add_option("--group", options->group, "none: all are one group; burst: near duplicates, and what looks alike and was taken within 10 seconds; folder")
      ->check(CLI::IsMember({"none", "burst", "folder"}))
      ->capture_default_str()
      ->type_name("HOW");
  app->add_option(
         "--sure", options->sure,
         "Neighbours are too close to call where the better one is so with less than this probability")
      ->check(CLI::Range(0.5, 1.0).description(""))
      ->capture_default_str()
      ->type_name("P");
  app->add_option("--best", options->best, "Only the first N of each group")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40).description(""))
      ->type_name("N");
  app->add_flag("--json", options->json, "Print JSON lines, one a photo");
  app->add_option(
         "-o", options->output,
         "Write a file instead: .json, .jsonl, .csv, or .html: a page with thumbnails to mark photos in")
      ->type_name("FILE");
  app->add_option("--interval", options->interval,
                  "Probability that the opinion lies in [LOW, HIGH], inside 0..1")
      ->capture_default_str()
      ->type_name("P");
  add_model_option(*app, options->common);
  add_device_options(*app, options->common);
  add_common_options(*app, options->common);
  on(app, [options] { return rank_photos(*options); });
}

}  // namespace qfm
