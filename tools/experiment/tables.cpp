#include "tools/experiment/tables.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "engine/base/error.h"
#include "tools/cli/console.h"
#include "train/metrics/metrics.h"
#include "train/metrics/paired_tests.h"

namespace qfm {
namespace {

constexpr int64_t kPairsForP = 6;  // fewer cannot reach p < 0.05 whatever their signs
constexpr double kSignificant = 0.05;

// "+0.0205", to four decimals; never "-0.0000".
std::string difference_text(double value) { return format("%+.4f", std::round(value * 1e4) / 1e4 + 0.0); }

std::string label_of(const ExperimentVariant& v) {
  return v.name + (v.truncated_schedule ? " (truncated)" : "");
}

std::string figure_text(const std::vector<double>& values, const char* shape) {
  if (values.empty()) return "-";
  std::string text = format(shape, median(values));
  if (values.size() < 2) return text;
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  return text + " (" + format(shape, *least) + " to " + format(shape, *most) + ")";
}

// Says how many of the runs have no such figure.
std::string figure_text(const std::vector<const RunResult*>& runs, Figure figure, const char* shape) {
  const auto values = values_of(runs, figure);
  if (values.size() == runs.size()) return figure_text(values, shape);
  if (values.empty()) return "undefined";
  return figure_text(values, shape) +
         format(", %zu of %zu undefined", runs.size() - values.size(), runs.size());
}

std::string published_text(const ExperimentData& data, const std::string& variant) {
  for (const auto& p : data.published) {
    if (p.variant != variant) continue;
    const auto part = [](std::optional<double> v) { return v ? format("%.3f", *v) : std::string("-"); };
    return part(p.srcc) + " / " + part(p.plcc);
  }
  return "";
}

// Pairs of one seed where both have an SRCC.
struct Pairs {
  std::vector<double> differences;
  PairedRuns runs;
  size_t undefined = 0;  // left out: the SRCC of one of the two or of both is undefined
};
Pairs pairs_of(const std::vector<const RunResult*>& runs, const std::vector<const RunResult*>& baseline) {
  Pairs pairs;
  for (const auto* r : runs)
    for (const auto* b : baseline) {
      if (r->seed != b->seed || r->split != b->split) continue;
      if (!r->srcc || !b->srcc) {
        ++pairs.undefined;
        continue;
      }
      pairs.differences.push_back(*r->srcc - *b->srcc);
      if (r->labels.empty() || b->labels.empty()) continue;
      pairs.runs.a.push_back(r->scores), pairs.runs.b.push_back(b->scores),
          pairs.runs.labels.push_back(r->labels);
    }
  return pairs;
}

std::string comparison(const std::string& variant, const std::string& baseline, const Pairs& pairs) {
  const auto n = static_cast<int64_t>(pairs.differences.size());
  const std::string left_out = pairs.undefined ? format("%zu pair%s left out, the SRCC undefined",
                                                        pairs.undefined, pairs.undefined == 1 ? "" : "s")
                                               : "";
  if (n == 0)
    return variant + " against " + baseline + ": " + (left_out.empty() ? "no pair of runs yet" : left_out) +
           ".";
  std::string text =
      variant + " against " + baseline + ": SRCC " + difference_text(median(pairs.differences)) +
      format(" (median of %lld paired run%s, from ", static_cast<long long>(n), n == 1 ? "" : "s") +
      difference_text(*std::min_element(pairs.differences.begin(), pairs.differences.end())) + " to " +
      difference_text(*std::max_element(pairs.differences.begin(), pairs.differences.end())) + ")";
  if (!left_out.empty()) text += "; " + left_out;
  if (pairs.runs.a.empty()) text += "; the photos' labels are not at hand";
  else if (const auto between = paired_bootstrap(pairs.runs, srcc, 0))
    text += "; drawing the photos anew, 95% of the medians lie from " + difference_text(between->low) +
            " to " + difference_text(between->high);
  if (n < kPairsForP) return text + ". Exploratory: too few pairs for a p-value.";
  const auto test = wilcoxon(pairs.differences);
  if (!test) return text + ". All pairs are equal.";
  text += format("; Wilcoxon signed ranks, two-sided, p = %.4f", test->p);
  if (test->p >= kSignificant) return text + ": no difference shown.";
  return text + (median(pairs.differences) > 0 ? ": better." : ": worse.");
}

constexpr const char* kColumns[] = {"variant",     "runs", "SRCC",        "PLCC",
                                    "PLCC mapped", "KRCC", "RMSE mapped", "minutes a run"};

// "0.7280 (+0.0205)": the SRCC of `r` and its difference to the baseline's on the same split.
std::string split_cell(const RunResult* r, const RunResult* baseline) {
  if (!r) return "-";
  if (!r->srcc) return "undefined";
  const std::string text = format("%.4f", *r->srcc);
  if (!baseline || r == baseline || !baseline->srcc || r->split != baseline->split) return text;
  return text + " (" + difference_text(*r->srcc - *baseline->srcc) + ")";
}

const RunResult* run_of(const std::vector<RunResult>& results, const Table& t, const std::string& variant,
                        int64_t seed) {
  for (const auto& r : results)
    if (r.data == t.data->name && r.label_share == t.share && r.variant == variant && r.seed == seed)
      return &r;
  return nullptr;
}

// Every split once, with the seeds that drew it: "seeds 0, 3".
std::vector<std::pair<std::string, std::string>> splits_of(const Experiment& e,
                                                           const std::vector<RunResult>& results,
                                                           const Table& t) {
  std::vector<std::pair<std::string, std::string>> splits;
  for (int64_t seed : e.seeds) {
    std::set<std::string> seen;
    for (const auto& v : e.variants)
      if (const auto* r = run_of(results, t, v.name, seed)) seen.insert(r->split);
    for (const auto& hash : seen) {
      const auto at = std::find_if(splits.begin(), splits.end(), [&](auto& s) { return s.first == hash; });
      if (at == splits.end()) splits.emplace_back(hash, concat("seed ", seed));
      else at->second += concat(", ", seed);
    }
  }
  return splits;
}

}  // namespace

std::vector<const RunResult*> runs_in(const Experiment& e, const std::vector<RunResult>& results,
                                      const Table& t, const std::string& variant) {
  std::vector<const RunResult*> found;
  for (int64_t seed : e.seeds)
    if (const auto* r = run_of(results, t, variant, seed)) found.push_back(r);
  return found;
}

std::vector<double> values_of(const std::vector<const RunResult*>& runs, Figure figure) {
  std::vector<double> values;
  for (const auto* r : runs)
    if (r->*figure) values.push_back(*(r->*figure));
  return values;
}

Rows variant_rows(const Experiment& e, const std::vector<RunResult>& results, const Table& t) {
  Rows rows{{std::begin(kColumns), std::end(kColumns)}};
  const bool published = !t.data->published.empty();
  if (published) rows[0].push_back("published SRCC / PLCC");
  for (const auto& v : e.variants) {
    const auto runs = runs_in(e, results, t, v.name);
    std::vector<double> minutes;
    for (const auto* r : runs) minutes.push_back(r->seconds / 60);
    rows.push_back({label_of(v), format("%zu of %zu", runs.size(), e.seeds.size()),
                    figure_text(runs, &RunResult::srcc, "%.4f"), figure_text(runs, &RunResult::plcc, "%.4f"),
                    figure_text(runs, &RunResult::plcc_mapped, "%.4f"),
                    figure_text(runs, &RunResult::krcc, "%.4f"),
                    figure_text(runs, &RunResult::rmse_mapped, "%.2f"), figure_text(minutes, "%.1f")});
    if (published) rows.back().push_back(published_text(*t.data, v.name));
  }
  return rows;
}

std::vector<std::string> remarks(const Experiment& e, const std::vector<RunResult>& results, const Table& t) {
  std::vector<std::string> lines;
  const auto baseline = runs_in(e, results, t, e.baseline);
  for (const auto& v : e.variants)
    if (v.name != e.baseline)
      lines.push_back(comparison(v.name, e.baseline, pairs_of(runs_in(e, results, t, v.name), baseline)));
  const auto splits = splits_of(e, results, t);
  for (const auto& [hash, seeds] : splits)
    lines.push_back("Split (SHA-256) " + hash + ": " + (splits.size() == 1 ? "all runs" : seeds) + ".");
  return lines;
}

Rows split_rows(const Experiment& e, const std::vector<RunResult>& results, const ExperimentData& data) {
  Rows rows{{"seed", "labels"}};
  for (const auto& v : e.variants) rows[0].push_back(label_of(v));
  for (int64_t seed : e.seeds)
    for (double share : e.label_shares) {
      const Table t{&data, share};
      std::vector<std::string> row{std::to_string(seed), format("%g%%", 100 * share)};
      const RunResult* baseline = run_of(results, t, e.baseline, seed);
      bool any = false;
      for (const auto& v : e.variants) {
        const RunResult* r = run_of(results, t, v.name, seed);
        any |= r != nullptr;
        row.push_back(split_cell(r, baseline));
      }
      if (any) rows.push_back(row);
    }
  return rows;
}

}  // namespace qfm
