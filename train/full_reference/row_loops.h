// The loops over one row that the measures are made of, in plain C++ that the compiler turns into vector code: compiled
// for any processor, for AVX2 and for AVX-512. Plain pointers only, so that no inline function of a library is compiled
// for one processor and run on another.
#pragma once
#include <cstdint>

namespace qfm {

inline constexpr int kSsimWindow = 11;

// What a band's neighbours say of it: sums over a row of a[i] * row[i + shift].
struct RowProducts {
  double same[3];             // with itself, shifts 0..2
  double next[5], second[5];  // with the next row and the one behind it, shifts -2..2
};

struct RowLoops {
  // round(0.299 R + 0.587 G + 0.114 B) of n pixels
  void (*luma)(float* out, const uint8_t* rgb, int n);
  // sum of (a - b)^2
  uint64_t (*squared_error)(const uint8_t* a, const uint8_t* b, int n);
  // the means of pairs of pixels of two rows
  void (*halve)(float* out, const float* a, const float* b, int n);
  double (*sum)(const float* a, int n);
  double (*sum_positive)(const float* a, int n);
  double (*sum_squares)(const float* a, int n);

  // SSIM. energy = x x + y y, product = x y
  void (*products)(float* energy, float* product, const float* x, const float* y, int n);
  // the window down the columns
  void (*window_down)(float* out, const float* const* rows, const float* weights, int n);
  // the window along four rows that window_down made; contrast is contrast times structure, not below 0
  void (*ssim)(float* ssim, float* contrast, const float* const* down, const float* weights, int n);

  // GMSD. 1 - similarity of the gradients at the middle ones of three rows each, of which columns -1 and n are read
  void (*gradient_difference)(float* out, const float* const* x, const float* const* y, int n);

  // VIF. 2-D filters by one quadrant of their weights, odd or even in each direction; the rows given are those around
  // the output's, and `columns` columns more at each side are read; `folded` has radius + 1 rows of scratch.
  void (*smooth)(float* out, const float* const* rows, float* const* folded, int n);       // 5 x 5
  void (*edge_across)(float* out, const float* const* rows, float* const* folded, int n);  // 7 x 7
  void (*edge_down)(float* out, const float* const* rows, float* const* folded, int n);    // 7 x 7
  void (*shrink)(float* out, const float* const* rows, float* const* folded,
                 int n);  // 9 x 9, every second column
  RowProducts (*row_products)(const float* a, const float* next, const float* second, int n);
  // out[k]: sums over three rows of x, y, x x, y y and x y
  void (*column_sums)(float* const* out, const float* const* x, const float* const* y, int n);
  // the same over `groups` such sums (sums[5 group + k]), 1, 3 or 5, and where x is not null over two more rows
  void (*window_sums)(float* const* out, const float* const* sums, int groups, const float* const* x,
                      const float* const* y, int n);
  // every third number, from the first, the second and the third on
  void (*split3)(float* const* out, const float* in, int n);
  // first[i] = in[3 i], last[i] = in[3 i + 2], sum[i] = the sum of these and the one between
  void (*sum3)(float* first, float* last, float* sum, const float* in, int n);
  // out[i] = the sum of `groups` (1, 3 or 5) of such sums around i and, if more, of the numbers next to them
  void (*window_across)(float* out, const float* first, const float* last, const float* sum, int groups,
                        bool more, int n);
  // g^2 / (variance of the noise + 0.4), of windows of `area` pixels with these sums of x, y, x x, y y, x y
  void (*channel)(float* out, const float* const* sums, float area, int n);
  // For each of n blocks of nine numbers: s = mean square of their whitened values; sums over the blocks of
  // log2 prod_k (1 + channel s lambda_k) and log2 prod_k (1 + s lambda_k / 0.4)
  void (*information)(double* received, double* sent, const float* const* block, const float* channel,
                      const float* whiten, const float* lambda, int n);
};

// As the current path has them.
const RowLoops& row_loops();

namespace plain {
extern const RowLoops row_loops;
}
namespace avx2 {
extern const RowLoops row_loops;
}
namespace avx512 {
extern const RowLoops row_loops;
}

}  // namespace qfm
