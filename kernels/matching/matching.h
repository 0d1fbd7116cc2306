// Kernels of the matching memory (models/METHOD.md 4, our reconstruction): the search for an image of similar
// score and different semantics, and the noise that is made of its tokens.
#pragma once
#include <cstdint>

#include "engine/base/dtype.h"
#include "engine/memory/device.h"

namespace qfm {

// What the search knows of n images; arrays in the memory of the kernel's device.
struct MatchKeys {
  const float* z;            // (n, dim) pooled descriptors of length 1
  const float* score;        // (n), 0-1
  const int64_t* image;      // (n) which image
  const int64_t* reference;  // (n) which reference it was distorted from; negative: unknown
  const int64_t* age;        // (n) when it was pushed: larger is younger; null for queries
  int64_t n;
};
struct MatchRule {
  float tau_q = 0.05f;  // candidates: |score - score| <= tau_q, another image, another known reference
  float tau_s = 0.7f;   // the partner counts only if its cosine is at most this
};

// partner[i] = the candidate of smallest cosine z_i . z_j, the youngest of equal ones (of equal age, the one
// further on), or -1 where there is none or its cosine is above tau_s; cosine[i] = the partner's cosine, NaN
// where there is none. A NaN score or cosine makes no candidate. partner, cosine (queries.n). Each dot
// product is one chain of fused multiply-adds over dim, so that ties mean the same on every device.
void nearest_match(Cpu, int32_t* partner, float* cosine, const MatchKeys& queries, const MatchKeys& memory,
                   int64_t dim, MatchRule rule);
void nearest_match(Cuda, int32_t* partner, float* cosine, const MatchKeys& queries, const MatchKeys& memory,
                   int64_t dim, MatchRule rule);

// y[to[i], :] = x[i, :] for the rows of x (rows, cols), nothing where to[i] < 0: where to write is read when the kernel
// runs. No two rows go to one place.
template <class T>
void put_rows(Cpu, T* y, const T* x, const int64_t* to, int64_t rows, int64_t cols);
template <class T>
void put_rows(Cuda, T* y, const T* x, const int64_t* to, int64_t rows, int64_t cols);

// What a search found, added to sums (4) in the order of the images: how many searched, how many have a
// partner (>= 0), and over those |score[i] - memory_score[partner[i]]| and cosine[i]. memory_score is as long
// as the partners reach, the others (n).
void match_sums(Cpu, double* sums, const int32_t* partner, const float* cosine, const float* score,
                const float* memory_score, int64_t n);
void match_sums(Cuda, double* sums, const int32_t* partner, const float* cosine, const float* score,
                const float* memory_score, int64_t n);

// y[b, t, d] = x[from[b], order[b, t], d], zeros where from[b] < 0: a partner's tokens, permuted.
template <class T>
void gather_tokens(Cpu, T* y, const T* x, const int32_t* from, const int32_t* order, int64_t batch,
                   int64_t tokens, int64_t dim);
template <class T>
void gather_tokens(Cuda, T* y, const T* x, const int32_t* from, const int32_t* order, int64_t batch,
                   int64_t tokens, int64_t dim);

}  // namespace qfm
