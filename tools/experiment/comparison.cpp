#include "tools/experiment/comparison.h"

#include <algorithm>
#include <cmath>

#include "tools/cli/console.h"
#include "train/metrics/metrics.h"
#include "train/metrics/paired_tests.h"

namespace qfm {
namespace {

constexpr size_t kPairsForP = 6;  // fewer cannot reach p < 0.05 whatever their signs
constexpr double kSignificant = 0.05;

// Pairs of one seed where both have an SRCC.
struct Pairs {
  std::vector<double> differences;
  PairedRuns runs;
  size_t undefined = 0;  // left out: the SRCC of one of the two or of both is undefined
};

Pairs pairs_of(const TableRuns& table, const std::string& variant) {
  Pairs pairs;
  for (const RunResult* r : table.of(variant)) {
    const RunResult* b = table.find(table.experiment.baseline, r->seed);
    if (!b || r->split != b->split) continue;
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

const char* plural(size_t n) { return n == 1 ? "" : "s"; }

// "Exploratory", or the test's verdict; begins with what ends the sentence before.
std::string verdict(const std::vector<double>& differences) {
  if (differences.size() < kPairsForP) return ". Exploratory: too few pairs for a p-value.";
  const auto test = wilcoxon(differences);
  if (!test) return ". All pairs are equal.";
  const char* word = test->p >= kSignificant   ? "no difference shown"
                     : median(differences) > 0 ? "better"
                                               : "worse";
  return format("; Wilcoxon signed ranks, two-sided, p = %.4f: %s.", test->p, word);
}

}  // namespace

const RunResult* TableRuns::find(const std::string& variant, int64_t seed) const {
  const auto found = std::find_if(results.begin(), results.end(), [&](const RunResult& r) {
    return r.data == data.name && r.label_share == share && r.variant == variant && r.seed == seed;
  });
  return found == results.end() ? nullptr : &*found;
}

std::vector<const RunResult*> TableRuns::of(const std::string& variant) const {
  std::vector<const RunResult*> runs;
  for (int64_t seed : experiment.seeds)
    if (const auto* r = find(variant, seed)) runs.push_back(r);
  return runs;
}

std::vector<double> values_of(const std::vector<const RunResult*>& runs, Figure figure) {
  std::vector<double> values;
  for (const auto* r : runs)
    if (r->*figure) values.push_back(*(r->*figure));
  return values;
}

std::string difference_text(double value) { return format("%+.4f", std::round(value * 1e4) / 1e4 + 0.0); }

std::string comparison(const TableRuns& table, const std::string& variant) {
  const Pairs pairs = pairs_of(table, variant);
  const auto& d = pairs.differences;
  const std::string who = variant + " against " + table.experiment.baseline + ": ";
  std::string left_out;
  if (pairs.undefined)
    left_out = format("%zu pair%s left out, the SRCC undefined", pairs.undefined, plural(pairs.undefined));
  if (d.empty()) return who + (left_out.empty() ? "no pair of runs yet" : left_out) + ".";
  const auto [least, most] = std::minmax_element(d.begin(), d.end());
  std::string text = who + "SRCC " + difference_text(median(d)) +
                     format(" (median of %zu paired run%s, from ", d.size(), plural(d.size())) +
                     difference_text(*least) + " to " + difference_text(*most) + ")";
  if (!left_out.empty()) text += "; " + left_out;
  if (pairs.runs.a.empty()) text += "; the photos' labels are not at hand";
  else if (const auto between = paired_bootstrap(pairs.runs, srcc, 0))
    text += "; drawing the photos anew, 95% of the medians lie from " + difference_text(between->low) +
            " to " + difference_text(between->high);
  return text + verdict(d);
}

}  // namespace qfm
