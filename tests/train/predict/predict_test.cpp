// Scores of photos and of sets of photos.
#include "train/predict/predict.h"

#include "tests/train/run/runs.h"
#include "train/predict/evaluate.h"
#include "train/run/run_setup.h"

using namespace qfm;
using namespace qfm::test;

TEST_CASE("a prediction is the mean over crops, its spread that of all queries") {
  Model model(toy_config(), cpu_device, DType::F32, false);
  model.params.initialise(7);
  model.params.pack();
  const ModelInfo info = toy_info();
  const Image photo = drawn(100, 50);
  const Prediction got = Predictor(model, info)(photo);
  CHECK(got.width == 100);
  CHECK(got.height == 50);
  const auto windows = crop_windows({}, 100, 50, kToyCrop, Rng(0, ""));
  CHECK(got.crops == static_cast<int64_t>(windows.size()));

  double mean = 0, square = 0, n = 0, score = 0;
  std::vector<float> members;
  for (const CropWindow& window : windows) {
    Tensor image({1, 3, kToyCrop, kToyCrop});
    normalise(image.data<float>(), photo, window, kToyCrop, false);
    const NoGrad inference;
    const auto output = model(image);
    score += output.scores.score.value.data<float>()[0] / static_cast<double>(windows.size());
    for (float m : output.scores.members.value.span<float>()) members.push_back(m), mean += m, n += 1;
  }
  for (float m : members) square += (m - mean / n) * (m - mean / n);
  CHECK(got.score == doctest::Approx(score).epsilon(1e-12));
  CHECK(got.spread == doctest::Approx(std::sqrt(square / n)).epsilon(1e-9));
}

TEST_CASE("random crops: any number, the same whatever came before") {
  Model model(toy_config(), cpu_device, DType::F32, false);
  model.params.initialise(7);
  const ModelInfo info = toy_info();
  const Predictor predictor(model, info, {.crops = parse_crops("random:37"), .resize = {}, .seed = 4});
  const Image a = drawn(100, 50, 1), b = drawn(20, 80, 2);
  const double first = predictor(a).score;
  CHECK(predictor(b).crops == 37);
  CHECK(predictor(a).score == first);
  CHECK(predictor.embed(a).cls.shape() == Shape{37, 24});
  CHECK(predictor.embed(a).patches.shape() == Shape{37, 4, 24});
  CHECK(Predictor(model, info, {.crops = parse_crops("random:37"), .resize = {}, .seed = 5})(a).score !=
        first);
  CHECK(contains(message_of([&] {
                   Predictor(model, info, {.crops = {}, .resize = Resize{20, 0, 0}});
                 }),
                 "resize to 20"));
}

TEST_CASE("a score has the same bits for any threads, alone and in a batch") {
  for (const Arithmetic& in : arithmetics()) {
    CAPTURE(in.name());
    const PathScope path(in.path);
    Model model(toy_config(), cpu_device, *parse_dtype_flag(in.dtype), false);
    model.params.initialise(7);
    model.params.pack();
    Tensor images({7, 3, kToyCrop, kToyCrop});
    Rng rng(3, "images");
    for (float& x : images.span<float>()) x = rng.normal();
    const auto scores = [&](const Tensor& batch) {
      const NoGrad inference;
      return model(batch.to(model.params.compute())).scores.score.value.to(DType::F64);
    };
    const Tensor expected = scores(images);
    for (int n : {1, 2, 3}) {
      const ThreadScope threads(n);
      CHECK(same_bits(scores(images), expected));
    }
    for (int64_t i : {0, 3, 6}) CHECK(same_bits(scores(images.rows(i, i + 1)), expected.rows(i, i + 1)));
  }
}

TEST_CASE("predictions of a set come in its order; a photo that cannot be read is one error") {
  const TemporaryFolder folder;
  auto paths = write_photos(folder, 6);
  write_file(paths[2], "nothing");
  Model model(toy_config(), cpu_device, DType::F32, false);
  model.params.initialise(7);
  const ModelInfo info = toy_info();
  const Predictor predictor(model, info);
  const auto results = predict_photos(predictor, paths, {.decode = {}, .workers = 3});
  REQUIRE(results.size() == 6);
  CHECK(results[2].error.rfind(paths[2], 0) == 0);
  for (size_t i : {0u, 1u, 3u, 4u, 5u})
    CHECK(results[i].prediction->score == predictor(decode_image(paths[i])).score);
  const auto agreement = agreement_with(results, {1, 2, 3, 4, 5, 6}, 0);
  REQUIRE(agreement);
  CHECK(agreement->n == 5);
  const auto two = predict_photos(
      predictor, paths, {.decode = {}, .workers = 1, .progress = [](int64_t done) { return done < 2; }});
  CHECK(two.size() == 2);
}

TEST_CASE("photos of the large sets are brought to size as the protocol says, unless told otherwise") {
  const auto size = [](const std::string& data, const std::string& protocol, const std::string& resize) {
    TrainConfig config;
    config.data = data, config.protocol = protocol, config.resize = resize;
    return name_of(starting_info(config).resize);
  };
  CHECK(size("koniq10k:/data", "paper", "") == "512x384");
  CHECK(size("spaq:/data", "clean", "") == "384");
  CHECK(size("livec:/data", "paper", "") == "none");
  CHECK(size("koniq10k:/data", "clean", "none") == "none");
  CHECK(size("livec:/data", "clean", "512x384") == "512x384");
}
