// The learning rate of every update of a run.
#pragma once
#include <cstdint>
#include <string_view>

namespace qfm {

// deiqt     the published curve: lr for the first third of the run, lr / 10 for the second, lr / 100 for the last
//           (timm's step scheduler of that time decays every 3 epochs of 9, counted from the start of the
//           run; we take the third, so that a run of another length has the same shape.)
// cosine    from lr down to 0 at the end of the run, along half a cosine.
// constant  lr.
// In the first warmup_epochs each rises instead linearly from lr / 1000 (published: 2e-7 for 2e-4) to lr. The
// published warm-up, 3 of 9 epochs, is as long as the curve's first step.
enum class ScheduleKind { Deiqt, Cosine, Constant };
// Throws Error for another name.
ScheduleKind schedule_named(std::string_view name);

// Epochs for which a curve holds its highest rate: a third of the run (deiqt), all of it (constant; cosine,
// which falls from wherever the warm-up ends).
double first_step_epochs(ScheduleKind kind, int64_t epochs);
// Whether a warm-up cuts the first step short, so that the run learns at lower rates than its curve's: it
// is longer, by more than a hundredth of an epoch (1.67 is a third of 5).
bool truncates(ScheduleKind kind, int64_t epochs, double warmup_epochs);

struct Schedule {
  ScheduleKind kind = ScheduleKind::Deiqt;
  double lr = 2e-4;
  int64_t epochs = 9;
  int64_t iterations = 1;    // updates an epoch
  double warmup_epochs = 3;  // rounded to whole updates
  // The rate used by update i, 0 <= i < epochs * iterations. Throws Error outside.
  double rate(int64_t update) const;
};

}  // namespace qfm
