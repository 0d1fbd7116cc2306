#include "train/optim/schedule.h"

#include <cmath>
#include <numbers>

#include "engine/base/error.h"

namespace qfm {

ScheduleKind schedule_named(std::string_view name) {
  if (name == "deiqt") return ScheduleKind::Deiqt;
  if (name == "cosine") return ScheduleKind::Cosine;
  if (name == "constant") return ScheduleKind::Constant;
  QFM_FAIL("schedule: '", name, "' is none of deiqt, cosine, constant");
}

double first_step_epochs(ScheduleKind kind, int64_t epochs) {
  return static_cast<double>(epochs) / (kind == ScheduleKind::Deiqt ? 3 : 1);
}

bool truncates(ScheduleKind kind, int64_t epochs, double warmup_epochs) {
  constexpr double typed = 0.01;
  return warmup_epochs > first_step_epochs(kind, epochs) + typed;
}

double Schedule::rate(int64_t update) const {
  const int64_t total = epochs * iterations;
  const int64_t warmup = std::llround(warmup_epochs * static_cast<double>(iterations));
  QFM_CHECK(update >= 0 && update < total, "schedule: update ", update, " of a run of ", total);
  if (update < warmup) {
    const double start = lr / 1000;
    return start + static_cast<double>(update) * (lr - start) / static_cast<double>(warmup);
  }
  switch (kind) {
    case ScheduleKind::Deiqt:
      return lr * std::pow(0.1, static_cast<double>(3 * update / total));
    case ScheduleKind::Cosine:
      return lr * 0.5 *
             (1 + std::cos(std::numbers::pi * static_cast<double>(update - warmup) /
                           static_cast<double>(total - warmup)));
    case ScheduleKind::Constant:
      return lr;
  }
  QFM_FAIL("schedule: unknown kind");
}

}  // namespace qfm
