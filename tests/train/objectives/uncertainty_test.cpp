// How far scores may be off: the likelihood that a variance is learnt from, the calibration of intervals, and a run that
// makes both.
#include <cmath>

#include "engine/base/rng.h"
#include "layers/loss.h"
#include "layers/pointwise.h"
#include "models/registry.h"
#include "tests/train/run/runs.h"
#include "train/predict/evaluate.h"
#include "train/predict/interval.h"

using namespace qfm;
using namespace qfm::test;

namespace {

// 110 more photos beside those of toy_run, and a run that is calibrated with them.
TrainConfig calibrated_run(const TemporaryFolder& folder, const std::string& out) {
  TrainConfig config = toy_run(folder, out);
  const std::string manifest = folder / "calibration.csv";
  if (!std::filesystem::exists(manifest)) {
    std::filesystem::create_directories(folder.path / "more");
    std::string table = "image,score\n";
    Rng rng(3, "labels");
    for (int i = 0; i < 110; ++i) {
      write_image(concat(folder.path.string(), "/more/", i, ".png"), drawn(36, 33, 500 + static_cast<uint64_t>(i)));
      table += concat("more/", i, ".png,", 20 + 60 * rng.uniform(), "\n");
    }
    write_file(manifest, table);
  }
  config.calibrate = manifest;
  return config;
}

}  // namespace

TEST_CASE("beta-NLL: PyTorch's GaussianNLLLoss times variance^beta, its value and both gradients") {
  struct Expected {
    double beta, loss, mean[3], log_variance[3];
  };
  // torch 2.15, F64: gaussian_nll_loss(m, y, v.exp(), reduction='none') * v.exp().detach() ** beta, mean
  const Expected expected[] = {
      {0, 2.9169923622768352, {-0.026951787996341868, 0.0023773723181665426, 0.01140108054674659},
       {0.004955938688615453, 0.16607232358712504, 0.03697937544742417}},
      {0.5, 49.34211126243781, {-0.32833999449559514, 0.019905494711119937, 0.29403774272389194},
       {0.06037569314367449, 1.3905065410100974, 0.953710662714573}},
      {1, 1004.2078187957763, {-4.0, 0.16666666666666666, 7.583333333333333},
       {0.7355265170961016, 11.642568724447974, 24.596522174060304}}};
  for (const Expected& e : expected) {
    CAPTURE(e.beta);
    const Var m = Var::leaf(Tensor::from(std::vector<double>{40, 55.5, 71.25}, {3})),
              v = Var::leaf(Tensor::from(std::vector<double>{5, 4.25, 6.5}, {3}));
    const Var loss = beta_nll(m, v, Tensor::from(std::vector<double>{52, 55, 48.5}, {3}), e.beta);
    CHECK(loss.value.data<double>()[0] == doctest::Approx(e.loss).epsilon(1e-12));
    backward(loss);
    for (int i = 0; i < 3; ++i) {
      CHECK(m.grad().data<double>()[i] == doctest::Approx(e.mean[i]).epsilon(1e-12));
      CHECK(v.grad().data<double>()[i] == doctest::Approx(e.log_variance[i]).epsilon(1e-12));
    }
  }
  CHECK(contains(message_of([] { beta_nll(Var(Tensor::zeros({3})), Var(Tensor::zeros({2})), Tensor::zeros({3}), 0.5); }),
                 "beta_nll: mean is (3), log variance is (2)"));
}

TEST_CASE("a calibration's factor is the order statistic of split conformal prediction, and covers what it says") {
  std::vector<double> ratios;
  for (int i = 109; i >= 1; --i) ratios.push_back(0.1 * i);
  const Calibration c(ratios);
  CHECK(c.factor(0.9) == doctest::Approx(9.9));  // rank 110 * 0.9
  CHECK(c.factor(0.5) == doctest::Approx(5.5));
  CHECK(c.factor(0.001) == doctest::Approx(0.1));
  CHECK_FALSE(c.factor(0.995));  // the 110th of 109
  // Errors of one Gaussian, calibrated with 200 of them and met by others: the coverage is 90% on the whole.
  Rng rng(7, "errors");
  double inside = 0;
  for (int round = 0; round < 200; ++round) {
    std::vector<double> drawn_ratios;
    for (int i = 0; i < 200; ++i) drawn_ratios.push_back(std::fabs(rng.normal()));
    const double factor = *Calibration(drawn_ratios).factor(0.9);
    for (int i = 0; i < 50; ++i) inside += std::fabs(rng.normal()) <= factor;
  }
  CHECK(std::fabs(inside / 10000 - 0.9) < 3 * std::sqrt(0.9 * 0.1 * (1.0 / 10000 + 1.0 / 40000)));
}

TEST_CASE("the probability that one photo is better follows both deviations, as calibrated") {
  std::vector<double> ratios;
  for (int i = 1; i <= 999; ++i) ratios.push_back(0.002 * i);  // 68.27% lie within 1.366 of the head's deviations
  const Calibration c(ratios);
  CHECK(c.probability_above(50, 4, 50, 9) == doctest::Approx(0.5));
  const double unit = 0.002 * std::ceil(1000 * 0.6826894921370859);
  CHECK(c.probability_above(60, 3, 50, 4) == doctest::Approx(0.5 * std::erfc(-10 / (5 * unit) / std::sqrt(2.0))));
  CHECK(c.probability_above(60, 3, 50, 4) + c.probability_above(50, 4, 60, 3) == doctest::Approx(1));
}

TEST_CASE("a calibration that says nothing, or is damaged, is refused") {
  CHECK(contains(message_of([] { Calibration({}); }), "no photos"));
  CHECK(contains(message_of([] { Calibration({1, 1, 1}); }), "every error is 1 deviations"));
  CHECK(contains(message_of([] { Calibration({1, std::nan("")}); }), "an error of nan"));
  CHECK(contains(message_of([] { Calibration({1, -2}); }), "an error of -2"));
  const Calibration c({0.5, 1.25});
  CHECK(Calibration::from_json(c.json()).ratios() == c.ratios());
  for (const char* text : {"", "{", "{}", R"({"photos":3,"ratios":[1,2]})", R"({"photos":2,"ratios":[1,"a"]})", "[1,2]"})
    CHECK(contains(message_of([&] { Calibration::from_json(text); }), "calibration"));
}

TEST_CASE("an interval holds the score and stays within the labels' range") {
  ModelInfo info;
  Prediction p;
  p.score = 90, p.deviation = 8;
  CHECK(interval_around(p, info, 1.5).low == 78);
  CHECK(interval_around(p, info, 1.5).high == 100);
  p.score = 104;
  CHECK(interval_around(p, info, 1.5).high == 104);
  info.labels_scaled = false, info.label_low = 1, info.label_high = 5;
  p.score = 4.5, p.deviation = 0.5;
  CHECK(interval_around(p, info, 2).low == 3.5);
  CHECK(interval_around(p, info, 2).high == 5);
  CHECK_FALSE(interval_factor(info, 0.9));
  info.calibration.emplace(std::vector<double>{1, 2, 3});
  CHECK(interval_factor(info, 0.5) == 2);
  CHECK(contains(message_of([&] { interval_factor(info, 0.9); }), "calibrated with 3 photos, which reach at most 0.75"));
  CHECK(contains(message_of([&] { interval_factor(info, 1); }), "1 is not inside 0..1"));
}

TEST_CASE("a run with --calibrate learns a variance, keeps its calibration, and resumes to the same bits") {
  const TemporaryFolder folder;
  TrainConfig whole = calibrated_run(folder, "whole");
  CHECK(train_until(whole, 1000).finished);
  const LoadedModel last = load_model(whole.out + "/last.safetensors", cpu_device, DType::F32, false);
  REQUIRE(last.info.calibration);
  CHECK(last.info.calibration->ratios().size() == 110);
  CHECK(load_model(whole.out + "/best.safetensors", cpu_device, DType::F32, false).info.calibration);
  CHECK(TensorFile::open(whole.out + "/model.safetensors").metadata().count("interval") == 1);
  float moved = 0;
  for (const float w : TensorFile::open(whole.out + "/last.safetensors").tensor("log_var.weight").span<float>())
    moved = std::max(moved, std::fabs(w));
  CHECK(moved > 0);
  // Its own photos lie within the interval as often as it was calibrated for.
  const Predictor predictor(*last.model, last.info);
  const double factor = *interval_factor(last.info, 0.9);
  int inside = 0, row = 0;
  std::istringstream table(bytes_of(whole.calibrate.text()));
  std::string line;
  std::getline(table, line);
  while (std::getline(table, line)) {
    const Prediction p = predictor(decode_image(concat(folder.path.string(), "/more/", row++, ".png")));
    const Interval i = interval_around(p, last.info, factor);
    const double label = std::stod(line.substr(line.find(',') + 1));
    inside += label >= i.low && label <= i.high;
  }
  CHECK(inside == 100);  // the ceil(111 * 0.9)-th of 110

  TrainConfig stopped = calibrated_run(folder, "stopped");
  train_until(stopped, 5), stopped.resume = true;
  train_until(stopped, 12);
  CHECK(train_until(stopped, 1000).finished);
  check_equal_runs(whole, stopped);

  // Starting from it again: the same head, no calibration of other weights.
  TrainConfig again = toy_run(folder, "again");
  again.init = whole.out + "/last.safetensors";
  train_until(again, 1000);
  CHECK_FALSE(load_model(again.out + "/last.safetensors", cpu_device, DType::F32, false).info.calibration);
}

TEST_CASE("what cannot be calibrated is refused before the first step") {
  const TemporaryFolder folder;
  const auto refusal = [&](auto change) {
    TrainConfig config = calibrated_run(folder, "run");
    change(config);
    const std::string message = message_of([&] { train(config); });
    CHECK_FALSE(std::filesystem::exists(config.out));
    CHECK(message.find('\n') == std::string::npos);
    return message;
  };
  CHECK(contains(refusal([](TrainConfig& c) { c.calibrate = "0.3"; }), "photos to calibrate with, at least 100 are needed"));
  CHECK(contains(refusal([](TrainConfig& c) { c.calibrate = c.data; }), "is in the training part too"));
  CHECK(contains(refusal([](TrainConfig& c) { c.calibrate = "nowhere.csv"; }), "nowhere.csv"));
  const std::string few = folder / "few.csv";
  write_file(few, "image,score\nmore/0.png,3\nmore/1.png,4\nmore/2.png,5\n");
  CHECK(contains(refusal([&](TrainConfig& c) { c.calibrate = few; }), "few.csv: 3 photos to calibrate with"));
}
