// Fits a model to scored photos by the recipe of DEIQT: random crops, SmoothL1, AdamW, clipping, a stepped
// learning rate.
#pragma once
#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "train/loop/train_step.h"
#include "train/metrics/metrics.h"
#include "train/run/config.h"

namespace qfm {

struct TrainProgress {
  int64_t step, steps;    // updates done, updates of the whole run
  int64_t epoch, epochs;  // the running epoch, from 1
  double loss, lr, grad_norm;
  double images_per_s;  // in this step
  double seconds_left;
};

struct EpochReport {
  int64_t epoch, epochs;                      // from 1
  double loss;                                // mean over its steps
  double seconds;                             // since the run began, interruptions left out
  std::optional<Agreement> validation;        // in the unit of the targets
  bool best = false;                          // the highest SRCC on the validation part so far
  nlohmann::ordered_json objectives = {};     // Objective::statistics by name
};

struct TrainHooks {
  std::string name, command, version;  // kept in the checkpoints
  // Every photo is decoded once before the first step.
  std::function<void(int64_t done, int64_t photos)> checking = {};
  // The teacher has scored this many of the unlabelled photos.
  std::function<void(int64_t done, int64_t photos)> labelling = {};
  // So many photos have a descriptor of what they show.
  std::function<void(int64_t done, int64_t photos)> describing = {};
  std::function<void(const TrainProgress&)> progress = {};
  std::function<void(const EpochReport&)> epoch_done = {};
  std::function<bool()> should_stop = {};  // asked after every step; true: save and return
  // Between two saves inside an epoch, at least; saving takes at most 2% of the time.
  double checkpoint_seconds = 20;
};

struct TrainResult {
  int64_t steps = 0;                      // updates done in all
  bool finished = false;                  // false: stopped by should_stop, --resume goes on
  std::optional<EpochReport> last, best;  // in this call
  std::string split_sha256;               // the split whose train part was learnt; empty: none
};

// Runs, or goes on with, the run that `config` describes; config.out gets
//   config.json        what to run again
//   log.jsonl          a line for every step and every epoch
//   last.safetensors   the model, at the end of every epoch and every few seconds; with --average, once its share of the
//                      updates has begun, the mean of their weights (so are best and model.safetensors)
//   model.safetensors  at the end of the run: the last model in F16, half the size, for shipping
//   best.safetensors   with a validation part: the model of the epoch with the highest SRCC there
//   ema.safetensors    with --ema: the averaged model
//   state.safetensors  masters, moments, memory and position: all that config.resume needs
//   pseudo_labels.jsonl  with --unlabelled: the teacher's predictions, unless --label-cache keeps them elsewhere
// Every file is replaced atomically; a run killed at any moment and resumed ends with the bits of one that
// was not. The same bits for any number of threads and workers. Starting weights: config.init (ours or
// timm's), else random.
//
// Throws Error: a photo that cannot be decoded (before the first step: all are tried), a folder that holds a
// run already (without resume) or another one (with it), a loss that is not finite (naming step and photos).
// The last checkpoint stays.
TrainResult train(TrainConfig config, const TrainHooks& hooks = {});

}  // namespace qfm
