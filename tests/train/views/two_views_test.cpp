// Contrastive pretraining on two crops of each photo: batches, the loss, and that the other crop is found.
#include <fstream>

#include "engine/cuda/cuda.h"
#include "layers/pointwise.h"
#include "layers/linear.h"
#include "layers/qfm_losses.h"
#include "tests/train/image/image_fixtures.h"
#include "tests/train/loop/toy_training.h"
#include "tests/train/views/recipe.h"

using namespace qfm;
using namespace qfm::test;

namespace {

constexpr const char* kInit = "models/pretrained/qfm-tiny.safetensors";

// Stripes of two complementary colours, gray in the mean, each photo of another direction, period and hue.
std::vector<std::string> write_striped_photos(const TemporaryFolder& folder, int count) {
  std::vector<std::string> paths;
  for (int i = 0; i < count; ++i) {
    Image photo(64, 64);
    Rng rng(6, "stripes", static_cast<uint32_t>(i));
    const double dx = 2 * rng.uniform() - 1, dy = 2 * rng.uniform() - 1;
    const double hue[3] = {100 * rng.uniform() - 50.0, 100 * rng.uniform() - 50.0,
                           100 * rng.uniform() - 50.0};
    for (int y = 0; y < 64; ++y)
      for (int x = 0; x < 64; ++x)
        for (int c = 0; c < 3; ++c)
          photo.row(y)[3 * x + c] = static_cast<uint8_t>(120 + hue[c] * std::sin(dx * x + dy * y));
    paths.push_back(folder / ("stripes" + std::to_string(i) + ".png"));
    write_image(paths.back(), photo);
  }
  return paths;
}

Options two_views_options() {
  Options options;
  options.set("w-two-views", 1);
  return options;
}

// Share of rows whose other view is the nearest: of the projections, and of the pooled features, which a checkpoint keeps.
struct Retrieved {
  double projected = 0, pooled = 0;
};

double nearest_is_pair(const Tensor& x) {
  const int64_t rows = x.dim(0), d = x.dim(1);
  const auto dot = [&](int64_t i, int64_t j) {
    double sum = 0;
    for (int64_t k = 0; k < d; ++k) sum += double{x.data<float>()[i * d + k]} * x.data<float>()[j * d + k];
    return sum;
  };
  int64_t found = 0;
  for (int64_t i = 0; i < rows; ++i) {
    int64_t nearest = -1;
    double most = -2;
    for (int64_t j = 0; j < rows; ++j)
      if (const double cosine = dot(i, j) / std::sqrt(dot(j, j)); j != i && (nearest < 0 || cosine > most))
        most = cosine, nearest = j;
    found += nearest == (i + rows / 2) % rows;
  }
  return static_cast<double>(found) / static_cast<double>(rows);
}

// Mean over batches first .. first + count - 1, without an update.
Retrieved retrieved(Recipe& recipe, const ViewSource& source, int64_t first, int64_t count) {
  Retrieved mean;
  Objective& objective = *recipe.step.objectives().back();
  objective.plan(source.batch_size(), 0, 0);
  for (int64_t i = first; i < first + count; ++i) {
    const Batch batch = source.batch(i);
    const NoGrad guard;
    const Tensor images = recipe.images(batch);
    const Model::Output out = recipe.model(images);
    objective({recipe.model, images, out, out.scores.score, batch.labels, {}});
    objective.finished(batch);
    mean.projected += objective.statistics().at("retrieved").get<double>() / static_cast<double>(count);
    mean.pooled += nearest_is_pair(out.features.pooled.value) / static_cast<double>(count);
  }
  return mean;
}

}  // namespace

TEST_CASE(
    "a batch of two views: a pure function of its number, first views in front, each photo once an epoch") {
  const TemporaryFolder folder;
  const auto paths = write_striped_photos(folder, 9);
  ViewOptions how{.pairs = 4, .crop = 16, .side = 32, .seed = 5, .workers = 0};
  ViewSource alone(paths, two_squares(16), how);
  how.workers = 2;
  ViewSource ahead(paths, two_squares(16), how);
  CHECK(alone.batches_per_epoch() == 2);
  ahead.start(0, 4);
  for (int64_t i = 0; i < 4; ++i) {
    const Batch a = alone.batch(i), b = ahead.next();
    CHECK(a.views == 2);
    CHECK(a.labelled == 0);
    CHECK(a.pixels.shape() == Shape{8, 16, 16, 3});
    CHECK(std::equal(a.pixels.span<uint8_t>().begin(), a.pixels.span<uint8_t>().end(),
                     b.pixels.span<uint8_t>().begin()));
    CHECK(a.mirrored == b.mirrored);
    for (size_t row = 0; row < 4; ++row) CHECK(a.photos[row] == a.photos[row + 4]);
  }
  CHECK(contains(message_of([&] { ViewSource({paths[0]}, two_squares(16), how); }), "1 photos for 4 pairs"));
}

TEST_CASE("the contrast of two views is NT-Xent, its projector is in no checkpoint, one view is refused") {
  const TemporaryFolder folder;
  const ViewSource source(write_striped_photos(folder, 4), two_squares(32),
                          {.pairs = 4, .crop = 32, .side = 32, .workers = 0});
  Recipe recipe(small_vit(32, 16, 24, 1, 3, "linear"), 8, two_views_options());
  Batch batch = source.batch(0);
  const Tensor pooled = recipe.look(batch).features.pooled.value;
  const auto param = [&](const std::string& name) {
    for (const Param& p : recipe.model.params.params())
      if (p.name() == name) return p;
    FAIL(name);
    return Param();
  };
  for (const auto& [name, tensor] : recipe.model.params.saved()) CHECK_FALSE(name.starts_with("projector."));
  const Var h = linear(gelu(linear(pooled, param("projector.fc1.weight"), param("projector.fc1.bias"))),
                       param("projector.fc2.weight"), param("projector.fc2.bias"));
  const double expected = ntxent(h, {4, 5, 6, 7, 0, 1, 2, 3}, 0.2).value.span<float>()[0];
  CHECK(recipe.step(batch, 0, 1e-3).loss == doctest::Approx(expected).epsilon(1e-6));
  batch.views = 1;
  CHECK(contains(message_of([&] { recipe.step(batch, 0, 1e-3); }), "two views: the batch has 1"));
}

TEST_CASE("two views: the loss falls, and the other one of two crops that no step saw is found") {
  const TemporaryFolder folder;
  const auto paths = write_striped_photos(folder, 32);
  ViewOptions how{.pairs = 16, .crop = 32, .side = 64, .workers = 0};
  ViewSource source(paths, two_squares(32, 0.5), how);
  how.seed = 9;
  const ViewSource others(paths, two_squares(32, 0.5), how);
  Recipe recipe(small_vit(32, 8, 48, 2, 3, "linear"), source.batch_size(), two_views_options());
  const double before = retrieved(recipe, others, 0, 8).projected;
  double first = 0, last = 0;
  recipe.train(source, 60, 1e-3, [&](int64_t i, double loss) {
    (i < 5 ? first : i >= 55 ? last : loss) += loss / 5;
  });
  CHECK(last < 0.8 * first);
  const double found = retrieved(recipe, others, 0, 8).projected;
  MESSAGE("loss " << first << " -> " << last << ", retrieved " << before << " -> " << found << " (chance "
                  << 1.0 / 31 << ")");
  CHECK(found > 0.3);
  CHECK(found > before);
}

TEST_CASE("two views on CUDA: steps that replay a graph have the CPU's losses, and report too") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  constexpr int64_t rows = 4;
  ToyTraining cpu(cpu_device, DType::F32, false, two_views_options(), {}, rows),
      cuda(cuda_device, DType::F32, false, two_views_options(), {}, rows);
  for (uint32_t i = 0; i < 4; ++i) {
    Batch batch = toy_batch(i, rows);
    batch.views = 2, batch.labelled = 0;
    const double expected = cpu.step(batch, 0, 1e-3).loss;
    CHECK(cuda.step(batch, 0, 1e-3).loss == doctest::Approx(expected).epsilon(1e-4));
    CHECK(cuda.step.statistics().contains("two_views"));
  }
}

// ---- 200 steps on real photos ----

namespace {

struct Start {
  const char* name;
  ModelConfig config;
  std::string init;
};

std::vector<Start> starts(int crop) {
  ModelConfig tiny = small_vit(crop, 16, 192, 12, 3, "query_decoder");
  tiny.select = true;
  return {
      {"random, depth 4", small_vit(crop, 16, 192, 4, 3, "linear"), ""},
      {"qfm-tiny (trained on opinion scores), depth 12", tiny, std::string(QFM_SOURCE_DIR) + "/" + kInit}};
}

}  // namespace

TEST_CASE("two views: 200 steps on photos" * doctest::skip(!long_tests())) {
  const std::string folder = shared_path("data/pristine");
  if (folder.empty()) QFM_SKIP("no ../shared/data/pristine");
  constexpr int crop = 64;
  constexpr int64_t steps = 200;
  auto learnt = photos_in(folder, false), held = std::vector<std::string>();
  for (size_t i = 0; i < learnt.size(); ++i)  // every third, until a batch is full
    if (held.size() < 64)
      held.push_back(learnt[i + 1]), learnt.erase(learnt.begin() + static_cast<int64_t>(i) + 1), ++i;
  const ViewOptions how{.pairs = 64, .crop = crop, .side = 128, .seed = 7, .workers = 1};
  ViewOptions fresh = how;
  fresh.seed = 1007;  // other crops
  ViewSource source(learnt, two_squares(crop), how);
  const ViewSource same(learnt, two_squares(crop), fresh), others(held, two_squares(crop), fresh);
  std::ofstream table(std::string(QFM_SOURCE_DIR) + "/train/experiments/results/newcomers/two_views.md");
  table
      << "# Two views: is the other crop of a photo found?\n\nWritten by `QFM_LONG_TESTS=1 qfm_train_tests "
         "-tc='two views: 200*'`"
      << " (`tests/train/views/two_views_test.cpp`).\n\nClean photos (CID22 references, CLIC 2025): "
      << learnt.size() << " learnt, " << held.size()
      << " held out, shorter side brought to 128.\nViT, width 192, patch 16, crops of " << crop
      << " px: squares of 0.2 to 1 of the largest area, mirrored with p = 0.5; no\ncolour jitter, no blur. "
         "Batches of 64 photos, "
      << steps
      << " steps, AdamW, rate 5e-4 with warm-up and cosine, temperature 0.2, seed 3\n(weights) and 7 (crops)."
      << " Retrieved: share of the 128 rows whose nearest other row is the other view, chance 1 / 127 = "
         "0.8%;\nmean of 4 batches"
      << " whose crops no step saw, by the projection / by the pooled features that a checkpoint keeps.\n\n"
      << "| start | after steps | loss | learnt photos, fresh crops | held-out photos | s of training "
         "|\n|---|---|---|---|---|---|\n";
  for (const Start& start : starts(crop)) {
    Recipe recipe(start.config, source.batch_size(), two_views_options(), start.init);
    double loss = 0;
    const auto row = [&](int64_t done, double seconds) {
      const Retrieved a = retrieved(recipe, same, 0, 4), b = retrieved(recipe, others, 0, 4);
      char line[300], at[20] = "";
      if (done > 0) std::snprintf(at, sizeof at, "%.3f", loss);
      std::snprintf(line, sizeof line, "| %s | %d | %s | %.1f%% / %.1f%% | %.1f%% / %.1f%% | %.0f |\n",
                    start.name, static_cast<int>(done), at, 100 * a.projected, 100 * a.pooled,
                    100 * b.projected, 100 * b.pooled, seconds);
      table << line << std::flush;
      MESSAGE(line);
      return a.projected;
    };
    row(0, 0);
    const Stopwatch watch;
    recipe.train(source, steps, 5e-4, [&](int64_t i, double now) {
      loss = now;
      if (i % 20 == 0) MESSAGE(i << " " << now << " " << watch.seconds() << " s");
    });
    CHECK(row(steps, watch.seconds()) > 0.5);
  }
}
