// Training with the method's switches: off they leave the baseline as it was, on they resume to the same bits
// and leave nothing in the checkpoint.
#include <nlohmann/json.hpp>

#include "engine/base/cpu.h"
#include "engine/base/io.h"
#include "tests/toy.h"
#include "train/trainer.h"

using namespace qfm;
using namespace qfm::test;
using nlohmann::json;

namespace {

struct PathGuard {
  CpuPath before = cpu_path();
  explicit PathGuard(CpuPath path) { set_cpu_path(path); }
  ~PathGuard() { set_cpu_path(before); }
};

std::string bytes_of(const std::string& path) {
  const auto bytes = read_file(path);
  return {bytes.begin(), bytes.end()};
}

struct Curve {
  std::vector<double> loss, norm;
};
Curve curve_of(const TrainConfig& config) {
  Curve curve;
  TrainHooks hooks;
  hooks.progress = [&](const TrainProgress& p) {
    curve.loss.push_back(p.loss), curve.norm.push_back(p.grad_norm);
  };
  train(config, hooks);
  return curve;
}

}  // namespace

TEST_CASE("with all switches off, 20 updates have the bits recorded before there were switches") {
  const json recorded = json::parse(bytes_of(golden_path("baseline20.json")));
  for (CpuPath path : {CpuPath::Plain, CpuPath::Avx2, CpuPath::Avx512}) {
    if (!available(path)) continue;
    CAPTURE(name_of(path));
    const PathGuard guard(path);
    const TemporaryFolder folder;
    TrainConfig config = toy_run(folder, "run");
    config.epochs = 5, config.device = "cpu";
    const Curve curve = curve_of(config);
    CHECK(curve.loss == recorded[name_of(path)]["loss"].get<std::vector<double>>());
    CHECK(curve.norm == recorded[name_of(path)]["grad_norm"].get<std::vector<double>>());
  }
}
