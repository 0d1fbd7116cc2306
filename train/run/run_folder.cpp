#include "train/run/run_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

namespace qfm {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// The settings that a resumed run may change: none of them changes its bits, but for the device, whose
// rounding is its own.
TrainConfig comparable(TrainConfig config) {
  const TrainConfig standard;
  config.threads = standard.threads, config.workers = standard.workers, config.device = standard.device;
  config.objectives.set("label-cache", std::string());
  config.out = standard.out, config.resume = standard.resume, config.quiet = standard.quiet;
  return config;
}

void check_same_run(const TrainConfig& config, const std::string& path) {
  TrainConfig stored;
  merge_config_file(stored, path);
  json a = json::parse(to_json(comparable(stored))), b = json::parse(to_json(comparable(config)));
  for (const auto& [key, value] : a.items()) b.emplace(key, nullptr);  // a field at its standard may be left out
  for (const auto& [key, value] : b.items())
    QFM_CHECK(a[key] == value, path, ": the run has ", key, " ", a[key].dump(), ", not ", value.dump(),
              "; a run is resumed with its own settings");
}

// What a killed process may have left behind.
void remove_temporary_files(const std::string& folder) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored))
    if (entry.path().filename().string().find(".tmp-") != std::string::npos)
      fs::remove(entry.path(), ignored);
}

// The parts of a flat buffer, under the names of the parameters. Moments have only those of trainable ones.
void for_slices(const ParamSet& params, const Tensor& flat, const std::string& prefix, auto&& f) {
  for (const Param& p : params.params()) {
    const int64_t begin = p.entry()->offset;
    if (begin + p.shape().numel() > flat.numel()) continue;
    f(prefix + p.name(), flat.rows(begin, begin + p.shape().numel()).reshape(p.shape()));
  }
}

// True for lines of steps and epochs that `state` has behind it. A line cut short by a kill is none.
bool belongs(const std::string& line, const RunState& state) {
  const json entry = json::parse(line, nullptr, false);
  if (!entry.is_object()) return false;
  if (entry.value("event", "") == "epoch") return entry.value("epoch", int64_t{0}) <= state.epochs;
  return entry.value("step", int64_t{0}) <= state.steps;
}

FileDescriptor open_folder(const std::string& path) {
  return FileDescriptor(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

// False: another process holds the lock. The end of a process, however it comes, unlocks. Where a file system
// knows no locks, it goes on without.
bool lock_folder(const FileDescriptor& folder) {
  return ::flock(folder.get(), LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
}

}  // namespace

bool run_folder_is_free(const std::string& path, double seconds) {
  const FileDescriptor folder = open_folder(path);
  if (folder.get() < 0) return true;
  constexpr auto pause = std::chrono::milliseconds(50);
  bool free = lock_folder(folder);
  for (auto waited = pause; !free && std::chrono::duration<double>(waited).count() < seconds;
       waited += pause) {
    std::this_thread::sleep_for(pause);
    free = lock_folder(folder);
  }
  return free;
}

RunFolder::RunFolder(const TrainConfig& config) : path_(config.out) {
  const std::string settings = file("config.json");
  to_json(config);  // throws before anything is written where it cannot be
  if (config.resume) {
    check_same_run(config, settings);
    lock();
    remove_temporary_files(path_);
    return;
  }
  std::error_code error;
  fs::create_directories(path_, error);
  QFM_CHECK(!error, path_, ": cannot be made: ", error.message());
  lock();
  QFM_CHECK(!fs::exists(settings), path_, ": holds a run already; --resume goes on with it");
  open_log("");
}

void RunFolder::lock() {
  folder_ = open_folder(path_);
  QFM_CHECK(folder_.get() >= 0, path_, ": ", std::strerror(errno));
  QFM_CHECK(lock_folder(folder_), path_, ": another process trains here");
}

void RunFolder::commit(const TrainConfig& config) { write_file(file("config.json"), to_json(config)); }

void RunFolder::open_log(const std::string& kept) {
  const std::string path = file("log.jsonl");
  write_file(path, kept);
  log_ = FileDescriptor(::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
  QFM_CHECK(log_.get() >= 0, path, ": ", std::strerror(errno));
}

void RunFolder::log(const std::string& line) { write_all(log_, line + "\n", file("log.jsonl")); }

void RunFolder::save(const RunState& state, const ParamSet& params, const Optimizer& optimizer,
                     const NamedTensors& more) {
  NamedTensors tensors;
  const auto add = [&](const std::string& name, const Tensor& part) { tensors.emplace_back(name, part); };
  for_slices(params, params.master, "master.", add);
  for_slices(params, optimizer.m, "adam_m.", add);
  for_slices(params, optimizer.v, "adam_v.", add);
  tensors.insert(tensors.end(), more.begin(), more.end());
  const json entry = {{"format", 1},
                      {"steps", state.steps},
                      {"epochs", state.epochs},
                      {"loss_sum", state.loss_sum},
                      {"seconds", state.seconds},
                      {"best_epoch", state.best_epoch},
                      {"best_srcc", state.best_srcc},
                      {"command", state.command},
                      {"labelled", state.labelled},
                      {"unlabelled", state.unlabelled},
                      {"teacher", state.teacher}};
  ::fsync(log_.get());  // the lines behind this state must not be lost before it
  write_safetensors(file("state.safetensors"), tensors,
                    {{"qfm_state", entry.dump(-1, ' ', false, json::error_handler_t::replace)}});
}

void RunFolder::restore(RunState& state, ParamSet& params, Optimizer& optimizer, const NamedTensors& more) {
  const std::string path = file("state.safetensors");
  const TensorFile stored = TensorFile::open(path);
  const auto found = stored.metadata().find("qfm_state");
  QFM_CHECK(found != stored.metadata().end(), path, ": not the state of a training run");
  try {
    const json entry = json::parse(found->second);
    QFM_CHECK(entry.at("format") == 1, path, ": format ", entry.at("format").dump(),
              ", this program reads 1");
    state = {entry.at("steps"),         entry.at("epochs"),          entry.at("loss_sum"),
             entry.at("seconds"),       entry.at("best_epoch"),      entry.at("best_srcc"),
             entry.at("command"),       entry.value("labelled", ""), entry.value("unlabelled", ""),
             entry.value("teacher", "")};
  } catch (const json::exception&) {
    QFM_FAIL(path, ": metadata 'qfm_state' is damaged");
  }
  const auto read = [&](const std::string& name, const Tensor& part) {
    QFM_CHECK(stored.has(name) && stored.entry(name).shape == part.shape(), path, ": ", name, " ",
              part.shape(),
              stored.has(name) ? concat(" has shape ", stored.entry(name).shape) : " is missing");
    part.copy_from(stored.tensor(name).to(part.dtype()));
  };
  for_slices(params, params.master, "master.", read);
  for_slices(params, optimizer.m, "adam_m.", read);
  for_slices(params, optimizer.v, "adam_v.", read);
  for (const auto& [name, tensor] : more) read(name, tensor);
  optimizer.steps = state.steps;
  params.sync();

  std::string kept, line;
  if (fs::exists(file("log.jsonl"))) {
    std::istringstream lines(read_text(file("log.jsonl")));
    while (std::getline(lines, line))
      if (belongs(line, state)) kept += line + "\n";
  }
  open_log(kept);
}

}  // namespace qfm
