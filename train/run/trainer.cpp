#include "train/run/trainer.h"

#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "engine/base/cpu.h"
#include "engine/base/sha256.h"
#include "engine/base/threads.h"
#include "kernels/vendor/kernel_policy.h"
#include "models/pretrained.h"
#include "train/objectives/feature_distillation.h"
#include "train/optim/schedule.h"
#include "train/predict/evaluate.h"
#include "train/run/run_data.h"
#include "train/run/run_folder.h"
#include "train/run/run_setup.h"
#include "train/run/semantics.h"
#include "train/run/tail_average.h"

namespace qfm {
namespace {

using nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// ---- the run ----

class Run {
 public:
  Run(const TrainConfig& config, const TrainHooks& hooks);
  TrainResult go();

 private:
  void make_trainable();
  void open_folder();
  const Model& given() const { return average_->model(state_.steps); }  // what the run gives
  NamedTensors state_tensors() const;
  bool run_epoch();  // false: asked to stop
  void step();
  void close_epoch();
  void calibrate();
  EpochReport validate_epoch() const;
  void save();

  const TrainConfig& config_;
  const TrainHooks& hooks_;
  const RunData data_;
  ModelInfo info_;
  Model model_;
  const PseudoLabels pseudo_;
  BatchStream batches_;
  std::optional<Optimizer> optimizer_;
  std::optional<TrainStep> train_step_;
  std::optional<TailAverage> average_;
  std::optional<Batch> next_;  // on CUDA: of the next step, on its way to the device
  const int64_t per_epoch_, steps_;
  const Schedule schedule_;
  std::vector<double> validation_targets_;
  RunState state_;
  TrainResult result_;
  std::unique_ptr<RunFolder> folder_;
  Clock::time_point start_ = Clock::now(), saved_ = start_;
  double saving_ = 0;          // seconds that the last save took
  int64_t first_step_ = 0;     // this call's
  double seconds_before_ = 0;  // taken by earlier calls
};

Run::Run(const TrainConfig& config, const TrainHooks& hooks)
    : config_(config),
      hooks_(hooks),
      data_(load_run_data(config)),
      info_(starting_info(config, targets_of(data_.train, data_.train, config.labels == "scaled"))),
      model_(info_.config),
      pseudo_(label_unlabelled(config, hooks.labelling)),
      batches_(labelled_photos(data_.train, config.labels == "scaled"),
               labelled_photos(pseudo_, data_.train, config.labels == "scaled"),
               config.objectives.number("pseudo-ratio"),
               loader_options(config, info_)),
      per_epoch_(batches_.batches_per_epoch()),
      steps_(per_epoch_ * config.epochs),
      schedule_{*config.schedule, config.lr, config.epochs, per_epoch_, warmup_of(config)},
      validation_targets_(targets_of(data_.validation, data_.train, config.labels == "scaled")) {
  describe(info_, config, data_.train);
  info_.name = hooks.name, info_.command = hooks.command, info_.version = hooks.version;
  make_trainable();
  auto photos = batches_.paths();
  for (const Dataset* set : {&data_.validation, &data_.calibration})
    for (const Sample& sample : set->samples) photos.push_back(sample.path);
  check_photos(photos, hooks.checking);
  open_folder();
}

// Objectives may have parameters of their own, so that memory comes after them.
void Run::make_trainable() {
  const Device device = choose_device(*config_.device).device;
  const DType compute = **config_.dtype;
  const auto describing = [this](int64_t done, int64_t photos) {
    if (hooks_.describing) hooks_.describing(done, photos);
    QFM_CHECK(!hooks_.should_stop || !hooks_.should_stop(), config_.out,
              ": stopped before the first update; nothing is lost");
  };
  Objectives objectives = objectives_of(config_, data_.train, batches_.labels(),
                                        semantics_of(config_, batches_.paths(), device, describing),
                                        batches_.batch_size(), model_, info_, device, compute);
  model_.params.allocate(device, compute, true);
  model_.params.initialise(static_cast<uint64_t>(config_.seed));
  if (!config_.init.empty()) load_pretrained(model_, config_.init);
  optimizer_.emplace(model_.params, AdamWRule{.weight_decay = config_.weight_decay, .clip = config_.clip});
  train_step_.emplace(model_, *optimizer_, std::move(objectives));
  average_.emplace(model_, config_.average, steps_, device, compute);
}

NamedTensors Run::state_tensors() const {
  NamedTensors tensors = train_step_->state();
  for (auto& tensor : average_->state()) tensors.push_back(std::move(tensor));
  return tensors;
}

ordered_json to_json(const PseudoLabels& labels) {
  return {{"event", "pseudo_labels"},  {"photos", labels.photos},    {"unreadable", labels.unreadable},
          {"dropped", labels.dropped}, {"kept", labels.kept.size()}, {"spread_limit", labels.spread_limit}};
}

void Run::open_folder() {
  const std::string& teacher_path = config_.objectives.text("teacher");
  const std::string teacher = teacher_path.empty() ? "" : sha256_of_file(teacher_path);
  folder_ = std::make_unique<RunFolder>(config_);
  if (!config_.resume) {
    for (const auto& objective : train_step_->objectives()) objective->started();
    state_.command = info_.command;
    state_.labelled = digest_of(data_), state_.unlabelled = pseudo_.digest, state_.teacher = teacher;
    if (pseudo_.photos > 0) folder_->log(to_json(pseudo_).dump());
    save();
    return folder_->commit(config_);
  }
  folder_->restore(state_, model_.params, *optimizer_, state_tensors());
  QFM_CHECK(state_.labelled.empty() || state_.labelled == digest_of(data_), config_.data,
            ": other photos or labels than the run began with; it cannot go on with them");
  QFM_CHECK(state_.unlabelled == pseudo_.digest, config_.objectives.text("unlabelled"),
            ": other photos or labels than the run began with; it cannot go on with them");
  QFM_CHECK(state_.teacher.empty() || state_.teacher == teacher, teacher_path,
            ": another teacher than the run began with; it cannot go on with it");
  train_step_->restored();
  average_->restored();
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
  const bool on_cpu = model_.params.master.device() == cpu_device;
  const std::string kernels = on_cpu ? name_of(cpu()) : policy_text();  // the bits depend on it
  folder_->log(ordered_json{{"event", "kernels"}, {"kernels", kernels}, {"dtype", config_.dtype.text()}}.dump());
  batches_.start(state_.steps, steps_);
  bool going = true;
  while (going && state_.epochs < config_.epochs) {
    going = run_epoch();
    if (going) close_epoch();
    save();
  }
  result_.steps = state_.steps;
  result_.finished = state_.epochs == config_.epochs;
  result_.split_sha256 = data_.train.split_sha256;
  if (result_.finished) {
    calibrate();
    save_model(folder_->file("model.safetensors"), given(), info_, StoreAs::F16);
  }
  return result_;
}

// The last model and, where there is one, the best: each by its own errors.
void Run::calibrate() {
  if (data_.calibration.samples.empty()) return;
  const auto targets = targets_of(data_.calibration, data_.train, config_.labels == "scaled");
  const auto errors_of = [&](const Model& model) {
    const auto results = predict_photos(Predictor(model, info_), paths_of(data_.calibration),
                                        {.decode = {}, .workers = static_cast<int>(config_.workers)});
    return calibration_of(results, targets);
  };
  info_.calibration = errors_of(given());
  save_model(folder_->file("last.safetensors"), given(), info_);
  folder_->log(ordered_json{{"event", "calibration"},
                            {"photos", targets.size()},
                            {"factor_90", *info_.calibration->factor(0.9)}}.dump());
  if (state_.best_epoch < 0) return;
  LoadedModel best = load_model(folder_->file("best.safetensors"), model_.params.master.device(), **config_.dtype, false);
  best.info.calibration = errors_of(*best.model);
  save_model(folder_->file("best.safetensors"), *best.model, best.info);
}

bool Run::run_epoch() {
  while (state_.steps < (state_.epochs + 1) * per_epoch_) {
    step();
    if (hooks_.should_stop && hooks_.should_stop()) return false;
    if (seconds_since(saved_) >= std::max(hooks_.checkpoint_seconds, 50 * saving_)) save();
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
  const Batch batch = next_ ? *std::exchange(next_, std::nullopt) : batches_.next();
  const auto stage_next = [&] {
    if (state_.steps + 1 == steps_) return;
    next_ = batches_.next();
    train_step_->upload(*next_, static_cast<uint32_t>((state_.steps + 1) / per_epoch_));
  };
  StepResult done;
  try {
    done = (*train_step_)(batch, static_cast<uint32_t>(state_.epochs), lr, stage_next);
  } catch (const OutOfMemory& error) {
    throw OutOfMemory(concat(error.what(), ": a smaller --batch needs less"), __FILE__, __LINE__);
  } catch (const Error& error) {
    QFM_FAIL("step ", state_.steps + 1, ": ", error.what(),
             "; photos of the batch: ", names_of(batch, batches_.paths()));
  }
  ++state_.steps;
  average_->updated(state_.steps);
  state_.loss_sum += done.loss;
  state_.seconds = seconds_before_ + seconds_since(start_);
  const double speed = static_cast<double>(batch.photos.size()) / seconds_since(start);
  const ordered_json line{{"event", "step"},      {"step", state_.steps},        {"epoch", state_.epochs + 1},
                          {"loss", done.loss},    {"lr", lr},                    {"grad_norm", done.grad_norm},
                          {"images_per_s", speed}};
  folder_->log(line.dump());
  if (!hooks_.progress) return;
  const double each = seconds_since(start_) / static_cast<double>(state_.steps - first_step_);
  hooks_.progress({state_.steps, steps_, state_.epochs + 1, config_.epochs, done.loss, lr, done.grad_norm,
                   speed, each * static_cast<double>(steps_ - state_.steps)});
}

EpochReport Run::validate_epoch() const {
  EpochReport report{state_.epochs + 1, config_.epochs, state_.loss_sum / static_cast<double>(per_epoch_),
                     state_.seconds, std::nullopt};
  if (data_.validation.samples.empty()) return report;
  const auto results = predict_photos(Predictor(given(), info_), paths_of(data_.validation),
                                      {.decode = {}, .workers = static_cast<int>(config_.workers)});
  for (const auto& result : results) QFM_CHECK(result.prediction, result.error);
  report.validation = agreement_with(results, validation_targets_, static_cast<uint64_t>(config_.seed));
  // A model whose scores are all equal has no SRCC: anything is better.
  const double srcc = report.validation && report.validation->srcc ? *report.validation->srcc : -1;
  report.best = state_.best_epoch < 0 || srcc > state_.best_srcc;
  return report;
}

ordered_json to_json(const EpochReport& report, int64_t step) {
  const auto optional = [](const auto& value) { return value ? ordered_json(*value) : ordered_json(); };
  ordered_json line{{"event", "epoch"}, {"epoch", report.epoch}, {"step", step}, {"loss", report.loss}};
  line["seconds"] = report.seconds;
  for (const auto& [name, statistics] : report.objectives.items()) line[name] = statistics;
  if (!report.validation) return line;
  const Agreement& a = *report.validation;
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
  report.objectives = train_step_->statistics();
  if (report.best) {
    state_.best_epoch = state_.epochs;
    state_.best_srcc = report.validation && report.validation->srcc ? *report.validation->srcc : -1;
    save_model(folder_->file("best.safetensors"), given(), info_);
    result_.best = report;
  }
  ordered_json line = to_json(report, state_.steps);
  if (!data_.train.split_sha256.empty()) line["split_sha256"] = data_.train.split_sha256;
  if (info_.truncated_schedule) line["schedule"] = "truncated";
  folder_->log(line.dump());
  ++state_.epochs;
  state_.loss_sum = 0;
  result_.last = report;
  if (hooks_.epoch_done) hooks_.epoch_done(report);
}

// The state last: the models of what it has behind it are then on disk.
void Run::save() {
  const auto begin = Clock::now();
  state_.seconds = seconds_before_ + seconds_since(start_);
  save_model(folder_->file("last.safetensors"), given(), info_);
  const auto* distillation = find<FeatureDistillation>(train_step_->objectives());
  if (distillation && distillation->averaged())
    save_model(folder_->file("ema.safetensors"), *distillation->averaged(), info_);
  folder_->save(state_, model_.params, *optimizer_, state_tensors());
  saving_ = seconds_since(begin), saved_ = Clock::now();
}

}  // namespace

TrainResult train(TrainConfig config, const TrainHooks& hooks) {
  validate(config);
  choose_dtype(config, choose_device(*config.device).device);
  if (config.threads != 0 && config.threads != threads()) set_threads(static_cast<int>(config.threads));
  return Run(config, hooks).go();
}

}  // namespace qfm
