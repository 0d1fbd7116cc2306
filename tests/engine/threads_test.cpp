// The pool of threads, the prefetching of results, photo streams and the loader: this binary also runs
// under ThreadSanitizer.
#include "engine/base/threads.h"

#include <atomic>
#include <cstring>
#include <filesystem>
#include <map>
#include <numeric>
#include <thread>

#include "engine/base/io.h"
#include "tests/toy.h"
#include "train/image/photo_stream.h"
#include "train/loop/loader.h"
#include "train/predict/evaluate.h"
#include "train/run/trainer.h"

using namespace qfm;
using namespace qfm::test;

TEST_CASE("parallel_for runs every chunk once, for any number of threads") {
  for (int n : {1, 2, 3, 8}) {
    set_threads(n);
    for (int64_t chunks : {0, 1, 2, 7, 1000}) {
      std::vector<int> runs(static_cast<size_t>(chunks), 0);
      parallel_for(chunks, [&](int64_t i) { ++runs[static_cast<size_t>(i)]; });
      CHECK(std::accumulate(runs.begin(), runs.end(), int64_t{0}) == chunks);
      CHECK(std::count(runs.begin(), runs.end(), 1) == chunks);
    }
  }
  set_threads(0);
}

TEST_CASE("parallel_for: errors come back, nested and simultaneous calls work") {
  set_threads(4);
  for (int round = 0; round < 50; ++round) {
    std::atomic<int> runs{0};
    const auto f = [&](int64_t i) {
      ++runs;
      QFM_CHECK(i != 17, "chunk ", i);
    };
    CHECK(message_of([&] { parallel_for(64, f); }) == "chunk 17");
    CHECK(runs == 64);
  }
  std::atomic<int64_t> sum{0};
  parallel_for(10, [&](int64_t i) { parallel_for(10, [&](int64_t j) { sum += 10 * i + j; }); });
  CHECK(sum == 4950);
  std::vector<std::thread> callers;
  std::vector<int64_t> sums(4, 0);
  for (size_t c = 0; c < 4; ++c)
    callers.emplace_back([&, c] {
      for (int round = 0; round < 100; ++round) {
        std::atomic<int64_t> total{0};
        parallel_for(50, [&](int64_t i) { total += i; });
        sums[c] += total;
      }
    });
  for (auto& caller : callers) caller.join();
  for (int64_t total : sums) CHECK(total == 100 * 1225);
  set_threads(0);
}

TEST_CASE("prefetch: in order, not too far ahead, errors where they belong, and it can be dropped") {
  for (int workers : {0, 1, 2, 5}) {
    std::atomic<int64_t> made{0};
    Prefetch<int64_t> squares(3, 60, workers, 4, [&](int64_t i) {
      ++made;
      QFM_CHECK(i != 20, "no ", i);
      return i * i;
    });
    for (int64_t i = 3; i < 60; ++i) {
      if (i == 20) CHECK(message_of([&] { squares.next(); }) == "no 20");
      else CHECK(squares.next() == i * i);
      CHECK(made <= i - 3 + 1 + 4);
    }
    CHECK(squares.done());
    const Prefetch<int64_t> dropped(0, 1000, workers, 4, [](int64_t i) { return i; });
  }
}

namespace {

struct ToyLoader {
  TemporaryFolder folder;
  std::vector<std::string> paths = write_photos(folder, 5);
  LoaderOptions options;
  ToyLoader() { options.batch = 4, options.crops_per_image = 3, options.crop = kToyCrop, options.seed = 9; }
  Loader loader(int workers = 0) {
    options.workers = workers;
    return {paths, {0, 1, 2, 3, 4}, options};
  }
};

bool equal(const Batch& a, const Batch& b) {
  const auto same = [](const Tensor& x, const Tensor& y) {
    return x.shape() == y.shape() && std::memcmp(x.raw(), y.raw(), x.bytes()) == 0;
  };
  return same(a.pixels, b.pixels) && a.mirrored == b.mirrored && same(a.labels, b.labels) &&
         a.photos == b.photos;
}

}  // namespace

TEST_CASE("a photo stream keeps the order, gives reasons for what is no photo, and shows files beside it") {
  const test::TemporaryFolder folder;
  auto paths = test::write_photos(folder, 6);
  write_file(folder / "text.png", "no photo");
  paths.insert(paths.begin() + 2, {folder / "text.png", folder / "missing.png"});
  for (int workers : {0, 1, 3}) {
    std::vector<size_t> sizes(paths.size());
    std::vector<int> widths(paths.size());
    PhotoStreamOptions options{.workers = workers};
    options.on_file = [&](int64_t i, std::span<const uint8_t> file) {
      sizes[static_cast<size_t>(i)] = file.size();
      return i != 5;
    };
    options.on_image = [&](int64_t i, Image& image) {
      widths[static_cast<size_t>(i)] = image.width;
      if (i == 6) throw OutOfMemory("none left", __FILE__, __LINE__);
      if (i == 7) image = {};
    };
    PhotoStream photos(paths, options);
    for (size_t i = 0; i < paths.size(); ++i) {
      CAPTURE(i);
      if (i == 6) {
        CHECK_THROWS_AS(photos.next(), OutOfMemory);
        continue;
      }
      const DecodeResult photo = photos.next();
      if (i == 2) CHECK(photo.error.starts_with("not a photo"));
      else if (i == 3) CHECK(photo.error == "No such file or directory");
      else {
        CHECK(photo.error.empty());
        const Image alone = decode_image(paths[i]);
        CHECK(photo.image.rgb == (i == 5 || i == 7 ? std::vector<uint8_t>{} : alone.rgb));
        CHECK(widths[i] == (i == 5 ? 0 : alone.width));
        CHECK(sizes[i] == std::filesystem::file_size(paths[i]));
      }
    }
    CHECK(photos.done());
  }
  PhotoStream dropped(paths, {.workers = 2});
  dropped.next();
}

TEST_CASE("batches do not depend on the number of workers, nor on where a run was resumed") {
  ToyLoader toy;
  Loader alone = toy.loader();
  CHECK(alone.batches_per_epoch() == 3);  // 15 pairs: three are dropped
  for (int workers : {0, 1, 2, 5})
    for (int64_t first : {0, 4}) {
      Loader loader = toy.loader(workers);
      loader.start(first, 9);
      for (int64_t i = first; i < 9; ++i) CHECK(equal(loader.next(), alone.batch(i / 3, i % 3)));
    }
  CHECK_FALSE(equal(alone.batch(0, 0), alone.batch(1, 0)));
}

TEST_CASE("an epoch takes every photo as often as asked, in another order each time") {
  ToyLoader toy;
  toy.options.batch = 5;
  Loader loader = toy.loader();
  std::vector<std::vector<int64_t>> orders;
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    std::vector<int64_t> order, times(5, 0);
    for (int64_t i = 0; i < loader.batches_per_epoch(); ++i) {
      const Batch batch = loader.batch(epoch, i);
      for (size_t row = 0; row < 5; ++row) {
        order.push_back(batch.photos[row]);
        ++times[static_cast<size_t>(batch.photos[row])];
        CHECK(batch.labels.data<float>()[row] == static_cast<float>(batch.photos[row]));
      }
    }
    CHECK(times == std::vector<int64_t>(5, 3));
    CHECK(std::find(orders.begin(), orders.end(), order) == orders.end());
    orders.push_back(order);
  }
  toy.options.batch = 100;
  CHECK(toy.loader().batches_per_epoch() == 1);
  CHECK(toy.loader().batch(0, 0).pixels.shape() == Shape{15, kToyCrop, kToyCrop, 3});
}

TEST_CASE("every row is a window of its photo, half of them mirrored") {
  ToyLoader toy;
  Loader loader = toy.loader();
  int mirrored = 0, rows = 0;
  for (int64_t i = 0; i < 60; ++i) {
    const Batch batch = loader.batch(i / 3, i % 3);
    const Tensor images({4, 3, kToyCrop, kToyCrop});
    cut_crops(images, batch.sources(batch.pixels.data<uint8_t>()).data(), batch.norm);
    for (int64_t row = 0; row < 4; ++row, ++rows) {
      const Image photo =
          decode_image(toy.paths[static_cast<size_t>(batch.photos[static_cast<size_t>(row)])]);
      const Tensor got = images.rows(row, row + 1);
      int found = 0;
      Tensor wanted = like(got);
      for (int y = 0; y + kToyCrop <= photo.height; ++y)
        for (int x = 0; x + kToyCrop <= photo.width; ++x)
          for (bool mirror : {false, true}) {
            normalise(wanted.data<float>(), photo, {x, y}, kToyCrop, mirror);
            if (std::memcmp(wanted.raw(), got.raw(), got.bytes()) != 0) continue;
            ++found;
            mirrored += mirror;
          }
      CHECK(found == 1);
    }
  }
  CHECK(mirrored > rows * 2 / 5);
  CHECK(mirrored < rows * 3 / 5);
}

TEST_CASE("a photo that breaks during a run is one line with its path") {
  ToyLoader toy;
  toy.paths[2] = toy.folder / "gone.png";
  for (int workers : {0, 2}) {
    Loader loader = toy.loader(workers);
    loader.start(0, 3);
    const std::string message = message_of([&] {
      for (int i = 0; i < 3; ++i) loader.next();
    });
    CHECK(message.rfind(toy.paths[2] + ": ", 0) == 0);
  }
}

TEST_CASE("training and validation with loader threads beside the pool") {
  const TemporaryFolder folder;
  TrainConfig config = toy_run(folder, "run");
  config.workers = 3, config.threads = 3, config.epochs = 1, config.warmup = 0;
  CHECK(train(config).finished);
}
