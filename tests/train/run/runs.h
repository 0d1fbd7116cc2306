// Training runs and how they are compared.
#pragma once
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <nlohmann/json.hpp>
#include <sstream>

#include "engine/base/io.h"
#include "engine/base/rng.h"
#include "tests/scopes.h"
#include "tests/toy.h"
#include "train/run/run_folder.h"
#include "train/run/trainer.h"

namespace qfm::test {

using nlohmann::json;

inline std::string bytes_of(const std::string& path) {
  const auto bytes = read_file(path);
  return {bytes.begin(), bytes.end()};
}

inline bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() && std::memcmp(a.raw(), b.raw(), a.bytes()) == 0;
}

// The log without its times and what each call ran on.
inline std::string timeless_log(const TrainConfig& config) {
  std::istringstream lines(bytes_of(config.out + "/log.jsonl"));
  std::string line, kept;
  while (std::getline(lines, line)) {
    json entry = json::parse(line);
    if (entry["event"] == "kernels") continue;
    entry.erase("images_per_s"), entry.erase("seconds");
    kept += entry.dump() + "\n";
  }
  return kept;
}

inline void check_equal_runs(const TrainConfig& a, const TrainConfig& b) {
  for (const std::string file : {"/last.safetensors", "/best.safetensors"}) {
    const bool same = bytes_of(a.out + file) == bytes_of(b.out + file);
    CHECK_MESSAGE(same, b.out << file);
  }
  CHECK(timeless_log(a) == timeless_log(b));
  const auto x = TensorFile::open(a.out + "/state.safetensors"),
             y = TensorFile::open(b.out + "/state.safetensors");
  REQUIRE(x.entries().size() == y.entries().size());
  for (const auto& [name, entry] : x.entries()) CHECK_MESSAGE(x.bytes(name) == y.bytes(name), name);
}

// What runs compute in: the default path, and the one that multiplies pairs of bf16.
struct Arithmetic {
  const char* dtype;
  CpuPath path = cpu();
  std::string name() const { return std::string(dtype) + " " + name_of(path); }
};
inline std::vector<Arithmetic> arithmetics() {
  if (kSanitized) return {{"bf16"}};  // whose masters and updates are F32's
  std::vector<Arithmetic> all{{"f32"}, {"bf16"}};
  const CpuPath pairs{CpuIsa::Avx512, CpuDot::Bf16};
  if (available(pairs.isa, pairs.dot) && cpu() != pairs) all.push_back({"bf16", pairs});
  return all;
}

// Runs until `steps` updates are done in all.
inline TrainResult train_until(TrainConfig config, int64_t steps, double checkpoint_seconds = 300) {
  int64_t done = 0;
  TrainHooks hooks;
  hooks.checkpoint_seconds = checkpoint_seconds;
  hooks.command = config.resume ? "qfm train --resume" : "qfm train";
  hooks.progress = [&](const TrainProgress& p) { done = p.step; };
  hooks.should_stop = [&] { return done >= steps; };
  return train(config, hooks);
}

// Runs `config` (one thread, one worker of its own) in processes that are killed after random times, until
// one ends: then it must equal `whole`. No other thread of this process may compute.
inline void check_killed_run(const TrainConfig& whole, TrainConfig config) {
  Rng rng(1, "kill");
  int kills = 0;
  bool finished = false;
  for (double longest = 40; !finished && kills < 400; longest *= 1.02) {  // it will finish, also on a busy machine
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      config.resume = std::filesystem::exists(config.out + "/config.json");
      bool ok = false;
      try {
        ok = train_until(config, 1000, 0).finished;
      } catch (...) {
      }
      ::_exit(ok ? 0 : 1);
    }
    ::usleep(1000 * (5 + rng.below(static_cast<uint32_t>(longest))));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    if (WIFEXITED(status)) {
      REQUIRE(WEXITSTATUS(status) == 0);
      finished = true;
    } else {
      ++kills;
    }
  }
  MESSAGE(kills << " kills");
  CHECK(kills > 0);
  REQUIRE(finished);
  check_equal_runs(whole, config);
  for (const auto& entry : std::filesystem::directory_iterator(config.out))
    CHECK_FALSE(contains(entry.path().string(), ".tmp-"));
}

// A wider teacher, and a folder of six photos beside the labelled ones.
inline void taught(TrainConfig& config) {
  const std::string here = std::filesystem::path(config.data).parent_path();
  const std::string teacher_path = here + "/teacher.safetensors", unlabelled = here + "/more";
  config.objectives.set("teacher", teacher_path).set("unlabelled", unlabelled);
  config.objectives.set("w-distil-feat", 0.5).set("pseudo-ratio", 0.5).set("spread-quantile", 0.9);
  if (std::filesystem::exists(unlabelled)) return;
  std::filesystem::create_directories(unlabelled + "/deeper");
  for (int i = 0; i < 6; ++i)
    write_image(concat(unlabelled, i % 2 ? "/deeper/" : "/", i, ".png"), drawn(40 + i, 50, 90 + i));
  ModelInfo info = toy_info();
  info.config = toy_config(36), info.config.select = true;
  Model teacher(info.config, cpu_device, DType::F32, false);
  teacher.params.initialise(8);
  save_model(teacher_path, teacher, info);
}

}  // namespace qfm::test
