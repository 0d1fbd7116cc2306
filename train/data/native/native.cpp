#include "train/data/native/native.h"

#include <algorithm>
#include <filesystem>

#include "engine/base/error.h"
#include "train/data/label_table.h"

namespace qfm {
namespace {

namespace fs = std::filesystem;

const NativeLayout* layout_in(const fs::path& folder) {
  std::error_code error;
  for (const auto& layout : native_layouts())
    for (const auto table : layout.tables)
      if (fs::is_regular_file(folder / table, error)) return &layout;
  return nullptr;
}

std::string hint_for(const fs::path& folder) {
  const NativeLayout* layout = layout_in(folder);
  if (!layout) return "";
  return concat("; this is the layout of ", layout->name, ": --data ", layout->name, ":", folder.string());
}

std::string pyiqa_hint(const NativeLayout& layout, const fs::path& folder) {
  const fs::path table = folder / concat("meta_info_", layout.pyiqa, "Dataset.csv");
  std::error_code error;
  if (!fs::is_regular_file(table, error)) return "";
  return concat("; there is a table of pyiqa: --data ", table.string(), " --root IMAGES");
}

}  // namespace

const std::vector<NativeLayout>& native_layouts() {
  // clang-format off
  static const std::vector<NativeLayout> layouts = {
      {"live", "LIVEIQA", {"dmos_realigned.mat", "refnames_all.mat", "dmos.mat"}, 779, 29, {-2.64, 111.77}, false, 0, read_live},
      {"csiq", "CSIQ", {"csiq_label.txt", "csiq.DMOS.xlsx"}, 866, 30, {0, 1}, false, 0, read_csiq},
      {"tid2013", "TID2013", {"mos_with_names.txt"}, 3000, 25, {0.24, 7.21}, true, 0, read_tid2013},
      {"kadid10k", "KADID10k", {"dmos.csv"}, 10125, 81, {1, 4.93}, true, 0, read_kadid10k},
      {"livec", "LIVEChallenge", {"Data/AllImages_release.mat"}, 1162, 0, {3.42, 92.43}, true, 1, read_livec},
      {"koniq10k", "KonIQ10k", {"koniq10k_scores_and_distributions.csv"}, 10073, 0, {3.91, 88.39}, true, 0, read_koniq10k},
      {"flive", "FLIVE", {"labels_image.csv"}, 39810, 0, {0, 94.33}, true, 0, read_flive},
      {"spaq", "SPAQ", {"Annotations/MOS and Image attribute scores.xlsx"}, 11125, 0, {2, 96}, true, 0, read_spaq},
  };
  // clang-format on
  return layouts;
}

std::string layout_hint(const std::string& path) {
  std::error_code error;
  const fs::path here(path), above = fs::absolute(here, error).lexically_normal().parent_path();
  if (auto hint = hint_for(here); !hint.empty()) return hint;
  for (const auto& folder : {above, above.parent_path()})
    if (auto hint = hint_for(folder); !hint.empty()) return hint;
  std::vector<fs::path> below;
  for (fs::directory_iterator entry(here, error), end; !error && entry != end; entry.increment(error))
    if (fs::is_directory(entry->path(), error) && below.size() < 1000) below.push_back(entry->path());
  std::sort(below.begin(), below.end());
  for (const auto& folder : below)
    if (auto hint = hint_for(folder); !hint.empty()) return hint;
  return "";
}

Dataset load_native(const NativeLayout& layout, const std::string& folder, const DatasetOptions& options) {
  std::error_code error;
  QFM_CHECK(options.root.empty() && options.fold.empty(), layout.name, ":", folder, ": ",
            options.root.empty() ? "--fold" : "--root", " is for tables of your own");
  QFM_CHECK(options.image_column.empty() && options.score_column.empty(), layout.name, ":", folder,
            ": --image-column and --score-column are for tables of your own");
  QFM_CHECK(fs::is_directory(folder, error), folder, ": ",
            fs::exists(folder, error) ? "not a folder" : "no such folder");
  const bool there = std::any_of(layout.tables.begin(), layout.tables.end(), [&](std::string_view table) {
    return fs::is_regular_file(fs::path(folder) / table, error);
  });
  std::vector<std::string> tables(layout.tables.begin(), layout.tables.end());
  QFM_CHECK(there, folder, ": no label file of ", layout.name, " (", joined(tables), ")", layout_hint(folder),
            pyiqa_hint(layout, folder));
  Dataset set = layout.read(folder, options);
  set.published = &layout;
  set.known_copies = layout.known_copies;
  if (!options.scale) set.range = layout.range, set.range_observed = false;
  return set;
}

}  // namespace qfm
