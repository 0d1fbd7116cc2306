#include <cstring>

#include "train/full_reference/row_loops.h"

#ifndef QFM_ISA
#define QFM_ISA plain
#endif

namespace qfm::QFM_ISA {
namespace {

#define QFM_LOOP _Pragma("omp simd")

#ifdef __FMA__
inline float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
#else
inline float fma(float a, float b, float c) { return a * b + c; }
#endif

// Whole numbers: the product of a multiple of 1000 may fall short of it by less than the quarter that is added.
void luma(float* __restrict out, const uint8_t* __restrict rgb, int n) {
  QFM_LOOP
  for (int i = 0; i < n; ++i) {
    const int thousandths = 299 * rgb[3 * i] + 587 * rgb[3 * i + 1] + 114 * rgb[3 * i + 2] + 500;
    out[i] = static_cast<float>(static_cast<int>((static_cast<float>(thousandths) + 0.25f) * 0.001f));
  }
}

uint64_t squared_error(const uint8_t* __restrict a, const uint8_t* __restrict b, int n) {
  uint64_t sum = 0;
  constexpr int part = 1 << 14;  // 255^2 times this fits 32 bits
  for (int begin = 0; begin < n; begin += part) {
    const int end = n - begin < part ? n : begin + part;
    uint32_t of_part = 0;
    QFM_LOOP
    for (int i = begin; i < end; ++i) {
      const int d = a[i] - b[i];
      of_part += static_cast<uint32_t>(d * d);
    }
    sum += of_part;
  }
  return sum;
}

void halve(float* __restrict out, const float* __restrict a, const float* __restrict b, int n) {
  QFM_LOOP
  for (int i = 0; i < n; ++i) out[i] = 0.25f * ((a[2 * i] + a[2 * i + 1]) + (b[2 * i] + b[2 * i + 1]));
}

double sum(const float* a, int n) {
  double s = 0;
#pragma omp simd reduction(+ : s)
  for (int i = 0; i < n; ++i) s += static_cast<double>(a[i]);
  return s;
}

double sum_positive(const float* a, int n) {
  double s = 0;
#pragma omp simd reduction(+ : s)
  for (int i = 0; i < n; ++i) s += static_cast<double>(a[i] > 0 ? a[i] : 0);
  return s;
}

double sum_squares(const float* a, int n) {
  double s = 0;
#pragma omp simd reduction(+ : s)
  for (int i = 0; i < n; ++i) s += static_cast<double>(a[i]) * static_cast<double>(a[i]);
  return s;
}

void products(float* __restrict energy, float* __restrict product, const float* __restrict x,
              const float* __restrict y, int n) {
  QFM_LOOP
  for (int i = 0; i < n; ++i) energy[i] = fma(x[i], x[i], y[i] * y[i]), product[i] = x[i] * y[i];
}

void window_down(float* __restrict out, const float* const* rows, const float* weights, int n) {
  const float *r0 = rows[0], *r1 = rows[1], *r2 = rows[2], *r3 = rows[3], *r4 = rows[4], *r5 = rows[5],
              *r6 = rows[6], *r7 = rows[7], *r8 = rows[8], *r9 = rows[9], *r10 = rows[10];
  const float w0 = weights[0], w1 = weights[1], w2 = weights[2], w3 = weights[3], w4 = weights[4],
              w5 = weights[5];
  QFM_LOOP
  for (int i = 0; i < n; ++i) {
    float s = w0 * (r0[i] + r10[i]);
    s = fma(w1, r1[i] + r9[i], s);
    s = fma(w2, r2[i] + r8[i], s);
    s = fma(w3, r3[i] + r7[i], s);
    s = fma(w4, r4[i] + r6[i], s);
    out[i] = fma(w5, r5[i], s);
  }
}

inline float window_at(const float* p, const float* w) {
  float s = w[0] * (p[0] + p[10]);
  for (int k = 1; k < 5; ++k) s = fma(w[k], p[k] + p[10 - k], s);
  return fma(w[5], p[5], s);
}

void ssim(float* __restrict out, float* __restrict contrast, const float* const* down, const float* weights,
          int n) {
  const float *x = down[0], *y = down[1], *energies = down[2], *xys = down[3];
  float w[6];
  for (int k = 0; k < 6; ++k) w[k] = weights[k];
  constexpr float c1 = 0.01f * 255 * 0.01f * 255, c2 = 0.03f * 255 * 0.03f * 255;
  QFM_LOOP
  for (int i = 0; i < n; ++i) {
    const float mx = window_at(x + i, w), my = window_at(y + i, w);
    const float energy = window_at(energies + i, w), xy = window_at(xys + i, w);
    const float mxy = mx * my, squares = mx * mx + my * my;
    const float structure = (2 * (xy - mxy) + c2) / ((energy - squares) + c2);
    out[i] = (2 * mxy + c1) / (squares + c1) * structure;
    contrast[i] = structure > 0 ? structure : 0;
  }
}

void gradient_difference(float* __restrict out, const float* const* x, const float* const* y, int n) {
  const float *x0 = x[0], *x1 = x[1], *x2 = x[2], *y0 = y[0], *y1 = y[1], *y2 = y[2];
  const auto squared = [](const float* a, const float* b, const float* c, int i) {
    const float across = (a[i - 1] + b[i - 1] + c[i - 1]) - (a[i + 1] + b[i + 1] + c[i + 1]);
    const float down = (a[i - 1] + a[i] + a[i + 1]) - (c[i - 1] + c[i] + c[i + 1]);
    return (across * across + down * down) * (1.0f / 9);
  };
  QFM_LOOP
  for (int i = 0; i < n; ++i) {
    const float gx = squared(x0, x1, x2, i), gy = squared(y0, y1, y2, i);
    const float both = 2 * __builtin_sqrtf(gx * gy), sum = gx + gy;
    out[i] = (sum - both) / (sum + 170);
  }
}

// The steerable pyramid's filters sp5 (Simoncelli and Freeman; matlabPyrTools): from the middle down, from the middle
// right.
constexpr float kSmooth[3][3] = {{0.40304148f, 0.15925570f, -0.03848215f},
                                 {0.15925570f, 0.05586982f, -0.01551246f},
                                 {-0.03848215f, -0.01551246f, 0.00341614f}};
constexpr float kShrink[5][5] = {{0.2019308f, 0.16339236f, 0.07962786f, 0.02005976f, -0.01924108f},
                                 {0.16339236f, 0.12852666f, 0.06554076f, 0.008212f, -0.01888864f},
                                 {0.07962786f, 0.06554076f, 0.02793492f, -0.01322234f, -0.00775624f},
                                 {0.02005976f, 0.008212f, -0.01322234f, -0.01046562f, -0.00489834f},
                                 {-0.01924108f, -0.01888864f, -0.00775624f, -0.00489834f, 0.00170808f}};
// Even down, odd across; the other band is its transpose.
constexpr float kEdge[4][4] = {{0, 0.11732297f, -0.02755155f, -0.01455399f},
                               {0, 0.08226445f, -0.01189859f, -0.01026699f},
                               {0, 0.03075356f, 0.00893064f, -0.00496194f},
                               {0, 0.01021852f, 0.00986904f, -0.00277643f}};

// folded[k] = the k-th row below the middle plus (or minus) the k-th above, `columns` columns further at both sides
template <int radius, bool odd>
inline void fold(float* const* folded, const float* const* rows, int columns, int n) {
  if (!odd)
    std::memcpy(folded[0] - columns, rows[radius] - columns,
                static_cast<size_t>(n + 2 * columns) * sizeof(float));
  for (int k = 1; k <= radius; ++k) {
    float* __restrict to = folded[k];
    const float *below = rows[radius + k], *above = rows[radius - k];
    QFM_LOOP
    for (int i = -columns; i < n + columns; ++i) to[i] = odd ? below[i] - above[i] : below[i] + above[i];
  }
}

void smooth(float* __restrict out, const float* const* rows, float* const* folded, int n) {
  fold<2, false>(folded, rows, 2, n);
  const float *f0 = folded[0], *f1 = folded[1], *f2 = folded[2];
  const auto across = [](const float* f, int i, const float* w) {
    return fma(w[2], f[i - 2] + f[i + 2], fma(w[1], f[i - 1] + f[i + 1], w[0] * f[i]));
  };
  QFM_LOOP
  for (int i = 0; i < n; ++i)
    out[i] = across(f0, i, kSmooth[0]) + across(f1, i, kSmooth[1]) + across(f2, i, kSmooth[2]);
}

void edge_across(float* __restrict out, const float* const* rows, float* const* folded, int n) {
  fold<3, false>(folded, rows, 3, n);
  const float *f0 = folded[0], *f1 = folded[1], *f2 = folded[2], *f3 = folded[3];
  const auto across = [](const float* f, int i, const float* w) {
    return fma(w[3], f[i + 3] - f[i - 3], fma(w[2], f[i + 2] - f[i - 2], w[1] * (f[i + 1] - f[i - 1])));
  };
  QFM_LOOP
  for (int i = 0; i < n; ++i)
    out[i] = (across(f0, i, kEdge[0]) + across(f1, i, kEdge[1])) +
             (across(f2, i, kEdge[2]) + across(f3, i, kEdge[3]));
}

void edge_down(float* __restrict out, const float* const* rows, float* const* folded, int n) {
  fold<3, true>(folded, rows, 3, n);
  const float *f1 = folded[1], *f2 = folded[2], *f3 = folded[3];
  const auto across = [](const float* f, int i, int k) {
    const float near = fma(kEdge[1][k], f[i - 1] + f[i + 1], kEdge[0][k] * f[i]);
    return fma(kEdge[3][k], f[i - 3] + f[i + 3], fma(kEdge[2][k], f[i - 2] + f[i + 2], near));
  };
  QFM_LOOP
  for (int i = 0; i < n; ++i) out[i] = across(f1, i, 1) + across(f2, i, 2) + across(f3, i, 3);
}

void shrink(float* __restrict out, const float* const* rows, float* const* folded, int n) {
  const int full = 2 * n;
  fold<4, false>(folded, rows, 4, full);
  for (int k = 0; k < 5; ++k) {
    const float* f = folded[k];
    const float* w = kShrink[k];
    QFM_LOOP
    for (int i = 0; i < n; ++i) {
      const float* p = f + 2 * i;
      const float near = fma(w[1], p[-1] + p[1], w[0] * p[0]);
      const float far = fma(w[3], p[-3] + p[3], w[2] * (p[-2] + p[2]));
      const float all = fma(w[4], p[-4] + p[4], near + far);
      out[i] = k == 0 ? all : out[i] + all;
    }
  }
}

inline void shifted_products(double* out, const float* a, const float* b, int n) {
  float s0 = 0, s1 = 0, s2 = 0, s3 = 0, s4 = 0;
#pragma omp simd reduction(+ : s0, s1, s2, s3, s4)
  for (int i = 0; i < n; ++i) {
    s0 = fma(a[i], b[i - 2], s0), s1 = fma(a[i], b[i - 1], s1), s2 = fma(a[i], b[i], s2);
    s3 = fma(a[i], b[i + 1], s3), s4 = fma(a[i], b[i + 2], s4);
  }
  out[0] = static_cast<double>(s0), out[1] = static_cast<double>(s1), out[2] = static_cast<double>(s2);
  out[3] = static_cast<double>(s3), out[4] = static_cast<double>(s4);
}

RowProducts row_products(const float* a, const float* next, const float* second, int n) {
  RowProducts p;
  float s0 = 0, s1 = 0, s2 = 0;
#pragma omp simd reduction(+ : s0, s1, s2)
  for (int i = 0; i < n; ++i)
    s0 = fma(a[i], a[i], s0), s1 = fma(a[i], a[i + 1], s1), s2 = fma(a[i], a[i + 2], s2);
  p.same[0] = static_cast<double>(s0), p.same[1] = static_cast<double>(s1),
  p.same[2] = static_cast<double>(s2);
  shifted_products(p.next, a, next, n);
  shifted_products(p.second, a, second, n);
  return p;
}

// Adds x, y, x x, y y and x y.
struct Sums {
  float x, y, xx, yy, xy;
  void add(float u, float v) { x += u, y += v, xx = fma(u, u, xx), yy = fma(v, v, yy), xy = fma(u, v, xy); }
};

void column_sums(float* const* out, const float* const* x, const float* const* y, int n) {
  float* __restrict sx = out[0], * __restrict sy = out[1], * __restrict sxx = out[2], * __restrict syy = out[3], * __restrict sxy = out[4];
  const float *x0 = x[0], *x1 = x[1], *x2 = x[2], *y0 = y[0], *y1 = y[1], *y2 = y[2];
  QFM_LOOP
  for (int i = 0; i < n; ++i) {
    Sums s{};
    s.add(x0[i], y0[i]), s.add(x1[i], y1[i]), s.add(x2[i], y2[i]);
    sx[i] = s.x, sy[i] = s.y, sxx[i] = s.xx, syy[i] = s.yy, sxy[i] = s.xy;
  }
}

template <int groups>
inline void add_groups(float* const* out, const float* const* sums, int n) {
  for (int q = 0; q < 5; ++q) {
    float* __restrict to = out[q];
    const float* from[groups];
    for (int k = 0; k < groups; ++k) from[k] = sums[5 * k + q];
    QFM_LOOP
    for (int i = 0; i < n; ++i) {
      float s = from[0][i];
      for (int k = 1; k < groups; ++k) s += from[k][i];
      to[i] = s;
    }
  }
}

void window_sums(float* const* out, const float* const* sums, int groups, const float* const* x,
                 const float* const* y, int n) {
  if (groups == 1) add_groups<1>(out, sums, n);
  else if (groups == 3) add_groups<3>(out, sums, n);
  else add_groups<5>(out, sums, n);
  if (!x) return;
  float* __restrict sx = out[0], * __restrict sy = out[1], * __restrict sxx = out[2], * __restrict syy = out[3], * __restrict sxy = out[4];
  const float *x0 = x[0], *x1 = x[1], *y0 = y[0], *y1 = y[1];
  QFM_LOOP
  for (int i = 0; i < n; ++i) {
    Sums s{sx[i], sy[i], sxx[i], syy[i], sxy[i]};
    s.add(x0[i], y0[i]), s.add(x1[i], y1[i]);
    sx[i] = s.x, sy[i] = s.y, sxx[i] = s.xx, syy[i] = s.yy, sxy[i] = s.xy;
  }
}

void split3(float* const* out, const float* in, int n) {
  float* __restrict a = out[0], * __restrict b = out[1], * __restrict c = out[2];
  QFM_LOOP
  for (int i = 0; i < n; ++i) a[i] = in[3 * i], b[i] = in[3 * i + 1], c[i] = in[3 * i + 2];
}

void sum3(float* __restrict first, float* __restrict last, float* __restrict sum, const float* in, int n) {
  QFM_LOOP
  for (int i = 0; i < n; ++i)
    first[i] = in[3 * i], last[i] = in[3 * i + 2], sum[i] = (in[3 * i] + in[3 * i + 1]) + in[3 * i + 2];
}

template <int groups>
inline void window_across_of(float* __restrict out, const float* first, const float* last, const float* sum,
                             bool more, int n) {
  constexpr int half = groups / 2;
  QFM_LOOP
  for (int i = 0; i < n; ++i) {
    float s = sum[i];
    for (int k = 1; k <= half; ++k) s += sum[i - k] + sum[i + k];
    out[i] = s;
  }
  if (!more) return;
  QFM_LOOP
  for (int i = 0; i < n; ++i) out[i] += last[i - half - 1] + first[i + half + 1];
}

void window_across(float* out, const float* first, const float* last, const float* sum, int groups, bool more,
                   int n) {
  if (groups == 1) window_across_of<1>(out, first, last, sum, more, n);
  else if (groups == 3) window_across_of<3>(out, first, last, sum, more, n);
  else window_across_of<5>(out, first, last, sum, more, n);
}

void channel(float* __restrict out, const float* const* sums, float area, int n) {
  constexpr float tiny = 1e-12f, noise = 0.4f;
  const float *sx = sums[0], *sy = sums[1], *sxx = sums[2], *syy = sums[3], *sxy = sums[4];
  const float share = 1 / area;
  QFM_LOOP
  for (int i = 0; i < n; ++i) {
    const float xx = sxx[i] - sx[i] * sx[i] * share, yy = syy[i] - sy[i] * sy[i] * share;
    const float xy = sxy[i] - sx[i] * sy[i] * share;
    const float ey = yy > 0 ? yy : 0;
    const bool known = xx >= tiny && ey >= tiny && xy > 0;
    const float g = known ? xy / (xx + tiny) : 0;
    const float left = known ? (ey - g * xy) * share : tiny;
    out[i] = g * g / ((left > tiny ? left : tiny) + noise);
  }
}

// The sum of log2 a[i], each at least 1 and finite: exponents are added and mantissas multiplied.
double log2_of_product(const double* a, int n) {
  double sum = 0;
  constexpr int part = 512;  // mantissas below 2: their product stays below 2^512
  for (int begin = 0; begin < n; begin += part) {
    const int end = n - begin < part ? n : begin + part;
    double mantissa = 1;
    int64_t exponent = 0;
#pragma omp simd reduction(* : mantissa) reduction(+ : exponent)
    for (int i = begin; i < end; ++i) {
      uint64_t bits;
      std::memcpy(&bits, a + i, sizeof bits);
      exponent += static_cast<int64_t>(bits >> 52) - 1023;
      bits = (bits & 0xfffffffffffffu) | 0x3ff0000000000000u;
      double m;
      std::memcpy(&m, &bits, sizeof m);
      mantissa *= m;
    }
    sum += static_cast<double>(exponent) + __builtin_log2(mantissa);
  }
  return sum;
}

void information(double* received, double* sent, const float* const* block, const float* channel,
                 const float* whiten, const float* lambda, int n) {
  constexpr int part = 512;
  double both[2][part];
  for (int begin = 0; begin < n; begin += part) {
    const int count = n - begin < part ? n - begin : part;
    const float* x[9];
    for (int k = 0; k < 9; ++k) x[k] = block[k] + begin;
    const float* t = channel + begin;
    float w[81];
    double l[9];
    for (int k = 0; k < 81; ++k) w[k] = whiten[k];
    for (int k = 0; k < 9; ++k) l[k] = static_cast<double>(lambda[k]);
    QFM_LOOP
    for (int i = 0; i < count; ++i) {
      float squares = 0;
      for (int k = 0; k < 9; ++k) {
        float z = 0;
        for (int j = 0; j < 9; ++j) z = fma(w[9 * k + j], x[j][i], z);
        squares = fma(z, z, squares);
      }
      const double s = static_cast<double>(squares) / 9, with_noise = s * static_cast<double>(t[i]),
                   alone = s / 0.4;
      double a = 1, b = 1;
      for (int k = 0; k < 9; ++k) a *= 1 + with_noise * l[k], b *= 1 + alone * l[k];
      both[0][i] = a, both[1][i] = b;
    }
    *received += log2_of_product(both[0], count), *sent += log2_of_product(both[1], count);
  }
}

}  // namespace

extern const RowLoops row_loops;
const RowLoops row_loops = {luma,        squared_error, halve,       sum,    sum_positive,
                            sum_squares, products,      window_down, ssim,   gradient_difference,
                            smooth,      edge_across,   edge_down,   shrink, row_products,
                            column_sums, window_sums,   split3,      sum3,   window_across,
                            channel,     information};

}  // namespace qfm::QFM_ISA
