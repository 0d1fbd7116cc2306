// qfm score: photos in, one line of quality each.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <iterator>
#include <memory>
#include <optional>

#include "engine/base/threads.h"
#include "tools/cli/command.h"
#include "tools/cli/console.h"
#include "tools/cli/photo_options.h"
#include "tools/cli/photos.h"
#include "tools/cli/result_file.h"
#include "tools/cli/results.h"
#include "tools/cli/scorer.h"
#include "train/image/photo_stream.h"
#include "train/predict/interval.h"

namespace qfm {
namespace {

struct ScoreOptions {
  CommonOptions common;
  PhotoOptions photos;
  bool sort = false, json = false, raw = false;
  double interval = 0.9;
  std::string output;
};

// fresh: how many of them this run has made.
void report_finished(const std::vector<ScoredPhoto>& results, int64_t fresh, double seconds) {
  const auto failed = std::count_if(results.begin(), results.end(), [](auto& r) { return !r.error.empty(); });
  const auto all = static_cast<ptrdiff_t>(results.size());
  std::string line = format("%td photo%s scored", all - failed, all - failed == 1 ? "" : "s");
  if (failed) line += format(", %td failed", failed);
  warn(line +
       format(", %.1f photos a second\n", static_cast<double>(fresh - failed) / std::max(seconds, 1e-9)));
}

// Where results go: stdout, or the file of -o (and then stdout only for --json).
class Output {
 public:
  Output(const ScoreOptions& options, const Scorer& scorer, int64_t total)
      : options_(options), more_is_better_(scorer.more_is_better()), progress_(options.common.quiet, "photos", total) {
    if (options.output.empty()) return;
    file_.emplace(options.output, extension_of(options.output), scorer.header(options.common, options.photos));
    if (!file_->found().empty()) note(options.common.quiet, "qfm: " + options.output + ".part: " + file_->found() + "\n");
  }

  // What an interrupted run had of a photo.
  const ScoredPhoto* kept(const PhotoEntry& photo) const {
    return file_ && photo.error.empty() ? file_->kept(photo.path) : nullptr;
  }

  void add(ScoredPhoto result, bool fresh) {
    progress_.clear();
    if (!result.error.empty()) warn(error_line(result.path + ": " + result.error));
    fresh_ += fresh;
    if (file_ && fresh) file_->add(result);
    if (!options_.sort) show(result);
    results_.push_back(std::move(result));
    progress_.update(static_cast<int64_t>(results_.size()));
  }

  // The exit code.
  int finish() {
    progress_.clear();
    const double seconds = progress_.seconds();
    if (options_.sort) {
      std::stable_sort(results_.begin(), results_.end(), [this](const ScoredPhoto& a, const ScoredPhoto& b) {
        if (a.error.empty() != b.error.empty()) return a.error.empty();
        return a.error.empty() && (more_is_better_ ? a.score > b.score : a.score < b.score);
      });
      for (const auto& result : results_) show(result);
    }
    if (file_) file_->finish(results_);
    if (!options_.common.quiet) report_finished(results_, fresh_, seconds);
    return std::any_of(results_.begin(), results_.end(), [](auto& r) { return !r.error.empty(); });
  }

 private:
  void show(const ScoredPhoto& result) const {
    if (options_.json) print(json_line(result));
    else if (!file_ && result.error.empty()) print(text_line(result));
  }

  const ScoreOptions& options_;
  const bool more_is_better_;
  Progress progress_;
  int64_t fresh_ = 0;
  std::optional<ResultFile> file_;
  std::vector<ScoredPhoto> results_;
};

int score(const ScoreOptions& options) {
  if (!options.output.empty()) {
    if (extension_of(options.output) == ".html")
      throw UsageError("-o " + options.output +
                       ": HTML is not built yet for score; use .json, .jsonl or .csv");
    checked_extension(options.output, ".json .jsonl .csv");
  }
  as_usage("--interval", [&] { interval_factor({}, options.interval); });
  const PredictOptions predict = options.photos.predict(options.common.seed);
  const Device device = apply(options.common).device;
  const auto photos = list_photos(options.photos.paths, options.photos.recursive, options.photos.nul);
  std::optional<PhotoStream> stream;
  const auto decode = [&](const std::vector<PhotoEntry>& wanted) {
    stream.emplace(wanted, PhotoStreamOptions{.decode = options.photos.decode(), .workers = decode_workers()});
  };
  // Asked once: what is decoded and what is taken over must be of one mind.
  const bool resumes = !options.output.empty() && std::filesystem::exists(options.output + ".part");
  if (!resumes) decode(photos);  // while the model is read
  const Scorer scorer(options.common, device, predict, options.interval, options.raw);
  Output output(options, scorer, static_cast<int64_t>(photos.size()));
  scorer.note_limits(options.common.quiet);
  if (resumes) {
    std::vector<PhotoEntry> wanted;
    std::copy_if(photos.begin(), photos.end(), std::back_inserter(wanted), [&](auto& photo) { return !output.kept(photo); });
    decode(wanted);
  }
  for (const auto& photo : photos) {
    const ScoredPhoto* kept = resumes ? output.kept(photo) : nullptr;
    output.add(kept ? *kept : scorer(photo.path, *stream), !kept);
  }
  return output.finish();
}

}  // namespace

void add_score(CLI::App& parent, const RegisterAction& on) {
  const auto options = std::make_shared<ScoreOptions>();
  CLI::App* app = add_subcommand(parent, "score",
                                 "Score photos: 0 (bad) to 100 (excellent), as people would on average.\n"
                                 "Prints SCORE  [LOW, HIGH]  PATH: the mean over crops of the photo, and where people's mean "
                                 "opinion lies with probability --interval. Without [LOW, HIGH] from a model without calibration.",
                                 "qfm score -r --sort photos/");
  add_photo_options(*app, options->photos);
  app->add_flag("--sort", options->sort, "Best first (default: in the order given)");
  app->add_flag("--json", options->json, "Print JSON lines, one a photo");
  app->add_option("-o", options->output,
                  "Write a file instead: .json, .jsonl or .csv; while it grows it is FILE.part, with which the "
                  "same command goes on if the run dies")
      ->type_name("FILE");
  app->add_option("--interval", options->interval, "Probability that the opinion lies in [LOW, HIGH], inside 0..1")
      ->capture_default_str()
      ->type_name("P");
  app->add_flag("--raw", options->raw, "In the unit and direction of the training labels, not 0-100");
  add_model_option(*app, options->common);
  add_device_options(*app, options->common);
  add_common_options(*app, options->common);
  on(app, [options] { return score(*options); });
}

}  // namespace qfm
