#include "kernels/pointwise/map.h"

#include "kernels/common/parallel_loops.h"

QFM_DECLARE_ISA(template <class F, class T, class Inputs>
                void map_row(F f, int64_t n, T* y, Inputs x, const int64_t* step);
                template <class To, class From> void cast(To* dst, const From* src, int64_t n);)

namespace qfm {
namespace plain {
namespace {

template <class F, class T, class Inputs>
void map_row(F f, int64_t n, T* y, Inputs x, const int64_t* step) {
  for (int64_t i = 0; i < n; ++i)
    if constexpr (Inputs::count == 1) y[i] = to<T>(f(to<double>(x.at[0][i * step[0]])));
    else y[i] = to<T>(f(to<double>(x.at[0][i * step[0]]), to<double>(x.at[1][i * step[1]])));
}

template <class To, class From>
void cast(To* dst, const From* src, int64_t n) {
  for (int64_t i = 0; i < n; ++i) dst[i] = to<To>(src[i]);
}

}  // namespace
}  // namespace plain

template <int inputs>
MapSpace<inputs> broadcast_space(std::span<const int64_t> y, const std::array<std::span<const int64_t>, inputs>& x) {
  MapSpace<inputs> space;
  space.dims = 0;
  int64_t dense[inputs];  // step of each input's next larger dimension, were it not repeated
  std::fill(dense, dense + inputs, 1);
  // From the last dimension to the first; a dimension joins the one after it where each input's step allows.
  for (size_t d = y.size(); d-- > 0;) {
    int64_t step[inputs];
    for (int k = 0; k < inputs; ++k) {
      const size_t missing = y.size() - x[k].size();
      const int64_t size = d < missing ? 1 : x[k][d - missing];
      step[k] = size == 1 ? 0 : dense[k];
      dense[k] *= size;
    }
    if (y[d] == 1) continue;
    const int last = space.dims - 1;
    bool joins = space.dims > 0;
    for (int k = 0; k < inputs && joins; ++k) joins = step[k] == space.step[k][last] * space.size[last];
    if (joins) {
      space.size[last] *= y[d];
      continue;
    }
    space.size[space.dims] = y[d];
    for (int k = 0; k < inputs; ++k) space.step[k][space.dims] = step[k];
    ++space.dims;
  }
  if (space.dims == 0) space.dims = 1, space.size[0] = 1;
  std::reverse(space.size, space.size + space.dims);
  for (auto& step : space.step) std::reverse(step, step + space.dims);
  return space;
}
template MapSpace<1> broadcast_space<1>(std::span<const int64_t>, const std::array<std::span<const int64_t>, 1>&);
template MapSpace<2> broadcast_space<2>(std::span<const int64_t>, const std::array<std::span<const int64_t>, 2>&);

template <int inputs, class F, class T>
void map(Cpu, const F& f, const MapSpace<inputs>& space, T* y, MapInputs<T, inputs> x) {
  using Inputs = MapInputs<T, inputs>;
  const auto run = QFM_BEST_ISA(map_row, F, T, Inputs);
  const int64_t columns = space.columns(), rows = space.rows();
  if (rows == 0 || columns == 0) return;
  int64_t inner[inputs];
  for (int k = 0; k < inputs; ++k) inner[k] = space.step[k][space.dims - 1];
  const auto run_part = [&](int64_t row, int64_t begin, int64_t end) {
    MapInputs<T, inputs> at = x;
    for (int64_t rest = row, d = space.dims - 2; d >= 0; rest /= space.size[d], --d)
      for (int k = 0; k < inputs; ++k) at.at[k] += rest % space.size[d] * space.step[k][d];
    for (int k = 0; k < inputs; ++k) at.at[k] += begin * inner[k];
    run(f, end - begin, y + row * columns + begin, at, inner);
  };
  if (columns > kRangeElements) {
    const int64_t parts = (columns + kRangeElements - 1) / kRangeElements;
    return parallel_for(rows * parts, [&](int64_t i) {
      const int64_t begin = i % parts * kRangeElements;
      run_part(i / parts, begin, std::min(columns, begin + kRangeElements));
    });
  }
  for_rows(rows, columns, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) run_part(row, 0, columns);
  });
}

template <class To, class From>
void cast(Cpu, To* dst, const From* src, int64_t n) {
  const auto run = QFM_BEST_ISA(cast, To, From);
  for_elements(n, [&](int64_t begin, int64_t end) { run(dst + begin, src + begin, end - begin); });
}

#define QFM_MAP_TYPE(F, inputs, T) \
  template void map(Cpu, const fn::F&, const MapSpace<inputs>&, T*, MapInputs<T, inputs>);
#define QFM_MAP_ONE(F, inputs) QFM_MAP_TYPE(F, inputs, float) QFM_MAP_TYPE(F, inputs, bf16) QFM_MAP_TYPE(F, inputs, double)
QFM_MAP_FUNCTIONS
#undef QFM_MAP_ONE
#undef QFM_MAP_TYPE

#define QFM_INSTANTIATE(T)                            \
  template void cast(Cpu, T*, const float*, int64_t); \
  template void cast(Cpu, T*, const bf16*, int64_t);  \
  template void cast(Cpu, T*, const double*, int64_t);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
QFM_INSTANTIATE(double)
#undef QFM_INSTANTIATE

}  // namespace qfm
