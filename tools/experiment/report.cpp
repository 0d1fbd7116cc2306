#include "tools/experiment/report.h"

#include <algorithm>

#include "engine/base/error.h"
#include "tools/cli/charts.h"
#include "tools/cli/console.h"
#include "tools/experiment/tables.h"
#include "train/metrics/metrics.h"

namespace qfm {
namespace {

std::optional<double> number_of(const Json& line, const char* key) {
  const Json& value = line.at(key);
  return value.is_null() ? std::nullopt : std::optional(value.get<double>());
}

// Figures of the protocol that looks at the tested photos say so wherever they stand.
std::string protocol_label(const Experiment& e) { return e.protocol == "paper" ? ", protocol paper" : ""; }

std::string title_of(const Experiment& e, const Table& t) {
  std::string title = t.data->name;
  if (e.label_shares.size() > 1 || t.share < 1)
    title += format(", %g%% of the training labels", 100 * t.share);
  return title + protocol_label(e);
}

std::string split_title(const Experiment& e, const ExperimentData& data) {
  return data.name + ": SRCC of each seed (difference to " + e.baseline + ")" + protocol_label(e);
}

std::string heading(const Experiment& e, size_t finished) {
  std::string text = format("%zu of %zu runs. Protocol %s", finished, runs_of(e).size(), e.protocol.c_str());
  text += e.protocol == "paper" ? " (the best epoch is chosen on the part that it is measured on)"
                                : " (the last epoch)";
  text += "; crops " + e.crops +
          ". Figures are medians over seeds (least to greatest), all variants on the same splits and seeds.";
  if (std::any_of(e.variants.begin(), e.variants.end(), [](auto& v) { return v.truncated_schedule; }))
    text +=
        " Truncated: the warm-up was longer than the first step of the learning rate's curve, so the run "
        "learnt at "
        "lower rates than the curve's.";
  return text;
}

std::vector<std::string> origins(const std::vector<RunResult>& results) {
  std::vector<std::string> seen;
  for (const auto& r : results)
    if (const std::string o = r.version + " " + r.commit;
        std::find(seen.begin(), seen.end(), o) == seen.end())
      seen.push_back(o);
  return seen;
}

// The run of the middle SRCC.
const RunResult* typical(std::vector<const RunResult*> runs) {
  std::erase_if(runs, [](const RunResult* r) { return !r->srcc; });
  if (runs.empty()) return nullptr;
  std::sort(runs.begin(), runs.end(), [](auto* a, auto* b) { return *a->srcc < *b->srcc; });
  return runs[runs.size() / 2];
}

std::string charts(const Experiment& e, const std::vector<RunResult>& results, const Table& t) {
  std::vector<Series> srccs, losses;
  std::string plots;
  for (const auto& v : e.variants) {
    const auto runs = runs_in(e, results, t, v.name);
    srccs.push_back({v.name, values_of(runs, &RunResult::srcc)});
    if (const size_t none = runs.size() - srccs.back().values.size())
      srccs.back().name += format(" (%zu undefined)", none);
    const RunResult* r = typical(runs);
    if (!r) continue;
    losses.push_back({v.name, r->losses});
    if (r->labels.empty()) continue;
    std::vector<ChartPoint> points;
    for (size_t i = 0; i < r->scores.size(); ++i) points.push_back({r->scores[i], r->labels[i]});
    const auto fit = points.size() >= 2 ? fit_logistic(r->scores, r->labels) : std::nullopt;
    plots += "<figure><figcaption>" + escaped(v.name) +
             format(", seed %lld", static_cast<long long>(r->seed)) + "</figcaption>" +
             scatter_chart(points, fit ? std::function<double(double)>(*fit) : nullptr) + "</figure>\n";
  }
  if (losses.empty()) return "";
  return "<h3>SRCC of each run</h3>\n" + strip_chart(srccs, "SRCC") +
         "<h3>Loss of the run with the middle SRCC</h3>\n" + line_chart(losses, "epoch", "mean loss") +
         (plots.empty() ? "" : "<h3>Predictions of that run, with the fitted logistic curve</h3>\n" + plots);
}

std::string markdown_table(const Rows& rows) {
  std::string text;
  for (size_t i = 0; i < rows.size(); ++i) {
    for (const auto& cell : rows[i]) text += "| " + cell + " ";
    text += "|\n";
    if (i > 0) continue;
    for (size_t c = 0; c < rows[0].size(); ++c) text += "|---";
    text += "|\n";
  }
  return text;
}

std::string html_table(const Rows& rows) {
  std::string text = "<table class=\"figures\">\n";
  for (size_t i = 0; i < rows.size(); ++i) {
    const char* cell = i == 0 ? "th" : "td";
    text += "<tr>";
    for (const auto& words : rows[i]) text += format("<%s>", cell) + escaped(words) + format("</%s>", cell);
    text += "</tr>\n";
  }
  return text + "</table>\n";
}

}  // namespace

Json RunResult::json() const {
  Json s = Json::array();
  for (double v : scores) s.push_back(rounded(v));
  Json line{{"id", id},
            {"key", key},
            {"inputs", inputs},
            {"data", data},
            {"variant", variant},
            {"label_share", label_share},
            {"seed", seed},
            {"split_sha256", split},
            {"protocol", protocol},
            {"crops", crops},
            {"version", version},
            {"commit", commit},
            {"srcc", as_json(srcc)},
            {"plcc", as_json(plcc)},
            {"plcc_mapped", as_json(plcc_mapped)},
            {"krcc", as_json(krcc)},
            {"rmse_mapped", as_json(rmse_mapped)},
            {"seconds", rounded(seconds)},
            {"losses", losses},
            {"scores", s}};
  if (truncated_schedule) line["schedule"] = "truncated";
  return line;
}

RunResult RunResult::from(const Json& line) {
  try {
    RunResult r;
    r.id = line.at("id"), r.key = line.at("key"), r.data = line.at("data"), r.variant = line.at("variant");
    r.split = line.at("split_sha256"), r.version = line.at("version"), r.commit = line.at("commit");
    r.inputs = line.value("inputs", ""), r.protocol = line.value("protocol", ""),
    r.crops = line.value("crops", ""), r.truncated_schedule = line.value("schedule", "") == "truncated";
    r.label_share = line.at("label_share"), r.seed = line.at("seed"), r.seconds = line.at("seconds");
    r.srcc = number_of(line, "srcc"), r.plcc = number_of(line, "plcc"), r.krcc = number_of(line, "krcc");
    r.plcc_mapped = number_of(line, "plcc_mapped"), r.rmse_mapped = number_of(line, "rmse_mapped");
    r.losses = line.at("losses").get<std::vector<double>>();
    r.scores = line.at("scores").get<std::vector<double>>();
    return r;
  } catch (const Json::exception& e) {
    QFM_FAIL("not a result: ", e.what());
  }
}

std::string experiment_markdown(const Experiment& e, const std::vector<RunResult>& results) {
  std::string text = "# " + e.name + "\n\n" + heading(e, results.size()) + "\n";
  for (const auto& origin : origins(results)) text += "Made by qfm " + origin + ".\n";
  for (const auto& data : e.data) {
    for (double share : e.label_shares) {
      const Table t{&data, share};
      text += "\n## " + title_of(e, t) + "\n\n" + markdown_table(variant_rows(e, results, t)) + "\n";
      for (const auto& line : remarks(e, results, t)) text += "- " + line + "\n";
    }
    if (const auto rows = split_rows(e, results, data); rows.size() > 1)
      text += "\n### " + split_title(e, data) + "\n\n" + markdown_table(rows);
  }
  return text;
}

std::string experiment_html(const Experiment& e, const std::vector<RunResult>& results) {
  std::string page = "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>" +
                     escaped(e.name) + "</title>\n" + page_style() + "</head><body>\n<h1>" + escaped(e.name) +
                     "</h1>\n<p>" + escaped(heading(e, results.size())) + "</p>\n";
  for (const auto& origin : origins(results)) page += "<p>Made by qfm " + escaped(origin) + ".</p>\n";
  for (const auto& data : e.data) {
    for (double share : e.label_shares) {
      const Table t{&data, share};
      page +=
          "<h2>" + escaped(title_of(e, t)) + "</h2>\n" + html_table(variant_rows(e, results, t)) + "<ul>\n";
      for (const auto& line : remarks(e, results, t)) page += "<li>" + escaped(line) + "</li>\n";
      page += "</ul>\n" + charts(e, results, t);
    }
    if (const auto rows = split_rows(e, results, data); rows.size() > 1)
      page += "<h3>" + escaped(split_title(e, data)) + "</h3>\n" + html_table(rows);
  }
  return page + "</body></html>\n";
}

}  // namespace qfm
