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
  const acc<T>* b;  // panel j begins at b + j * panel_step, its rows are depth_step apart
  int64_t panel_step, depth_step;
  GemmEpilogue<T> epilogue;
  int64_t row, rows, panel, panels;
  acc<T>* workspace;  // gemm_workspace elements
};

}  // namespace qfm

// Columns of a panel: B is packed as [n / columns][k][columns], the last panel filled up with zeros.
// gemm_pack_panel packs the depths [depth, depth + step) of one panel.
#define QFM_GEMM_CODE                                                                                    \
  template <class T>                                                                                     \
  int64_t gemm_panel_columns();                                                                          \
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
