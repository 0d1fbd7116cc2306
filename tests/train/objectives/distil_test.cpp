// Teachers: pseudo-labels, features to learn from, the averaged student.
#include "train/objectives/feature_distillation.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <future>

#include "tests/train/run/runs.h"
#include "train/loop/batch_stream.h"
#include "train/predict/evaluate.h"
#include "train/run/pseudo_labels.h"

using namespace qfm;
using namespace qfm::test;

TEST_CASE("pseudo-labels are the teacher's, cached by content, filtered by spread, and survive a cut cache") {
  const TemporaryFolder folder;
  TrainConfig config = toy_run(folder, "run");
  taught(config);
  std::filesystem::copy(config.objectives.text("unlabelled") + "/0.png", config.objectives.text("unlabelled") + "/same.png");
  write_file(config.objectives.text("unlabelled") + "/bad.jpg", "no photo");
  PseudoLabelOptions options{config.objectives.text("teacher"), config.objectives.text("unlabelled"), folder / "cache.jsonl", 1.0, 1, {}};
  const PseudoLabels all = pseudo_labels(options);
  CHECK(all.photos == 8);
  CHECK(all.unreadable == 1);
  CHECK(all.dropped == 0);
  REQUIRE(all.kept.size() == 6);  // same.png has the content of 0.png
  const auto teacher = load_model(config.objectives.text("teacher"), cpu_device, DType::F32, false);
  for (const PseudoLabel& label : all.kept) {
    const Prediction p = Predictor(*teacher.model, teacher.info)(decode_image(label.path));
    CHECK(label.quality == teacher.info.to_0_100(p.score));
    CHECK(label.spread == teacher.info.std_to_0_100(p.spread));
  }
  const std::string cache = bytes_of(options.cache);
  CHECK(std::count(cache.begin(), cache.end(), '\n') == 6);

  // A line cut short is made again, to the same bytes; nothing else is.
  write_file(options.cache, cache.substr(0, cache.size() - 20));
  CHECK(pseudo_labels(options).digest == all.digest);
  CHECK(bytes_of(options.cache) == cache);
  options.spread_quantile = 0.5;
  const PseudoLabels half = pseudo_labels(options);
  CHECK(bytes_of(options.cache) == cache);
  CHECK(half.kept.size() + static_cast<size_t>(half.dropped) == 6);
  CHECK(half.dropped == 2);
  for (const PseudoLabel& label : half.kept) CHECK(label.spread <= half.spread_limit);
  CHECK(half.digest != all.digest);

  // A process that comes while another labels waits, and takes what the other one wrote.
  write_file(options.cache, "");
  const int other = ::open(options.cache.c_str(), O_WRONLY | O_APPEND);
  REQUIRE(::flock(other, LOCK_EX) == 0);
  auto later = std::async(std::launch::async, [&] { return pseudo_labels(options); });
  CHECK(later.wait_for(std::chrono::milliseconds(300)) == std::future_status::timeout);
  CHECK(::write(other, cache.data(), cache.size()) == static_cast<ssize_t>(cache.size()));
  ::close(other);
  CHECK(later.get().digest == half.digest);
  CHECK(bytes_of(options.cache) == cache);

  write_file(options.cache, "something else\n");
  CHECK(contains(message_of([&] { pseudo_labels(options); }), "not a cache of pseudo-labels"));
  options.folder = folder / "none";
  CHECK(contains(message_of([&] { pseudo_labels(options); }), "none: "));
}

TEST_CASE("a pseudo-label has the direction and unit of the labels beside it") {
  Dataset set;
  set.range = {1, 5};
  CHECK(label_of(75, set, true) == 75);
  CHECK(label_of(75, set, false) == 4);
  set.higher_is_better = false;
  CHECK(label_of(75, set, true) == 25);
  CHECK(label_of(75, set, false) == 2);
}

TEST_CASE(
    "mixed batches: labelled rows first, both kinds in their share, photos and streams numbered through") {
  const TemporaryFolder folder;
  const auto paths = write_photos(folder, 8);
  const LabelledPhotos labelled{{paths.begin(), paths.begin() + 5}, {0, 1, 2, 3, 4}},
      pseudo{{paths.begin() + 5, paths.end()}, {50, 60, 70}};
  LoaderOptions how;
  how.batch = 4, how.crops_per_image = 2, how.crop = kToyCrop;
  BatchStream mixed(labelled, pseudo, 0.25, how);
  how.batch = 3;
  BatchStream alone(labelled, {}, 0.25, how);
  CHECK(mixed.batch_size() == 4);
  CHECK(mixed.batches_per_epoch() == 3);  // 10 labelled pairs, 3 a batch
  CHECK(alone.batches_per_epoch() == 3);
  mixed.start(0, 5), alone.start(0, 5);
  for (int i = 0; i < 5; ++i) {
    const Batch batch = mixed.next(), first = alone.next();
    CHECK(batch.labelled == 3);
    for (size_t row = 0; row < 3; ++row) {
      CHECK(batch.photos[row] == first.photos[row]);
      CHECK(batch.samples[row] == first.samples[row]);
    }
    CHECK(batch.photos[3] >= 5);
    CHECK(batch.samples[3] >= 10);
    CHECK(batch.labels.span<float>()[3] == 50 + 10 * static_cast<float>(batch.photos[3] - 5));
  }
}

TEST_CASE("the averaged model follows the student") {
  Model student(toy_config());
  Options options;
  options.set("ema", 0.75);
  FeatureDistillation distillation({options, student, toy_info()});
  student.params.allocate(cpu_device, DType::F32, true);
  student.params.initialise(1);
  distillation.started();
  const Tensor before = student.params.master.clone();
  for (float& x : student.params.master.span<float>()) x += 1;
  distillation.updated(nullptr);
  const auto now = student.params.master.span<float>(),
             average = distillation.averaged()->params.master.span<float>();
  for (size_t i = 0; i < now.size(); ++i)
    REQUIRE(average[i] == doctest::Approx(0.75 * before.span<float>()[i] + 0.25 * now[i]).epsilon(1e-6));
}

TEST_CASE("a run refuses to go on with another teacher's features") {
  const TemporaryFolder folder;
  TrainConfig config = toy_run(folder, "run");
  taught(config);
  config.objectives.set("unlabelled", std::string()).set("w-distil-feat", 1);
  const std::string teacher = config.objectives.text("teacher");
  train_until(config, 2);
  config.resume = true;
  const auto file = bytes_of(teacher);
  Model other(toy_config(), cpu_device, DType::F32, false);
  other.params.initialise(77);
  save_model(teacher, other, toy_info());
  CHECK(contains(message_of([&] { train_until(config, 3); }), "another teacher than the run began with"));
  write_file(teacher, file);
  CHECK_FALSE(train_until(config, 3).finished);
}

TEST_CASE("a run refuses to go on with other pseudo-labels") {
  const TemporaryFolder folder;
  TrainConfig config = toy_run(folder, "run");
  taught(config);
  train_until(config, 2);
  CHECK(contains(bytes_of(config.out + "/log.jsonl"), R"("event":"pseudo_labels","photos":6)"));
  write_image(config.objectives.text("unlabelled") + "/7.png", drawn(60, 60, 5));
  config.resume = true;
  CHECK(contains(message_of([&] { train_until(config, 3); }),
                 "other photos or labels than the run began with"));
}
