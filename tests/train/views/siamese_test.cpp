// A siamese head over a reference and its distortion: pairs, the head, and that it tells the levels apart.
#include "models/heads/siamese.h"

#include <fstream>

#include "models/checkpoint.h"
#include "tests/train/image/image_fixtures.h"
#include "tests/train/views/recipe.h"
#include "train/views/distorted_pairs.h"

using namespace qfm;
using namespace qfm::test;

namespace {

constexpr Distortion kKinds[] = {Distortion::Blur, Distortion::Noise, Distortion::Jpeg};

// One window at levels 1 .. 5 of one kind, each beside its reference.
Batch levels_of(const Image& photo, int crop, Distortion kind, uint32_t sample) {
  Batch batch;
  batch.pixels = Tensor({2 * distortion_levels, crop, crop, 3}, DType::U8), batch.views = 2;
  batch.mirrored.resize(2 * distortion_levels);
  for (int level = 1; level <= distortion_levels; ++level) {
    Rng rng(17, name_of(kind), 0, sample);  // the same window at each level
    const ViewPair pair = distorted_pair(photo, crop, kind, level, rng);
    for (const auto& [row, image] :
         {std::pair{level - 1, &pair.first}, {level - 1 + distortion_levels, &pair.second}})
      std::copy(image->rgb.begin(), image->rgb.end(), batch.pixels.rows(row, row + 1).data<uint8_t>());
  }
  return batch;
}

// Of the ten pairs of levels of each photo: the share of them that the mean score over `windows` windows orders.
double ordered(const Recipe& recipe, const std::vector<Image>& photos, int crop, Distortion kind,
               uint32_t windows) {
  int64_t right = 0, pairs = 0;
  for (size_t p = 0; p < photos.size(); ++p) {
    double score[distortion_levels] = {};
    for (uint32_t w = 0; w < windows; ++w) {
      const Tensor s = recipe.look(levels_of(photos[p], crop, kind, static_cast<uint32_t>(p) * windows + w))
                           .scores.score.value;
      for (int level = 0; level < distortion_levels; ++level)
        score[level] += double{s.span<float>()[static_cast<size_t>(level)]};
    }
    for (int a = 0; a < distortion_levels; ++a)
      for (int b = a + 1; b < distortion_levels; ++b) right += score[a] < score[b], ++pairs;
  }
  return static_cast<double>(right) / static_cast<double>(pairs);
}

std::vector<Image> photos_of(const std::vector<std::string>& paths, int side) {
  std::vector<Image> photos;
  for (const std::string& path : paths)
    photos.push_back(resize_shorter_side(decode_image(path), side, Resampling::Bilinear));
  return photos;
}

std::vector<std::string> write_drawn_photos(const TemporaryFolder& folder, int count) {
  std::vector<std::string> paths;
  for (int i = 0; i < count; ++i) {
    paths.push_back(folder / (std::to_string(i) + ".png"));
    write_image(paths.back(), drawn(48 + i % 3, 48, static_cast<uint64_t>(i)));
  }
  return paths;
}

}  // namespace

TEST_CASE(
    "the siamese head: one score a pair, nothing of equal views, the other way round the other difference") {
  Model model(small_vit(32, 16, 24, 1, 3, "siamese"), cpu_device, DType::F32, false);
  model.params.initialise(2);
  Tensor images({4, 3, 32, 32});
  Rng rng(1, "images");
  for (float& x : images.span<float>()) x = rng.normal();
  const NoGrad guard;
  const Scores scores = model(images).scores;
  CHECK(scores.score.shape() == Shape{2});
  CHECK(scores.members.shape() == Shape{2, 1});
  CHECK(scores.tokens.shape() == Shape{2, 1, 24});
  images.rows(2, 4).copy_from(images.rows(0, 2));
  for (float x : model(images).scores.tokens.value.span<float>()) CHECK(x == 0);
  CHECK(contains(message_of([&] { model(images.rows(0, 3)); }), "3 rows are no pairs"));
}

TEST_CASE("the difference of halves: values and gradient") {
  const Var x = Var::leaf(Tensor::from(std::vector<double>{1, 2, 3, 5, 7, 11, 13, 17}, {4, 2}));
  const Var y = difference_of_halves(x);
  backward(y, Tensor::from(std::vector<double>{1, 10, 100, 1000}, {2, 2}));
  const auto values = y.value.span<double>(), grad = x.grad().span<double>();
  CHECK(std::vector<double>(values.begin(), values.end()) == std::vector<double>{6, 9, 10, 12});
  CHECK(std::vector<double>(grad.begin(), grad.end()) ==
        std::vector<double>{-1, -10, -100, -1000, 1, 10, 100, 1000});
}

TEST_CASE("a siamese model is kept in a checkpoint") {
  const TemporaryFolder folder;
  ModelInfo info;
  info.config = small_vit(32, 16, 24, 1, 3, "siamese"), info.crop = 32;
  Model model(info.config, cpu_device, DType::F32, false);
  model.params.initialise(2);
  save_model(folder / "model.safetensors", model, info);
  const LoadedModel loaded = load_model(folder / "model.safetensors", cpu_device, DType::F32, false);
  CHECK(type_of(*loaded.info.config.head) == "siamese");
}

TEST_CASE("siamese: levels of distortion are learnt from pairs") {
  const TemporaryFolder folder;
  const auto paths = write_drawn_photos(folder, 24);
  ViewSource source({paths.begin(), paths.begin() + 16}, distorted_pairs(32),
                    {.pairs = 16, .crop = 32, .side = 48, .labelled = true, .workers = 0});
  Recipe recipe(small_vit(32, 8, 48, 2, 3, "siamese"), source.batch_size(), {});
  double first = 0, last = 0;
  recipe.train(source, 80, 1e-3, [&](int64_t i, double loss) {
    (i < 5 ? first : i >= 75 ? last : loss) += loss / 5;
  });
  const auto held = photos_of({paths.begin() + 16, paths.end()}, 48);
  double right = 0;
  for (Distortion kind : kKinds) right += ordered(recipe, held, 32, kind, 1) / 3;
  MESSAGE("loss " << first << " -> " << last << ", pairs of levels in order " << right);
  CHECK(last < 0.5 * first);
  CHECK(right > 0.7);
}

TEST_CASE("siamese: levels on photos" * doctest::skip(!long_tests())) {
  const std::string folder = shared_path("data/pristine");
  if (folder.empty()) QFM_SKIP("no ../shared/data/pristine");
  constexpr int crop = 64, side = 256;
  constexpr int64_t steps = 300;
  constexpr uint32_t windows = 4;
  auto learnt = photos_in(folder, false), held = std::vector<std::string>();
  for (size_t i = 1; i < learnt.size() && held.size() < 64; i += 2)  // every third
    held.push_back(learnt[i]), learnt.erase(learnt.begin() + static_cast<int64_t>(i));
  ViewSource source(learnt, distorted_pairs(crop),
                    {.pairs = 32, .crop = crop, .side = side, .labelled = true, .seed = 7});
  Recipe recipe(small_vit(crop, 8, 96, 3, 3, "siamese"), source.batch_size(), {});
  const auto photos = photos_of(held, side);
  std::ofstream table(std::string(QFM_SOURCE_DIR) + "/train/experiments/results/newcomers/siamese.md");
  table << "# Siamese head: is the worse of two levels scored higher?\n\nWritten by `QFM_LONG_TESTS=1 "
           "qfm_train_tests -tc='siamese: levels on photos'`\n"
        << "(`tests/train/views/siamese_test.cpp`).\n\nClean photos (CID22 references, CLIC 2025), shorter "
           "side brought to "
        << side << ": " << learnt.size() << " learnt, " << held.size()
        << " held out. ViT from random weights,\nwidth 96, depth 3, 3 heads, patch 8, crops of " << crop
        << " px as they are in the photo. Batches of 32 pairs (photo, window, kind and\nlevel drawn), "
        << steps
        << " steps, SmoothL1 to the level, AdamW, rate 1e-3 with warm-up and cosine, seeds 3 (weights) and "
           "7\n(pairs). In order: share of"
        << " the ten pairs of levels of each held-out photo, its score the mean of " << windows
        << " windows, each the\nsame, with the same draw of noise, at all five levels.\n\n"
        << "| steps | loss, moving mean | blur | noise | jpeg | together | s of training "
           "|\n|---|---|---|---|---|---|---|\n";
  double loss = 0;
  const auto row = [&](int64_t done, double seconds) {
    double right[3], sum = 0;
    for (size_t k = 0; k < 3; ++k) sum += right[k] = ordered(recipe, photos, crop, kKinds[k], windows);
    char line[300], at[20] = "";
    if (done > 0) std::snprintf(at, sizeof at, "%.3f", loss);
    std::snprintf(line, sizeof line, "| %d | %s | %.1f%% | %.1f%% | %.1f%% | %.1f%% | %.0f |\n",
                  static_cast<int>(done), at, 100 * right[0], 100 * right[1], 100 * right[2], 100 * sum / 3,
                  seconds);
    table << line << std::flush;
    MESSAGE(line);
    return sum / 3;
  };
  row(0, 0);
  const Stopwatch watch;
  recipe.train(source, steps, 1e-3, [&](int64_t i, double now) {
    loss = i == 0 ? now : 0.9 * loss + 0.1 * now;  // a moving mean
    if (i % 20 == 0) MESSAGE(i << " " << loss << " " << watch.seconds() << " s");
  });
  CHECK(row(steps, watch.seconds()) >= 0.9);
}
