// Which images may be matched, and which of two candidates is the better one: once for both devices.
#pragma once
#include "kernels/matching/matching.h"

namespace qfm {

// A NaN in either score makes no candidate.
QFM_HD inline bool is_candidate(const MatchKeys& queries, int64_t i, const MatchKeys& memory, int64_t j,
                                const MatchRule& rule) {
  const float distance = queries.score[i] - memory.score[j];
  const bool other_reference = queries.reference[i] < 0 || queries.reference[i] != memory.reference[j];
  return distance <= rule.tau_q && -distance <= rule.tau_q && other_reference &&
         queries.image[i] != memory.image[j];
}

struct Match {
  float cosine = 0;
  int32_t at = -1;  // in the memory; -1: none yet
  int64_t age = 0;
};

// A total order, so that the best does not depend on which is looked at first: smaller cosine, younger, further
// on. A NaN cosine is never better.
QFM_HD inline void take_better(Match& best, const Match& m) {
  if (m.at < 0 || m.cosine != m.cosine) return;
  const bool tie = m.cosine == best.cosine;
  if (best.at < 0 || m.cosine < best.cosine || (tie && m.age > best.age) ||
      (tie && m.age == best.age && m.at > best.at))
    best = m;
}

}  // namespace qfm
