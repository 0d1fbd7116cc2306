#include "kernels/image/patchify.h"

#include <algorithm>

#include "engine/base/threads.h"

namespace qfm {
namespace {

// Calls f(at in images, at in rows) for every run of `patch` pixels that both layouts keep together.
template <class F>
void for_runs(const PatchShape& s, F&& f) {
  const int64_t p = s.patch, down = s.height / p, across = s.width / p;
  parallel_for(s.batch * down, [&](int64_t job) {
    const int64_t image = job / down, ty = job % down;
    for (int64_t tx = 0; tx < across; ++tx)
      for (int64_t c = 0; c < s.channels; ++c)
        for (int64_t y = 0; y < p; ++y)
          f(((image * s.channels + c) * s.height + ty * p + y) * s.width + tx * p,
            (job * across + tx) * s.cols() + (c * p + y) * p);
  });
}

}  // namespace

template <class T>
void patchify(Cpu, PatchShape shape, T* rows, const T* images) {
  for_runs(shape, [=](int64_t image, int64_t row) { std::copy_n(images + image, shape.patch, rows + row); });
}

template <class T>
void unpatchify(Cpu, PatchShape shape, T* images, const T* rows) {
  for_runs(shape, [=](int64_t image, int64_t row) { std::copy_n(rows + row, shape.patch, images + image); });
}

#define QFM_INSTANTIATE(T)                               \
  template void patchify(Cpu, PatchShape, T*, const T*); \
  template void unpatchify(Cpu, PatchShape, T*, const T*);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
QFM_INSTANTIATE(double)
#undef QFM_INSTANTIATE

}  // namespace qfm
