// The sets whose labels are one table: KADID-10k, KonIQ-10k, FLIVE, SPAQ, TID2013, CSIQ.
#include <array>
#include <filesystem>

#include "engine/base/error.h"
#include "train/data/label_table.h"
#include "train/data/native/native.h"
#include "train/data/sheet.h"

namespace qfm {
namespace {

namespace fs = std::filesystem;

std::string join(const std::string& folder, std::string_view name) {
  return (fs::path(folder) / name).string();
}

bool is_folder(const std::string& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

// The first of the image folders that is there.
ImageFolder image_folder(const std::string& root, const std::vector<std::string>& names) {
  for (const auto& name : names)
    if (is_folder(join(root, name))) return ImageFolder(root, name);
  QFM_FAIL(root, ": no folder ", joined(names), " with the images");
}

Dataset read_from(RowReader& rows, const TableFormat& format, const std::string& root,
                  const std::vector<std::string>& folders, const DatasetOptions& options) {
  std::vector<std::string> columns;
  QFM_CHECK(rows.next(columns), rows.path(), ": empty");
  const Header header(rows.path(), columns);
  header.need(format.image), header.need(format.score);  // a wrong table is reported before a missing folder
  ImageFolder images = image_folder(root, folders);
  return read_rows(
      rows, header, format, "in " + images.where(),
      [&](const std::string& image) { return images.find(image); }, options);
}

}  // namespace

// dmos is a MOS, and var holds standard deviations.
Dataset read_kadid10k(const std::string& folder, const DatasetOptions& options) {
  CsvReader rows(join(folder, "dmos.csv"));
  TableFormat format{{"dist_img"}, {"dmos"}, {"var"}, {"ref_img"}, {}};
  format.adapt = [](int64_t, LabelRow& text) {
    text.reference = lower_stem(text.reference);
    return true;
  };
  return read_from(rows, format, folder, {"images"}, options);
}

// It has two scores: MOS on 1..5 and MOS_zscore on 0..100, which the field uses.
Dataset read_koniq10k(const std::string& folder, const DatasetOptions& options) {
  CsvReader rows(join(folder, "koniq10k_scores_and_distributions.csv"));
  return read_from(rows, {{"image_name"}, {"MOS_zscore"}, {"SD"}, {}, {}}, folder, {"1024x768", "512x384"},
                   options);
}

Dataset read_flive(const std::string& folder, const DatasetOptions& options) {
  CsvReader rows(join(folder, "labels_image.csv"));
  return read_from(rows, {{"name"}, {"mos"}, {}, {}, {}}, folder, {"database", "FLIVE"}, options);
}

Dataset read_spaq(const std::string& folder, const DatasetOptions& options) {
  SheetReader rows(join(folder, "Annotations/MOS and Image attribute scores.xlsx"), "", "image name");
  return read_from(rows, {{"Image name"}, {"MOS"}, {}, {}, {}}, folder, {"TestImage"}, options);
}

// Scores come before names; their standard deviations are a file of their own, in the same order.
Dataset read_tid2013(const std::string& folder, const DatasetOptions& options) {
  WordReader rows(join(folder, "mos_with_names.txt"), {"mos", "name"});
  std::vector<std::string> deviations;
  const std::string deviations_path = join(folder, "mos_std.txt");
  if (std::error_code error; fs::exists(deviations_path, error)) {
    WordReader reader(deviations_path, {"std"});
    std::vector<std::string> fields;
    while (reader.next(fields)) deviations.push_back(fields.size() == 1 ? fields[0] : "two words");
    deviations.erase(deviations.begin());
  }
  TableFormat format{{"name"}, {"mos"}, {}, {}, {}};
  format.adapt = [&](int64_t row, LabelRow& text) {
    text.reference = lower(text.image.substr(0, text.image.find('_')));
    if (static_cast<size_t>(row) <= deviations.size()) text.std = deviations[static_cast<size_t>(row - 1)];
    return true;
  };
  Dataset set = read_from(rows, format, folder, {"distorted_images"}, options);
  QFM_CHECK(deviations.empty() || static_cast<size_t>(rows.row()) == deviations.size(), deviations_path, ": ",
            deviations.size(), " values, ", rows.path(), " has ", rows.row(), " rows");
  return set;
}

namespace {

// How the authors' workbook, their folders and their file names call one distortion.
struct CsiqDistortion {
  std::string_view type, folder, token;
};
constexpr std::array<CsiqDistortion, 6> csiq_distortions = {{{"noise", "awgn", "AWGN"},
                                                             {"blur", "blur", "BLUR"},
                                                             {"contrast", "contrast", "contrast"},
                                                             {"fnoise", "fnoise", "fnoise"},
                                                             {"jpeg", "jpeg", "JPEG"},
                                                             {"jpeg 2000", "jpeg2000", "jpeg2000"}}};

std::string csiq_image(const std::string& image, const std::string& type, const std::string& level) {
  for (const auto& d : csiq_distortions)
    if (d.type == type) return concat(d.folder, "/", image, ".", d.token, ".", level, ".png");
  QFM_FAIL("dst_type '", shown(type), "' is no distortion of CSIQ");
}

// "1600.AWGN.1.png" of the list lies in awgn/ of the authors' folders.
std::string csiq_folder_of(const std::string& name) {
  for (const auto& d : csiq_distortions)
    if (lower(name).find(concat(".", lower(std::string(d.token)), ".")) != std::string::npos)
      return concat(d.folder, "/", name);
  return name;
}

// HyperIQA's list: "name dmos"; its photos lie in one folder, or as the authors have them.
Dataset read_csiq_list(const std::string& folder, const DatasetOptions& options) {
  WordReader rows(join(folder, "csiq_label.txt"), {"name", "dmos"});
  TableFormat format{{"name"}, {"dmos"}, {}, {}, {}};
  const bool one_folder = is_folder(join(folder, "dst_imgs_all"));
  format.adapt = [one_folder](int64_t, LabelRow& text) {
    text.reference = lower(text.image.substr(0, text.image.find('.')));
    if (!one_folder) text.image = csiq_folder_of(text.image);
    return true;
  };
  return read_from(rows, format, folder, {"dst_imgs_all", "dst_imgs"}, options);
}

// The authors' workbook: image, type and level of the distortion, from which follows the file.
Dataset read_csiq_workbook(const std::string& folder, const DatasetOptions& options) {
  SheetReader rows(join(folder, "csiq.DMOS.xlsx"), "all_by_image", "dst_type");
  std::vector<std::string> fields;
  QFM_CHECK(rows.next(fields), rows.path(), ": empty");
  const Header header(rows.path(), fields);
  const size_t image = header.need({"image"}), type = header.need({"dst_type"}),
               level = header.need({"dst_lev"}), score = header.need({"dmos"}),
               std = header.find({"dmos_std"});
  ImageFolder images = image_folder(folder, {"dst_imgs"});
  SampleList list(
      rows.path(), "dmos", "in " + images.where(), [&](const std::string& name) { return images.find(name); },
      options);
  while (rows.next(fields)) {
    try {
      list.add(rows.row(), {csiq_image(fields[image], fields[type], fields[level]), fields[score],
                            std == Header::npos ? "" : fields[std], lower(fields[image]), ""});
    } catch (const Error& problem) {
      list.bad(rows.row(), fields[image], problem.what());
    }
  }
  return list.finish();
}

}  // namespace

Dataset read_csiq(const std::string& folder, const DatasetOptions& options) {
  std::error_code error;
  return fs::exists(join(folder, "csiq_label.txt"), error) ? read_csiq_list(folder, options)
                                                           : read_csiq_workbook(folder, options);
}

}  // namespace qfm
