// The factors of one AdamW step, the same for every parameter; see adamw.h.
#pragma once

namespace qfm {

template <class A>
struct AdamWScalars {
  A keep;  // 1 - lr wd
  A clip;
  A rate1;         // 1 - b1
  A beta2, rate2;  // rate2 = 1 - b2
  A step;          // lr / (1 - b1^t)
  A root;          // sqrt(1 - b2^t)
  A eps;
};

}  // namespace qfm
