// What a training run keeps on disk: settings, log, models, and the state from which it goes on.
#pragma once
#include <cstdint>
#include <string>

#include "engine/base/io.h"
#include "models/checkpoint.h"
#include "train/optim/optimizer.h"
#include "train/run/config.h"

namespace qfm {

// Where a run stands, beside its tensors.
struct RunState {
  int64_t steps = 0;        // updates done
  int64_t epochs = 0;       // epochs closed: their validation and log line are done
  double loss_sum = 0;      // over the steps of the running epoch
  double seconds = 0;       // spent so far
  int64_t best_epoch = -1;  // from 0; -1: none yet
  double best_srcc = 0;
  std::string command;          // that began the run: a resumed one writes it into its checkpoints too
  std::string labelled = {};    // digest_of its RunData; empty: unknown, of an earlier version
  std::string unlabelled = {};  // PseudoLabels::digest of its pseudo-labelled photos
  std::string teacher = {};     // SHA-256 of its --teacher; empty: none, or unknown, of an earlier version
};

// Waits until no process trains in `folder`, at most so many seconds. Whether that is so; true without a folder.
bool run_folder_is_free(const std::string& folder, double seconds);

// Every file is replaced atomically or, the log, appended to by one write a line. All throw Error "PATH: reason".
class RunFolder {
 public:
  // A new run: makes the folder; throws Error where it holds a run already.
  // config.resume: throws Error where config.json is missing, or differs in anything but threads, workers and
  // device. Throws too while another process has this folder open.
  explicit RunFolder(const TrainConfig& config);

  std::string file(const std::string& name) const { return path_ + "/" + name; }

  // Writes config.json, which makes the folder a run: from now on it can be resumed.
  void commit(const TrainConfig& config);

  // Appends a line (JSON, without its end) to log.jsonl.
  void log(const std::string& line);

  // more: whatever else the run must find again, under names of its own.
  void save(const RunState& state, const ParamSet& params, const Optimizer& optimizer,
            const NamedTensors& more);
  // Reads state.safetensors, strictly, `more` in place, and cuts the log back to it.
  void restore(RunState& state, ParamSet& params, Optimizer& optimizer, const NamedTensors& more);

 private:
  void lock();
  void open_log(const std::string& kept);

  const std::string path_;
  FileDescriptor folder_, log_;  // the folder's holds the lock
};

}  // namespace qfm
