#include "tools/cli/results.h"

#include <cmath>

#include "engine/base/cpu.h"
#include "kernels/vendor/kernel_policy.h"
#include "tools/cli/console.h"
#include "train/data/csv_field.h"

namespace qfm {

double rounded(double value) { return std::round(value * 1e4) / 1e4; }

Json as_json(const Resize& size) { return size.fixed() ? Json(name_of(size)) : Json(size.side); }
Json as_json(std::optional<double> figure) { return figure ? Json(*figure) : Json(nullptr); }

void add_kernels(Json& header, Device device) {
  header["kernels"] = device == cpu_device ? name_of(cpu()) : policy_text();
}

std::string to_line(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string json_file(const std::string& extension, const Json& header, const std::vector<Json>& results) {
  const bool lines = extension == ".jsonl";
  std::string text;
  for (const Json& result : results) {
    std::string line = to_line(result);
    if (!lines) line.pop_back();
    text += (lines ? "" : text.empty() ? "\n  " : ",\n  ") + line;
  }
  if (lines) return text;
  std::string head = to_line(header);
  head.pop_back();
  return "{\"header\": " + head + ",\n \"results\": [" + text + "\n ]}\n";
}

std::string csv_header(const Json& header) {
  std::string text;
  for (const auto& [key, value] : header.items())
    text +=
        "# " + key + ": " + (value.is_string() ? one_line(value.get<std::string>()) + "\n" : to_line(value));
  return text;
}

std::string text_line(const ScoredPhoto& r) {
  if (!r.interval) return format("%.2f  %s\n", r.score, r.path.c_str());
  return format("%.2f  [%.2f, %.2f]  %s\n", r.score, r.interval->low, r.interval->high, r.path.c_str());
}

std::string csv_line(const ScoredPhoto& r) {
  if (!r.error.empty()) return csv_field(r.path) + ",,,,,,,,," + csv_field(r.error) + "\n";
  const std::string interval = r.interval ? format("%.4f,%.4f,%g", r.interval->low, r.interval->high, r.probability) : ",,";
  return csv_field(r.path) + format(",%.4f,%s,%.4f,%lld,%lld,%lld,\n", r.score, interval.c_str(), r.spread,
                                    static_cast<long long>(r.width), static_cast<long long>(r.height),
                                    static_cast<long long>(r.crops));
}

std::string json_line(const ScoredPhoto& r) {
  if (!r.error.empty()) return to_line({{"path", r.path}, {"error", r.error}});
  Json line{{"path", r.path}, {"score", rounded(r.score)}};
  if (r.interval) line["low"] = rounded(r.interval->low), line["high"] = rounded(r.interval->high), line["interval"] = r.probability;
  line["spread"] = rounded(r.spread);
  line["width"] = r.width, line["height"] = r.height, line["crops"] = r.crops;
  if (!r.preview_of.empty()) line["preview"] = r.preview_of;
  return to_line(line);
}

}  // namespace qfm
