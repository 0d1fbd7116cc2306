// Elementwise functions and their backwards. Views: a (outer, inner) tensor times or plus a vector of `inner`
// values, or a (batch, tokens, dim) tensor times a (batch, dim) one.
#pragma once
#include <cstdint>

#include "engine/base/dtype.h"
#include "engine/memory/device.h"

namespace qfm {

// y = a + b, n elements. y may be a or b.
template <class T>
void add(Cpu, T* y, const T* a, const T* b, int64_t n);
template <class T>
void add(Cuda, T* y, const T* a, const T* b, int64_t n);
// y = factor * x. y may be x.
template <class T>
void scale(Cpu, T* y, const T* x, double factor, int64_t n);
template <class T>
void scale(Cuda, T* y, const T* x, double factor, int64_t n);
// y = factor[0] * x, the factor in the memory of the device. y may be x.
template <class T>
void scale_by(Cpu, T* y, const T* x, const acc<T>* factor, int64_t n);
template <class T>
void scale_by(Cuda, T* y, const T* x, const acc<T>* factor, int64_t n);
// dst = src in another type: float, bf16, double in any pair.
template <class To, class From>
void cast(Cpu, To* dst, const From* src, int64_t n);
template <class To, class From>
void cast(Cuda, To* dst, const From* src, int64_t n);

// y[o, i] = x[o, i] + p[i]: a position embedding (inner = tokens * dim), or a bias.
template <class T>
void add_broadcast(Cpu, T* y, const T* x, const T* p, int64_t outer, int64_t inner);
template <class T>
void add_broadcast(Cuda, T* y, const T* x, const T* p, int64_t outer, int64_t inner);

// y = sigmoid(x) = 1 / (1 + exp(-x)); backward: dx = dy y (1 - y).
template <class T>
void sigmoid_forward(Cpu, T* y, const T* x, int64_t n);
template <class T>
void sigmoid_forward(Cuda, T* y, const T* x, int64_t n);
template <class T>
void sigmoid_backward(Cpu, T* dx, const T* dy, const T* y, int64_t n);
template <class T>
void sigmoid_backward(Cuda, T* dx, const T* dy, const T* y, int64_t n);

// LayerScale with the residual: y = residual + gamma * x; x, y, residual (rows, cols), gamma (cols); residual
// may be null.
template <class T>
void layerscale_forward(Cpu, T* y, const T* x, const T* gamma, const T* residual, int64_t rows, int64_t cols);
template <class T>
void layerscale_forward(Cuda, T* y, const T* x, const T* gamma, const T* residual, int64_t rows,
                        int64_t cols);
// dx = gamma * dy; dgamma[j] = sum over rows of dy x (overwritten).
template <class T>
void layerscale_backward(Cpu, T* dx, acc<T>* dgamma, const T* dy, const T* x, const T* gamma, int64_t rows,
                         int64_t cols);
template <class T>
void layerscale_backward(Cuda, T* dx, acc<T>* dgamma, const T* dy, const T* x, const T* gamma, int64_t rows,
                         int64_t cols);

// Channel gate: y[b, t, d] = x[b, t, d] * g[b, d].
template <class T>
void gate_forward(Cpu, T* y, const T* x, const T* g, int64_t batch, int64_t tokens, int64_t dim);
template <class T>
void gate_forward(Cuda, T* y, const T* x, const T* g, int64_t batch, int64_t tokens, int64_t dim);
// dx = dy * g; dg[b, d] = sum over t of dy x.
template <class T>
void gate_backward(Cpu, T* dx, T* dg, const T* dy, const T* x, const T* g, int64_t batch, int64_t tokens,
                   int64_t dim);
template <class T>
void gate_backward(Cuda, T* dx, T* dg, const T* dy, const T* x, const T* g, int64_t batch, int64_t tokens,
                   int64_t dim);

// Tokens: dst rows [dst_at, dst_at + count) of each image of (batch, dst_tokens, dim) = src rows [src_at,
// ...) of each image of (batch, src_tokens, dim). repeat_src repeats the first image (a CLS token). Slices
// and joins are made of it.
struct TokenCopy {
  int64_t batch, count, dim;
  int64_t dst_tokens, dst_at;
  int64_t src_tokens, src_at;
  bool repeat_src = false;
};
template <class T>
void copy_tokens(Cpu, TokenCopy shape, T* dst, const T* src);
template <class T>
void copy_tokens(Cuda, TokenCopy shape, T* dst, const T* src);

}  // namespace qfm
