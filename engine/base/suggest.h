// "did you mean": the known word nearest to a mistyped one, for flags, keys and columns.
#pragma once
#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace qfm {

// Levenshtein distance in bytes.
inline size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (a[i] != b[j]);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row[b.size()];
}

// "; did you mean 'epochs'?", or "" where nothing known is near (at most one edit for each three letters,
// rounded up).
template <class Words>
std::string did_you_mean(std::string_view word, const Words& known) {
  size_t least = (word.size() + 2) / 3 + 1;
  std::string_view best;
  if (word.size() <= 64) {
    for (const auto& candidate : known) {
      const bool begun = word.size() >= 3 && std::string_view(candidate).starts_with(word);
      const size_t distance = begun ? 0 : edit_distance(word, candidate);
      if (distance < least) least = distance, best = candidate;
    }
  }
  return best.empty() ? "" : "; did you mean '" + std::string(best) + "'?";
}

}  // namespace qfm
