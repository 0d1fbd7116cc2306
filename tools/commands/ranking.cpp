#include "tools/commands/ranking.h"

#include "tools/cli/console.h"
#include "train/data/csv_field.h"

namespace qfm {
namespace {

std::string interval_text(const ScoredPhoto& photo) {
  return photo.interval ? format("  [%.2f, %.2f]", photo.interval->low, photo.interval->high) : "";
}

std::string csv_line(const RankedPhoto& r) {
  const ScoredPhoto& p = r.photo;
  const std::string ends = p.interval ? format("%.4f,%.4f", p.interval->low, p.interval->high) : ",";
  const std::string better = r.better ? format("%.4f", *r.better) : "";
  return format("%zu,%zu,", r.group, r.rank) + csv_field(p.path) +
         format(",%.4f,%s,%s,%s\n", p.score, ends.c_str(), better.c_str(), r.tie ? "true" : "false");
}

}  // namespace

std::string text_line(const RankedPhoto& r) {
  return format("%zu  %zu  %.2f%s  %s%s\n", r.group, r.rank, r.photo.score, interval_text(r.photo).c_str(),
                r.tie ? "~ " : "", r.photo.path.c_str());
}

Json as_json(const RankedPhoto& r) {
  const ScoredPhoto& p = r.photo;
  Json line{{"group", r.group}, {"rank", r.rank}, {"path", p.path}, {"score", rounded(p.score)}};
  if (p.interval) line["low"] = rounded(p.interval->low), line["high"] = rounded(p.interval->high);
  line["better"] = r.better ? Json(rounded(*r.better)) : Json(nullptr);
  line["tie"] = r.tie;
  return line;
}

std::string ranking_file(const std::string& extension, const Json& header,
                         const std::vector<RankedPhoto>& ranking) {
  if (extension == ".html") return ranking_page(header, ranking);
  if (extension == ".csv") {
    std::string text = csv_header(header) + "group,rank,path,score,low,high,better,tie\n";
    for (const RankedPhoto& r : ranking) text += csv_line(r);
    return text;
  }
  std::vector<Json> lines;
  for (const RankedPhoto& r : ranking) lines.push_back(as_json(r));
  return json_file(extension, header, lines);
}

}  // namespace qfm
