// Training runs and how they are compared.
#pragma once
#include <nlohmann/json.hpp>
#include <sstream>

#include "engine/base/io.h"
#include "tests/toy.h"
#include "train/trainer.h"

namespace qfm::test {

using nlohmann::json;

inline std::string bytes_of(const std::string& path) {
  const auto bytes = read_file(path);
  return {bytes.begin(), bytes.end()};
}

// The log without what the clock says.
inline std::string timeless_log(const TrainConfig& config) {
  std::istringstream lines(bytes_of(config.out + "/log.jsonl"));
  std::string line, kept;
  while (std::getline(lines, line)) {
    json entry = json::parse(line);
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
  const auto x = SafeTensors::open(a.out + "/state.safetensors"),
             y = SafeTensors::open(b.out + "/state.safetensors");
  REQUIRE(x.entries().size() == y.entries().size());
  for (const auto& [name, entry] : x.entries()) CHECK_MESSAGE(x.bytes(name) == y.bytes(name), name);
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

}  // namespace qfm::test
