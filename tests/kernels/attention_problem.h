// Attention on CUDA, for tests: views packed side by side in rows of one tensor, and random inputs.
#pragma once
#include <algorithm>
#include <cmath>

#include "kernels/attention/attention.h"
#include "tests/guarded.h"
#include "tests/kernels/numbers.h"

namespace qfm::test {

struct AttentionCase {
  AttentionShape s;
  double spread = 1.5;  // of q and k: scores are about spread^2, the largest about 4 spread^2
  int64_t gap = 0;      // elements not to be touched after each row of the packed views
  size_t shift = 0;     // elements off alignment
  // q and k are multiples of 1/8, so that a float holds their products exactly: a rounding of a score of 80
  // would change its probability by more than the tolerance.
  bool exact_scores = false;
  std::vector<int32_t> key_lengths = {};  // of the images; the padded keys and values are NaN
  AttentionShape with(const int32_t* lengths) const {
    AttentionShape masked = s;
    if (!key_lengths.empty()) masked.mask.key_lengths = lengths;
    return masked;
  }
  AttentionShape on_host() const { return with(key_lengths.data()); }
  int64_t rows(int64_t tokens) const { return s.batch * tokens; }
  int64_t dim() const { return s.heads * s.head_dim; }
};

// Views that lie side by side in rows of one tensor, as q, k and v in the output of one linear layer; the
// rest of each row is NaN.
template <class T>
class Packed {
 public:
  Packed(const AttentionCase& c, int64_t tokens, size_t parts)  // outputs: all NaN
      : rows_(c.rows(tokens)),
        dim_(c.dim()),
        parts_(static_cast<int64_t>(parts)),
        ld_(parts_ * dim_ + c.gap),
        memory_(cuda_device, static_cast<size_t>(rows_ * ld_), c.shift) {}
  Packed(const AttentionCase& c, int64_t tokens, const std::vector<std::vector<T>>& parts)
      : Packed(c, tokens, parts.size()) {
    std::vector<T> all = unwritten<T>(rows_ * ld_);
    for (size_t p = 0; p < parts.size(); ++p)
      for (int64_t i = 0; i < rows_ * dim_; ++i) all[at(p, i)] = parts[p][i];
    copy_bytes(cuda_device, memory_.data(), cpu_device, all.data(), all.size() * sizeof(T));
  }

  Heads<T> view(size_t part) { return {memory_.data() + part * dim_, ld_}; }
  Heads<const T> input(size_t part) { return {memory_.data() + part * dim_, ld_}; }

  // A part's elements; checks that nothing beside the parts was written.
  Doubles part(size_t part) {
    const Doubles all = converted<double>(memory_.values());
    Doubles found(rows_ * dim_);
    for (int64_t i = 0; i < rows_ * dim_; ++i) found[i] = all[at(part, i)];
    bool untouched = true;
    for (int64_t i = 0; i < rows_ * ld_; ++i)
      untouched = untouched && (i % ld_ < parts_ * dim_ || std::isnan(all[i]));
    CHECK(untouched);
    return found;
  }

 private:
  int64_t at(size_t part, int64_t i) const { return i / dim_ * ld_ + part * dim_ + i % dim_; }
  int64_t rows_, dim_, parts_, ld_;
  Guarded<T> memory_;
};

template <class T>
struct AttentionInputs {
  std::vector<T> q, k, v, d_o;
  explicit AttentionInputs(const AttentionCase& c)
      : q(random<T>("q", 0, c.rows(c.s.queries) * c.dim(), c.spread)),
        k(random<T>("k", 1, c.rows(c.s.keys) * c.dim(), c.spread)),
        v(random<T>("v", 2, c.rows(c.s.keys) * c.dim())),
        d_o(random<T>("do", 3, c.rows(c.s.queries) * c.dim())) {
    if (c.exact_scores)
      for (std::vector<T>* x : {&q, &k})
        for (T& value : *x) value = T(std::round(8 * static_cast<float>(value)) / 8);
    for (size_t b = 0; b < c.key_lengths.size(); ++b) {
      const int64_t first = static_cast<int64_t>(b) * c.s.keys,
                    there = visible_keys<int64_t>(c.on_host(), b).keys;
      for (std::vector<T>* x : {&k, &v})
        std::fill(x->begin() + (first + there) * c.dim(), x->begin() + (first + c.s.keys) * c.dim(), T(NAN));
    }
  }
};

}  // namespace qfm::test
