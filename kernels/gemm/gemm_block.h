// How gemm.cpp hands its work to the code of a path: B packed in panels of columns, C cut into blocks.
#pragma once
#include "kernels/gemm/gemm.h"

namespace qfm {

inline constexpr int64_t kGemmBlockRows = 210;

// Rows [row, row + rows), at most kGemmBlockRows, and panels [panel, panel + panels) of C.
template <class T, class Out>
struct GemmBlock {
  GemmShape shape;
  Out* c;
  const T* a;
  const acc<T>* b;  // panel j begins at b + j * panel_step, its rows of words are depth_step apart
  int64_t panel_step, depth_step;
  GemmEpilogue<T> epilogue;
  int64_t row, rows, panel, panels;
  acc<T>* workspace;  // gemm_workspace elements
};

}  // namespace qfm

// Columns of a panel: B is packed as [n / columns][gemm_words(k)][columns], the last panel filled up with zeros. A word
// is one element of k as acc<T>, or several side by side (gemm_words.h). gemm_pack_panel packs the depths [depth, depth +
// step) of one panel; all but the last step of a panel are multiples of four. gemm_packs_a: a block begins by packing its
// rows of A.
#define QFM_GEMM_CODE                                                                                    \
  template <class T>                                                                                     \
  int64_t gemm_panel_columns();                                                                          \
  template <class T>                                                                                     \
  int64_t gemm_words(int64_t k);                                                                         \
  template <class T>                                                                                     \
  bool gemm_packs_a(const GemmShape& shape);                                                             \
  template <class T>                                                                                     \
  void gemm_pack_panel(const GemmShape& shape, acc<T>* packed, const T* b, int64_t panel, int64_t depth, \
                       int64_t step);                                                                    \
  template <class T>                                                                                     \
  int64_t gemm_workspace(const GemmShape& shape, int64_t rows, int64_t panels);                          \
  template <class T, class Out>                                                                          \
  void gemm_block(const GemmBlock<T, Out>& block);

namespace qfm::avx2 {
QFM_GEMM_CODE
}
namespace qfm::avx512 {
QFM_GEMM_CODE
}
namespace qfm::avx512bf16 {
QFM_GEMM_CODE
}
