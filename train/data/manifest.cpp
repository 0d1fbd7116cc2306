#include "train/data/manifest.h"

#include <filesystem>

#include "engine/base/error.h"
#include "train/data/csv_field.h"
#include "train/data/label_table.h"
#include "train/data/native/native.h"

namespace qfm {
namespace {

namespace fs = std::filesystem;

// Where the image of a manifest is (the order is in the header).
FoundImage find_image(const std::string& name, const fs::path& folder, const std::string& root) {
  const auto below = [&](const fs::path& place) {
    const std::string written = name_on_disk(place, name);
    return written.empty() ? "" : (place / written).string();
  };
  if (!root.empty()) return {name, below(root)};
  const std::string beside = below(folder);
  return {name, beside.empty() ? below(folder / "images") : beside};
}

// X of meta_info_XDataset.csv; nullopt for other names.
std::optional<std::string> pyiqa_set(const fs::path& path) {
  const std::string name = path.filename().string(), begin = "meta_info_", end = "Dataset.csv";
  if (!name.starts_with(begin) || !name.ends_with(".csv")) return std::nullopt;
  const bool usual = name.size() > begin.size() + end.size() && name.ends_with(end);
  return usual ? name.substr(begin.size(), name.size() - begin.size() - end.size()) : "";
}

const NativeLayout* layout_of_pyiqa(const std::string& set) {
  for (const auto& layout : native_layouts())
    if (layout.pyiqa == set) return &layout;
  return nullptr;
}

std::string split_name(const std::string& text) {
  if (text == "0") return "train";
  if (text == "1") return "val";
  return text == "2" ? "test" : text;
}

void choose_columns(TableFormat& format, const DatasetOptions& options) {
  if (!options.image_column.empty()) format.image = {options.image_column};
  if (!options.score_column.empty()) format.score = {options.score_column};
}

Dataset load_plain(CsvReader& csv, const Header& header, const DatasetOptions& options) {
  TableFormat format{
      header.first_of({"image", "path", "file", "filename", "name", "image_name"}), {"score", "mos", "dmos"}, {"std"},
      {"reference"}, {"split"}, {"subset"}};
  choose_columns(format, options);
  const fs::path folder = fs::path(csv.path()).parent_path();
  const auto find = [&](const std::string& image) { return find_image(image, folder, options.root); };
  return read_rows(csv, header, format,
                   options.root.empty() ? "beside the table or in images/ there" : "in " + options.root, find,
                   options);
}

Dataset load_pyiqa(CsvReader& csv, const Header& header, const std::string& set_name,
                   const DatasetOptions& options) {
  const NativeLayout* published = layout_of_pyiqa(set_name);
  const bool live_challenge = published && published->name == "livec";
  TableFormat format{
      {"dist_name", "img_name", "image name", "name"}, {"mos", "dmos"}, {"std"}, {"ref_name"}, {"split"}};
  format.adapt = [&](int64_t row, LabelRow& text) {
    text.reference = lower_stem(text.reference);
    text.split = split_name(text.split);
    return !(live_challenge && is_livec_training_image(row, text.image));
  };
  choose_columns(format, options);
  ImageFolder images(options.root.empty() ? fs::path(csv.path()).parent_path().string() : options.root);
  Dataset set = read_rows(
      csv, header, format, "in " + images.where(),
      [&](const std::string& image) { return images.find(image); }, options);
  // Its table of LIVE has the scores before realignment, on a range of their own.
  if (published && published->name != "live" && !options.scale)
    set.range = published->range, set.range_observed = false;
  set.published = published;
  set.higher_is_better = set_name != "LIVEMD";  // of the eight: load_dataset knows
  return set;
}

}  // namespace

Dataset load_manifest(const std::string& path, const DatasetOptions& options) {
  CsvReader csv(path);
  std::vector<std::string> columns;
  QFM_CHECK(csv.next(columns), path, ": empty, expected a header with columns image and score");
  const Header header(path, columns);
  const auto set_name = pyiqa_set(path);
  if (set_name || header.find({"dist_name"}) != Header::npos || header.find({"img_name"}) != Header::npos)
    return load_pyiqa(csv, header, set_name.value_or(""), options);
  return load_plain(csv, header, options);
}

std::string manifest_text(const Dataset& set, ImagesBy images) {
  std::string text = "image,score,std,reference,split\n";
  for (const Sample& s : set.samples) {
    const std::string image = images == ImagesBy::Name ? s.name : fs::absolute(s.path).string();
    text += csv_field(image) + "," + number_text(s.score) + "," + (s.std ? number_text(*s.std) : "") + "," +
            csv_field(s.reference) + "," + csv_field(s.split) + "\n";
  }
  return text;
}

}  // namespace qfm
