// The order of scored photos within their groups, as text, JSON, CSV and a page.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tools/cli/results.h"

namespace qfm {

struct RankedPhoto {
  size_t group = 0, rank = 0;  // from 1
  ScoredPhoto photo;
  std::optional<double> better =
      {};            // the probability of being better than the next of the group; absent for the last,
                     // and without calibration
  bool tie = false;  // too close to call with the one above
  std::vector<uint8_t> thumbnail = {};  // JPEG, for the page alone
};

// "GROUP  RANK  SCORE  [LOW, HIGH]  PATH\n", "~ " before a tied PATH
std::string text_line(const RankedPhoto& ranked);
Json as_json(const RankedPhoto& ranked);

// The content of a file of this extension: .json, .jsonl, .csv or .html.
std::string ranking_file(const std::string& extension, const Json& header,
                         const std::vector<RankedPhoto>& ranking);
// A page that needs no other file: thumbnails in their groups, arrows and space to mark photos, the list of the marked
// to save.
std::string ranking_page(const Json& header, const std::vector<RankedPhoto>& ranking);

}  // namespace qfm
