// What `qfm score` gives back of a photo, as text, JSON and CSV.
#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/memory/device.h"
#include "models/preprocessing.h"
#include "train/metrics/metrics.h"

namespace qfm {

using Json = nlohmann::ordered_json;

struct ScoredPhoto {
  std::string path;
  std::string error;             // empty: the rest is set
  double quality = 0;            // 0-100, higher is better
  double score = 0, spread = 0;  // as printed
  std::optional<Interval> interval = {};  // as printed; without: the model is not calibrated
  double probability = 0;                 // of the interval
  double deviation = 0;                   // of the score's error on 0-100, as the model takes it to be; with an interval
  int64_t width = 0, height = 0, crops = 0;
  std::string preview_of = {};  // "NEF": of the JPEG preview in a camera raw file
};

// "63.10  [48.00, 77.20]  PATH\n", without interval "63.10  PATH\n"
std::string text_line(const ScoredPhoto& result);
// {"path": ..., "score": ...}\n or {"path": ..., "error": ...}\n
std::string json_line(const ScoredPhoto& result);
// "PATH,63.1000,48.0000,77.2000,0.9,2.4000,4000,3000,10,\n": path,score,low,high,interval,spread,width,height,crops,error, where
// the three of an interval are empty without one, and all but the path and the error are of a photo that has none.
std::string csv_line(const ScoredPhoto& result);
// One line; bytes that are not UTF-8 become U+FFFD, for JSON has no place for them.
std::string to_line(const Json& json);
// The content of a file with these results: .jsonl (a line each) or .json ({"header": ..., "results": [...]}).
std::string json_file(const std::string& extension, const Json& header, const std::vector<Json>& results);
// "# key: value" lines, to stand above the table.
std::string csv_header(const Json& header);
// Four decimals: more than a score deserves, and short to print.
double rounded(double value);

// The shorter side, as a number (0: none), or "HEIGHTxWIDTH".
Json as_json(const Resize& size);
// A figure that may be undefined: null then.
Json as_json(std::optional<double> figure);

// "kernels", which the bits of results depend on: the CPU's path (engine/base/cpu.h); of a GPU own or vendor's
// (kernels/vendor/kernel_policy.h).
void add_kernels(Json& header, Device device);

}  // namespace qfm
