#include "tools/bench/cold_buffers.h"

#include <algorithm>
#include <cmath>

#include "engine/base/rng.h"

namespace qfm {
namespace {

// The same few thousand numbers again and again: drawing all of them would take longer than the measurement.
constexpr int64_t kPeriod = 65521;
const Tensor& normal_numbers() {
  static const Tensor all = [] {
    const Tensor some({kPeriod});
    Rng rng(0, "bench kernels");
    for (float& v : some.span<float>()) v = rng.normal();
    return some;
  }();
  return all;
}

void fill(const Tensor& t) {
  if (t.numel() == 0) return;
  if (!is_floating(t.dtype())) return t.fill_zero();
  const int64_t period = std::min(t.numel(), kPeriod);
  const Tensor tile = normal_numbers().rows(0, period).to(t.dtype()), flat = t.reshape({t.numel()});
  for (int64_t at = 0; at < t.numel(); at += period) {
    const int64_t count = std::min(period, t.numel() - at);
    flat.rows(at, at + count).copy_from(tile.rows(0, count));
  }
}

}  // namespace

BufferTurns::BufferTurns(Shape shape, DType dtype, Device device, size_t copies) {
  for (size_t i = 0; i < copies; ++i) {
    copies_.push_back(Tensor(shape, dtype, device));
    fill(copies_.back());
  }
}

ColdBuffers::ColdBuffers(Placement where, double bytes, int64_t cold_bytes)
    : where(where),
      copies(static_cast<size_t>(
          std::clamp(std::ceil(static_cast<double>(cold_bytes) / bytes), 1.0, double{kMostCopies}))) {}

}  // namespace qfm
