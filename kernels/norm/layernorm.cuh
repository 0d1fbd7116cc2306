// What the kernels of layernorm.cu are given, and what they do with one pack of a row: once for rows that fit
// in registers and for any others.
#pragma once
#include "kernels/common/cuda_loops.cuh"

namespace qfm {

// The rows are x, or, where sum is not null, x + gamma * branch (x + branch without a gamma), rounded to T
// and kept in sum: then they are what two kernels in turn would give, bit for bit.
template <class T>
struct NormForward {
  T *y, *sum;
  float *mean, *rstd;
  const T *x, *branch, *gamma, *w, *b;
  int64_t rows;
  int cols;
  float eps;

  // Columns c .. c + V - 1 of the row that begins at `row`.
  template <int V>
  __device__ Pack<T, V> pack(int64_t row, int c) const {
    Pack<T, V> xs = load<V>(x + row + c), gs{};
    if (!sum) return xs;
    const Pack<T, V> bs = load<V>(branch + row + c);
    if (gamma) gs = load<V>(gamma + c);
    for (int i = 0; i < V; ++i) {
      const float added = static_cast<float>(bs.at[i]);
      xs.at[i] = T(static_cast<float>(xs.at[i]) + (gamma ? static_cast<float>(gs.at[i]) * added : added));
    }
    return xs;
  }
  // d: the deviations from the mean.
  template <int V>
  __device__ void write(int64_t row, int c, const float (&d)[V], float r) const {
    const Pack<T, V> ws = load<V>(w + c), bs = load<V>(b + c);
    float ys[V];
    for (int i = 0; i < V; ++i)
      ys[i] = fmaf(d[i] * r, static_cast<float>(ws.at[i]), static_cast<float>(bs.at[i]));
    store<V>(y + row + c, round_pack<T>(ys));
  }
};

// The gradient of the rows is dx plus, where it is not null, dsum: the gradient that comes to the rows from
// elsewhere. With a branch its gradient is gamma times that. partial (blocks, 2 or 3, cols): dw, db and, with
// a branch, dgamma of a block's rows.
template <class T>
struct NormBackward {
  T *dx, *dbranch;
  float* partial;
  const T *dy, *dsum, *x, *branch, *gamma, *w;
  const float *mean, *rstd;
  int64_t rows, rows_per_block;
  int cols;
};

// Sums over a row that is given by its d = x - mean; h = (d - m) rstd.
struct RowSums {
  float d = 0, g = 0, gd = 0;  // sums of d, of g = dy w and of g d
  template <int V, class T>
  __device__ void add(const Pack<T, V>& xs, const Pack<T, V>& dys, const Pack<T, V>& ws, float mean) {
    for (int i = 0; i < V; ++i) {
      const float deviation = static_cast<float>(xs.at[i]) - mean;
      const float gain = static_cast<float>(dys.at[i]) * static_cast<float>(ws.at[i]);
      d += deviation, g += gain, gd = fmaf(gain, deviation, gd);
    }
  }
};
struct RowMeans {
  float mean, m, rstd, g, gh;
  __device__ RowMeans(const RowSums& s, float mean, float rstd, int cols)
      : mean(mean), m(s.d / cols), rstd(rstd), g(s.g / cols), gh((s.gd / cols - g * m) * rstd) {}
};

// A pack of all that the backward reads. Parts: the sums down the columns, dw, db and, with a branch, dgamma.
template <class T, int V, bool with_branch>
struct GradPack {
  static constexpr int kParts = with_branch ? 3 : 2;
  Pack<T, V> x, dy, dsum{}, branch{};

  __device__ void read(const NormBackward<T>& p, int64_t at) {
    x = load<V>(p.x + at), dy = load<V>(p.dy + at);
    if (p.dsum) dsum = load<V>(p.dsum + at);
    if constexpr (with_branch) branch = load<V>(p.branch + at);
  }
  // Columns c .. c + V - 1 of the row that begins at `begin`.
  __device__ void write(const NormBackward<T>& p, int64_t begin, int c, const RowMeans& row,
                        const Pack<T, V>& ws, float (&parts)[kParts][V]) const {
    const int64_t at = begin + c;
    float values[V];
    for (int i = 0; i < V; ++i) {
      const float h = (static_cast<float>(x.at[i]) - row.mean - row.m) * row.rstd;
      const float d = static_cast<float>(dy.at[i]), g = d * static_cast<float>(ws.at[i]);
      values[i] = (g - row.g - h * row.gh) * row.rstd;
      parts[0][i] = fmaf(d, h, parts[0][i]), parts[1][i] += d;
    }
    Pack<T, V> dxs = round_pack<T>(values);
    if (p.dsum) {
      for (int i = 0; i < V; ++i) values[i] = static_cast<float>(dxs.at[i]) + static_cast<float>(dsum.at[i]);
      dxs = round_pack<T>(values);
    }
    store<V>(p.dx + at, dxs);
    if constexpr (with_branch) {
      const Pack<T, V> gammas = load<V>(p.gamma + c);
      for (int i = 0; i < V; ++i) {
        const float total = static_cast<float>(dxs.at[i]);
        parts[2][i] = fmaf(total, static_cast<float>(branch.at[i]), parts[2][i]);
        values[i] = static_cast<float>(gammas.at[i]) * total;
      }
      store<V>(p.dbranch + at, round_pack<T>(values));
    }
  }
};

}  // namespace qfm
