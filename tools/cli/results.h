// What `qfm score` gives back, as text, JSON lines, JSON and CSV.
#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/io.h"
#include "engine/memory/device.h"
#include "models/preprocessing.h"
#include "train/metrics/metrics.h"

namespace qfm {

using Json = nlohmann::ordered_json;

struct ScoredPhoto {
  std::string path;
  std::string error;             // empty: the rest is set
  double quality = 0;            // 0-100, higher is better: what --sort goes by
  double score = 0, spread = 0;  // as printed
  std::optional<Interval> interval = {};  // as printed; without: the model is not calibrated
  double probability = 0;                 // of the interval
  double deviation = 0;                   // of the score's error on 0-100, as the model takes it to be; with an interval
  int64_t width = 0, height = 0, crops = 0;
};

// "63.10  [48.00, 77.20]  PATH\n", without interval "63.10  PATH\n"
std::string text_line(const ScoredPhoto& result);
// {"path": ..., "score": ...}\n or {"path": ..., "error": ...}\n
std::string json_line(const ScoredPhoto& result);
// One line; bytes that are not UTF-8 become U+FFFD, for JSON has no place for them.
std::string to_line(const Json& json);
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

// -o FILE of `score`: .jsonl (a line a photo), .json ({"header": ..., "results": [...]}) or .csv (the header
// as lines "# key: value", then path,score,low,high,interval,spread,width,height,crops,error; the three of an interval are empty where
// the model is not calibrated). Grows as FILE.part.
class ResultFile {
 public:
  ResultFile(const std::string& path, const std::string& extension, Json header);
  void add(const ScoredPhoto& result);
  void finish();
  // The same in another order.
  void finish(const std::vector<ScoredPhoto>& ordered);

 private:
  void begin();
  AtomicFile file_;
  const std::string extension_;
  const Json header_;
  bool first_ = true;
};

}  // namespace qfm
