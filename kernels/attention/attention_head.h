// How attention.cpp hands its work to the code of a path: one image and head at a time.
#pragma once
#include "kernels/attention/attention.h"

namespace qfm {

// The rows of one image and head.
template <class T>
struct HeadRows {
  T* data;
  int64_t ld;
  T* operator[](int64_t i) const { return data + i * ld; }
};

// Queries [first, last) of a head. lse may be null.
template <class T>
HeadRows<T> rows_of_head(Heads<T> x, const AttentionShape& s, int64_t tokens, int64_t head) {
  return {x.data + head / s.heads * tokens * x.ld + head % s.heads * s.head_dim, x.ld};
}

template <class T>
struct AttentionForward {
  AttentionShape shape;
  VisibleKeys<int64_t> visible;
  HeadRows<T> o;
  acc<T>* lse;
  HeadRows<const T> q, k, v;
  int64_t first, last;
  acc<T>* workspace;  // attention_forward_workspace elements
};

template <class T>
struct AttentionBackward {
  AttentionShape shape;
  VisibleKeys<int64_t> visible;
  HeadRows<T> dq, dk, dv;
  HeadRows<const T> d_o, q, k, v, o;
  const acc<T>* lse;
  acc<T>* workspace;  // attention_backward_workspace elements
};

}  // namespace qfm

#define QFM_ATTENTION_CODE                                           \
  template <class T>                                                 \
  int64_t attention_forward_workspace(const AttentionShape& shape);  \
  template <class T>                                                 \
  void attention_forward_head(const AttentionForward<T>& head);      \
  template <class T>                                                 \
  int64_t attention_backward_workspace(const AttentionShape& shape); \
  template <class T>                                                 \
  void attention_backward_head(const AttentionBackward<T>& head);

namespace qfm::avx2 {
QFM_ATTENTION_CODE
}
namespace qfm::avx512 {
QFM_ATTENTION_CODE
}
namespace qfm::avx512bf16 {
QFM_ATTENTION_CODE
}
