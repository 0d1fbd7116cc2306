#include "train/trainer.h"

#include <chrono>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

#include "engine/base/threads.h"
#include "train/evaluate.h"
#include "train/loader.h"
#include "train/run_data.h"
#include "train/run_folder.h"
#include "train/schedule.h"

namespace qfm {
namespace {

using nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// ---- what is to be done
// -------------------------------------------------------------------------------------------

// Architecture and preprocessing: of our checkpoint, or fitting timm's, or as asked for. A checkpoint without a
// feature selection head gets one where --select asks for it; one that has it keeps it.
ModelInfo starting_info(const TrainConfig& config) {
  ModelInfo info;
  if (config.init.empty()) {
    info.config = model_config(config.arch.empty() ? "vit-small" : config.arch);
    info.config.select = config.select;
    return info;
  }
  const SafeTensors file = SafeTensors::open(config.init);
  if (file.metadata().count("qfm")) {
    info = read_model_info(file);
  } else {
    info.config = timm_config(file);
  }
  info.config.select = info.config.select || config.select;
  QFM_CHECK(config.arch.empty() || config.arch == info.config.arch, config.init, ": is ", info.config.arch,
            ", not ", config.arch);
  return info;
}

void describe(ModelInfo& info, const TrainConfig& config, const Dataset& train, const TrainHooks& hooks) {
  info.labels_scaled = config.labels == "scaled";
  info.label_low = train.range.low, info.label_high = train.range.high;
  info.higher_is_better = train.higher_is_better;
  info.training_set = train.name;
  info.command = hooks.command, info.version = hooks.version;
  info.seed = static_cast<uint64_t>(config.seed);
}

LoaderOptions loader_options(const TrainConfig& config, const ModelInfo& info) {
  LoaderOptions options;
  options.batch = config.batch, options.crops_per_image = config.crops_per_image;
  options.crop = static_cast<int>(info.crop), options.resize = static_cast<int>(info.resize);
  options.norm = normalisation(info);
  options.seed = static_cast<uint64_t>(config.seed);
  options.workers = static_cast<int>(config.workers);
  return options;
}

// Photos of equal reference get equal numbers, -1 without.
std::vector<int64_t> reference_numbers(const Dataset& set) {
  std::map<std::string, int64_t> numbers;
  std::vector<int64_t> result;
  for (const Sample& sample : set.samples)
    result.push_back(sample.reference.empty()
                         ? -1
                         : numbers.emplace(sample.reference, static_cast<int64_t>(numbers.size())).first->second);
  return result;
}

MethodOptions method_options(const TrainConfig& config, const Dataset& train, int64_t batch) {
  MethodOptions options;
  options.w_cons = config.w_cons, options.w_feat = config.w_feat, options.w_sel = config.w_sel;
  options.w_contrast = config.w_contrast, options.contrast_tau = config.tau_q;
  options.batch = batch, options.references = reference_numbers(train);
  if (config.match != "off")
    options.match = {match_mode(config.match),
                     config.memory,
                     {static_cast<float>(config.tau_q), static_cast<float>(config.tau_s)},
                     config.a_max,
                     config.adversarial,
                     static_cast<uint64_t>(config.seed)};
  return options;
}

// ---- the run
// ------------------------------------------------------------------------------------------------------

class Run {
 public:
  Run(const TrainConfig& config, const TrainHooks& hooks);
  TrainResult go();

 private:
  void open_folder();
  bool run_epoch();  // false: asked to stop
  void step();
  void close_epoch();
  EpochReport validate_epoch() const;
  void save();

  const TrainConfig& config_;
  const TrainHooks& hooks_;
  const RunData data_;
  ModelInfo info_;
  QfmIqm model_;
  Optimizer optimizer_;
  Loader loader_;
  TrainStep train_step_;
  const int64_t per_epoch_, steps_;
  const Schedule schedule_;
  std::vector<double> validation_targets_;
  RunState state_;
  TrainResult result_;
  std::unique_ptr<RunFolder> folder_;
  Clock::time_point start_ = Clock::now(), saved_ = start_;
  int64_t first_step_ = 0;     // of this call
  double seconds_before_ = 0;  // of earlier calls
};

std::vector<float> as_floats(const std::vector<double>& values) { return {values.begin(), values.end()}; }

DType compute_type(const TrainConfig& config) { return config.dtype == "bf16" ? DType::BF16 : DType::F32; }

Run::Run(const TrainConfig& config, const TrainHooks& hooks)
    : config_(config),
      hooks_(hooks),
      data_(load_run_data(config)),
      info_(starting_info(config)),
      model_(info_.config, cpu_device, compute_type(config), true),
      optimizer_(model_.params, {.weight_decay = config.weight_decay, .clip = config.clip}),
      loader_(paths_of(data_.train), as_floats(targets_of(data_.train, data_.train, config.labels == "scaled")),
              loader_options(config, info_)),
      train_step_(model_, optimizer_, method_options(config, data_.train, loader_.batch_size())),
      per_epoch_(loader_.batches_per_epoch()),
      steps_(per_epoch_ * config.epochs),
      schedule_{schedule_named(config.schedule), config.lr, config.epochs, per_epoch_, config.warmup},
      validation_targets_(targets_of(data_.validation, data_.train, config.labels == "scaled")) {
  describe(info_, config, data_.train, hooks);
  model_.init(static_cast<uint64_t>(config.seed));
  if (!config.init.empty()) init_from(model_, config.init);
  auto photos = paths_of(data_.train);
  for (const Sample& sample : data_.validation.samples) photos.push_back(sample.path);
  check_photos(photos, hooks.checking);
  open_folder();
}

void Run::open_folder() {
  folder_ = std::make_unique<RunFolder>(config_);
  if (!config_.resume) {
    state_.command = info_.command;
    save();
    return folder_->commit(config_);
  }
  folder_->restore(state_, model_.params, optimizer_, train_step_.state());
  info_.command = state_.command;
  seconds_before_ = state_.seconds;
  QFM_CHECK(state_.epochs >= 0 && state_.epochs <= config_.epochs &&
                state_.steps >= state_.epochs * per_epoch_ &&
                state_.steps <= (state_.epochs + 1) * per_epoch_ && state_.steps <= steps_,
            folder_->file("state.safetensors"), ": step ", state_.steps, " of epoch ", state_.epochs + 1,
            " is not of this run");
}

TrainResult Run::go() {
  start_ = saved_ = Clock::now();
  first_step_ = state_.steps;
  loader_.start(state_.steps, steps_);
  bool going = true;
  while (going && state_.epochs < config_.epochs) {
    going = run_epoch();
    if (going) close_epoch();
    save();
  }
  result_.steps = state_.steps;
  result_.finished = state_.epochs == config_.epochs;
  if (result_.finished) save_model(folder_->file("model.safetensors"), model_, info_, StoreAs::F16);
  return result_;
}

bool Run::run_epoch() {
  while (state_.steps < (state_.epochs + 1) * per_epoch_) {
    step();
    if (hooks_.should_stop && hooks_.should_stop()) return false;
    if (seconds_since(saved_) >= hooks_.checkpoint_seconds) save();
  }
  return true;
}

std::string names_of(const Batch& batch, const std::vector<std::string>& paths) {
  std::string text;
  std::set<int64_t> named;
  for (int64_t photo : batch.photos)
    if (named.insert(photo).second) text += (text.empty() ? "" : ", ") + paths[static_cast<size_t>(photo)];
  return text;
}

void Run::step() {
  const auto start = Clock::now();
  const double lr = schedule_.rate(state_.steps);
  const Batch batch = loader_.next();
  StepResult done;
  try {
    done = train_step_(batch, static_cast<uint32_t>(state_.epochs), lr);
  } catch (const OutOfMemory&) {
    throw;
  } catch (const Error& error) {
    QFM_FAIL("step ", state_.steps + 1, ": ", error.what(),
             "; photos of the batch: ", names_of(batch, loader_.paths()));
  }
  ++state_.steps;
  state_.loss_sum += done.loss;
  state_.seconds = seconds_before_ + seconds_since(start_);
  const double speed = static_cast<double>(batch.photos.size()) / seconds_since(start);
  folder_->log(ordered_json{
      {"event", "step"},
      {"step", state_.steps},
      {"epoch", state_.epochs + 1},
      {"loss", done.loss},
      {"lr", lr},
      {"grad_norm", done.grad_norm},
      {"images_per_s",
       speed}}.dump());
  if (!hooks_.progress) return;
  const double each = seconds_since(start_) / static_cast<double>(state_.steps - first_step_);
  hooks_.progress({state_.steps, steps_, state_.epochs + 1, config_.epochs, done.loss, lr, done.grad_norm,
                   speed, each * static_cast<double>(steps_ - state_.steps)});
}

EpochReport Run::validate_epoch() const {
  EpochReport report{state_.epochs + 1, config_.epochs, state_.loss_sum / static_cast<double>(per_epoch_),
                     state_.seconds, std::nullopt};
  if (data_.validation.samples.empty()) return report;
  const auto results = predict_photos(Predictor(model_, info_), paths_of(data_.validation),
                                      {.decode = {}, .workers = static_cast<int>(config_.workers)});
  for (const auto& result : results) QFM_CHECK(result.prediction, result.error);
  report.validation = agreement_with(results, validation_targets_, static_cast<uint64_t>(config_.seed));
  // A model whose scores are all equal has no SRCC: anything is better.
  const double srcc = report.validation && report.validation->srcc ? *report.validation->srcc : -1;
  report.best = state_.best_epoch < 0 || srcc > state_.best_srcc;
  return report;
}

ordered_json to_json(const EpochReport& report, int64_t step) {
  ordered_json line{{"event", "epoch"}, {"epoch", report.epoch}, {"step", step}, {"loss", report.loss}};
  line["seconds"] = report.seconds;
  if (report.gates)
    line["gate"] = {{"mean", report.gates->mean},
                    {"closed", report.gates->closed},
                    {"channels", report.gates->channels},
                    {"collapsed", report.gates->mean < kClosedGate}};
  if (report.match)
    line["match"] = {{"rate", report.match->rate},
                     {"score_distance", report.match->score_distance},
                     {"cosine", report.match->cosine}};
  if (!report.validation) return line;
  const Agreement& a = *report.validation;
  const auto optional = [](const auto& value) { return value ? ordered_json(*value) : ordered_json(); };
  line["val"] = {{"photos", a.n},
                 {"srcc", optional(a.srcc)},
                 {"plcc", optional(a.plcc)},
                 {"krcc", optional(a.krcc)},
                 {"rmse", a.rmse},
                 {"plcc_mapped", a.mapped ? optional(a.mapped->plcc) : ordered_json()},
                 {"rmse_mapped", a.mapped ? ordered_json(a.mapped->rmse) : ordered_json()}};
  line["best"] = report.best;
  return line;
}

void Run::close_epoch() {
  EpochReport report = validate_epoch();
  report.match = train_step_.take_match(), report.gates = train_step_.take_gates();
  if (report.best) {
    state_.best_epoch = state_.epochs;
    state_.best_srcc = report.validation && report.validation->srcc ? *report.validation->srcc : -1;
    save_model(folder_->file("best.safetensors"), model_, info_);
    result_.best = report;
  }
  folder_->log(to_json(report, state_.steps).dump());
  ++state_.epochs;
  state_.loss_sum = 0;
  result_.last = report;
  if (hooks_.epoch_done) hooks_.epoch_done(report);
}

// The state last: the models of what it has behind it are then on disk.
void Run::save() {
  state_.seconds = seconds_before_ + seconds_since(start_);
  save_model(folder_->file("last.safetensors"), model_, info_);
  folder_->save(state_, model_.params, optimizer_, train_step_.state());
  saved_ = Clock::now();
}

}  // namespace

TrainResult train(const TrainConfig& config, const TrainHooks& hooks) {
  validate(config);
  QFM_CHECK(config.device == "auto" || config.device == "cpu", "--device ", config.device,
            ": training runs on the CPU only");
  if (config.threads != 0 && config.threads != threads()) set_threads(static_cast<int>(config.threads));
  return Run(config, hooks).go();
}

}  // namespace qfm
