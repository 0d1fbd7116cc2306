// The sets whose labels are MATLAB arrays, which give labels by position: LIVE and LIVE in the Wild Challenge.
#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>

#include "engine/base/error.h"
#include "train/data/csv.h"
#include "train/data/mat_file.h"
#include "train/data/native/native.h"
#include "train/data/sample_list.h"

namespace qfm {
namespace {

namespace fs = std::filesystem;

constexpr std::array<const char*, 5> live_folders = {"jp2k", "jpeg", "wn", "gblur", "fastfading"};

// 12 for "img12.bmp", 0 for other names.
int64_t image_number(const std::string& name) {
  int64_t number = 0;
  const std::string text = lower(name);
  if (!text.starts_with("img") || !text.ends_with(".bmp")) return 0;
  const char *begin = text.data() + 3, *end = text.data() + text.size() - 4;
  const auto [stop, error] = std::from_chars(begin, end, number);
  return error == std::errc() && stop == end ? number : 0;
}

// The images of LIVE in the order of its labels: folder by folder, by the number in the name (10 after 9).
// `gap`: the first one missing by the numbers.
std::vector<std::string> live_images(const std::string& root, std::string& gap) {
  std::vector<std::string> images;
  for (const char* folder : live_folders) {
    std::vector<std::pair<int64_t, std::string>> found;
    std::error_code error;
    fs::directory_iterator entry(fs::path(root) / folder, error), end;
    QFM_CHECK(!error, (fs::path(root) / folder).string(), ": ", error.message());
    for (; !error && entry != end; entry.increment(error)) {
      const std::string name = entry->path().filename().string();
      if (const int64_t number = image_number(name); number > 0) found.emplace_back(number, name);
    }
    std::sort(found.begin(), found.end());
    for (size_t i = 0; i < found.size(); ++i) {
      if (gap.empty() && found[i].first != static_cast<int64_t>(i) + 1)
        gap = concat(folder, "/img", i + 1, ".bmp");
      images.push_back(concat(folder, "/", found[i].second));
    }
  }
  return images;
}

}  // namespace

Dataset read_live(const std::string& folder, const DatasetOptions& options) {
  const auto in = [&](const char* name) { return (fs::path(folder) / name).string(); };
  std::error_code error;
  QFM_CHECK(fs::exists(in("dmos_realigned.mat"), error), in("dmos_realigned.mat"),
            ": no such file (dmos.mat holds other scores, from before they were realigned)");
  const MatFile labels(in("dmos_realigned.mat")), names(in("refnames_all.mat"));
  const auto scores = labels.numbers("dmos_new"), copies = labels.numbers("orgs");
  const auto deviations = labels.has("dmos_std") ? labels.numbers("dmos_std") : std::vector<double>();
  const auto references = names.texts("refnames_all");
  std::string gap;
  const auto images = live_images(folder, gap);
  QFM_CHECK(images.size() == scores.size() && gap.empty(), labels.path(), ": ", scores.size(),
            " labels, but ", images.size(), " images in jp2k, jpeg, wn, gblur, fastfading",
            gap.empty() ? "" : " (" + gap + " is missing)",
            ": labels go by position, so none can be trusted");
  QFM_CHECK(copies.size() == scores.size(), labels.path(), ": ", scores.size(), " labels, but ",
            copies.size(), " entries in orgs");
  QFM_CHECK(deviations.empty() || deviations.size() == scores.size(), labels.path(), ": ", scores.size(),
            " labels, but ", deviations.size(), " entries in dmos_std");
  QFM_CHECK(references.size() == scores.size(), names.path(), ": ", references.size(), " names, but ",
            scores.size(), " labels");
  ImageFolder files(folder);
  SampleList list(
      labels.path(), "dmos_new", "in " + folder, [&](const std::string& image) { return files.find(image); },
      options);
  for (size_t i = 0; i < scores.size(); ++i) {
    if (copies[i] != 0) continue;  // a reference, not a distorted photo
    list.add(static_cast<int64_t>(i) + 1,
             {images[i], number_text(scores[i]), deviations.empty() ? "" : number_text(deviations[i]),
              lower_stem(references[i]), ""});
  }
  return list.finish();
}

bool is_livec_training_image(int64_t row, const std::string& image) {
  return row <= 7 && lower_stem(image) == concat("t", row);
}

Dataset read_livec(const std::string& folder, const DatasetOptions& options) {
  const auto in = [&](const char* name) { return (fs::path(folder) / "Data" / name).string(); };
  const MatFile images(in("AllImages_release.mat")), labels(in("AllMOS_release.mat")),
      spread(in("AllStdDev_release.mat"));
  const auto names = images.texts("AllImages_release");
  const auto scores = labels.numbers("AllMOS_release"), deviations = spread.numbers("AllStdDev_release");
  QFM_CHECK(scores.size() == names.size(), labels.path(), ": ", scores.size(), " scores, but ", names.size(),
            " names in ", images.path());
  QFM_CHECK(deviations.size() == names.size(), spread.path(), ": ", deviations.size(), " values, but ",
            names.size(), " names in ", images.path());
  ImageFolder files(folder, "Images");
  SampleList list(
      images.path(), "AllMOS_release", "in " + files.where(),
      [&](const std::string& image) { return files.find(image); }, options);
  for (size_t i = 0; i < names.size(); ++i) {
    const auto row = static_cast<int64_t>(i) + 1;
    if (!is_livec_training_image(row, names[i]))
      list.add(row, {names[i], number_text(scores[i]), number_text(deviations[i]), "", ""});
  }
  return list.finish();
}

}  // namespace qfm
