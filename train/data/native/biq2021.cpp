#include <filesystem>

#include "engine/base/error.h"
#include "train/data/csv.h"
#include "train/data/label_table.h"
#include "train/data/native/native.h"

namespace qfm {

Dataset read_biq2021(const std::string& folder, const std::string& table, const DatasetOptions& options) {
  std::error_code error;
  QFM_CHECK(options.root.empty() && options.image_column.empty() && options.score_column.empty(), "biq2021:", folder,
            ": --root, --image-column and --score-column are for tables of your own");
  QFM_CHECK(!options.lower_is_better, "biq2021:", folder,
            ": scores of biq2021 are higher for better photos; --lower-is-better is wrong");
  QFM_CHECK(std::filesystem::is_directory(folder, error), folder, ": no such folder");
  DatasetOptions within = options;
  if (!within.scale) within.scale = Range{0, 1};
  CsvReader rows(table);
  std::vector<std::string> columns;
  QFM_CHECK(rows.next(columns), table, ": empty, expected a header with columns image and mos");
  const TableFormat format{{"image"}, {"mos"}, {}, {}, {}, {"subset"}, {"sha256"}};
  ImageFolder images(folder);
  Dataset set = read_rows(
      rows, Header(table, columns), format, "in " + folder, [&](const std::string& image) { return images.find(image); },
      within);
  set.known_twins = true;
  return set;
}

}  // namespace qfm
