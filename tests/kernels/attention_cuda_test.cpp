// kernels/attention/attention.cu, on a GPU or in host-CUDA, against the plain functions in double.
#include "engine/base/error.h"
#include "engine/cuda/cuda.h"
#include "kernels/attention/attention.h"
#include "tests/kernels/attention_problem.h"
#include "tests/scopes.h"
#include "tests/support.h"
#include "tests/tolerance.h"
#ifdef QFM_CUDA_HOST
#include "engine/cuda/host/language.h"
#endif

namespace qfm::test {
namespace {

using Case = AttentionCase;
template <class T>
using Inputs = AttentionInputs<T>;

struct Result {
  Doubles o, lse, dq, dk, dv;
  bool operator==(const Result&) const = default;
  Doubles gradients() const {
    Doubles all = dq;
    all.insert(all.end(), dk.begin(), dk.end());
    all.insert(all.end(), dv.begin(), dv.end());
    return all;
  }
};

// Self-attention as one packed qkv, cross-attention as q and a packed kv.
template <class T>
Result on_cuda(const Case& c, const Inputs<T>& in) {
  const OwnKernels own;
  Guarded<int32_t> lengths(cuda_device, c.key_lengths);
  const AttentionShape s = c.with(lengths.data());
  const bool self = s.queries == s.keys;
  const size_t k_at = self ? 1 : 0;
  using Parts = std::vector<std::vector<T>>;
  Packed<T> q(c, s.queries, self ? Parts{in.q, in.k, in.v} : Parts{in.q}), kv(c, s.keys, Parts{in.k, in.v});
  Packed<T> dq(c, s.queries, self ? 3 : 1), dkv(c, s.keys, 2), o(c, s.queries, 1), o_only(c, s.queries, 1),
      d_o(c, s.queries, Parts{in.d_o});
  Packed<T>&keys = self ? q : kv, &d_keys = self ? dq : dkv;
  Guarded<float> lse(cuda_device, s.batch * s.heads * s.queries);

  attention_forward<T>(Cuda{}, s, o.view(0), lse.data(), q.input(0), keys.input(k_at), keys.input(k_at + 1));
  attention_forward<T>(Cuda{}, s, o_only.view(0), nullptr, q.input(0), keys.input(k_at),
                       keys.input(k_at + 1));
  attention_backward<T>(Cuda{}, s, dq.view(0), d_keys.view(k_at), d_keys.view(k_at + 1), d_o.input(0),
                        q.input(0), keys.input(k_at), keys.input(k_at + 1), o.input(0), lse.data());
  CHECK(q.part(0) == converted<double>(in.q));
  CHECK(o_only.part(0) == o.part(0));
  return {o.part(0), converted<double>(lse.values()), dq.part(0), d_keys.part(k_at), d_keys.part(k_at + 1)};
}

template <class T>
Result in_double(const Case& c, const Inputs<T>& in) {
  const AttentionShape s = c.on_host();
  const Doubles q = converted<double>(in.q), k = converted<double>(in.k), v = converted<double>(in.v),
                d_o = converted<double>(in.d_o);
  Result r{Doubles(q.size()), Doubles(s.batch * s.heads * s.queries), Doubles(q.size()), Doubles(k.size()),
           Doubles(v.size())};
  const int64_t ld = c.dim();
  attention_forward<double>(Cpu{}, s, {r.o.data(), ld}, r.lse.data(), {q.data(), ld}, {k.data(), ld},
                            {v.data(), ld});
  attention_backward<double>(Cpu{}, s, {r.dq.data(), ld}, {r.dk.data(), ld}, {r.dv.data(), ld},
                             {d_o.data(), ld}, {q.data(), ld}, {k.data(), ld}, {v.data(), ld},
                             {r.o.data(), ld}, r.lse.data());
  return r;
}

template <class T>
void compare(const Case& c) {
  const AttentionShape& s = c.s;
  INFO(name_of(dtype_of<T>), ": batch ", s.batch, " heads ", s.heads, " queries ", s.queries, " keys ",
       s.keys, " d ", s.head_dim, " gap ", c.gap, " shift ", c.shift, " spread ", c.spread,
       s.mask.causal ? " causal" : "", c.key_lengths.empty() ? "" : " padded");
  const Inputs<T> in(c);
  const Result found = on_cuda(c, in), expected = in_double(c, in);
  // In bf16 the sums are float; what is rounded on the way to an element is p and o, then delta's o, p, ds
  // and the gradient. A bound that grows with the sums would hide a wrong mask.
  const bool narrow = dtype_of<T> == DType::BF16;
  const int64_t forward = narrow ? 2 : s.keys + s.head_dim, backward = narrow ? 4 : forward + s.queries;
  CHECK(within<T>(found.o, expected.o, forward));
  CHECK(within<acc<T>>(found.lse, expected.lse, s.keys + s.head_dim));
  // Together: with one key dq and dk are exactly 0, a scale that no rounding fits.
  CHECK(within<T>(found.gradients(), expected.gradients(), backward));
}

const Case kCases[] = {
    {{1, 1, 1, 1, 1}},
    {{1, 1, 197, 197, 64}},
    {{1, 1, 197, 197, 32}},
    {{2, 2, 37, 37, 16}},         // padded to 32
    {{1, 1, 17, 40, 96}},         // wider than the tiled kernels take
    {{1, 2, 33, 29, 5}, 1.5, 1},  // rows that are not whole packs
    {{2, 2, 6, 6, 64}},           // the decoder's queries among themselves
    {{1, 2, 6, 196, 64}},         // and their look at the patches
    {{1, 1, 6, 196, 32}},
    {{1, 1, 100, 7, 64}},          // more queries than keys
    {{2, 2, 20, 20, 64}, 1.5, 8},  // gaps that keep the alignment
    {{1, 1, 40, 40, 64}, 1.5, 3},  // and that do not
    {{1, 1, 40, 40, 32}, 1.5, 0, 1},
    {{1, 1, 31, 1, 48}},
    {{1, 1, 1, 97, 80}},
    {{0, 2, 5, 5, 8}},
    {{2, 2, 0, 3, 8}},
};

void compare_alone(const Case& two, const Case& one) {
  const Result all = on_cuda(two, Inputs<bf16>(two)), alone = on_cuda(one, Inputs<bf16>(one));
  const auto begins_with = [](const Doubles& x, const Doubles& part) {
    return std::equal(part.begin(), part.end(), x.begin());
  };
  CHECK(begins_with(all.o, alone.o));
  CHECK(begins_with(all.lse, alone.lse));
  CHECK(begins_with(all.dq, alone.dq));
  CHECK(begins_with(all.dk, alone.dk));
  CHECK(begins_with(all.dv, alone.dv));
}

Case padded(Case c, std::vector<int32_t> lengths) {
  c.key_lengths = std::move(lengths);
  return c;
}
constexpr AttentionMask kCausal{.causal = true};
// Each family of kernels, on and beside the edges of its tiles.
const Case kMasked[] = {
    {{1, 2, 77, 77, 64, kCausal}},
    {{1, 1, 197, 197, 32, kCausal}},
    {{1, 1, 64, 64, 16, kCausal}},
    {{1, 1, 65, 129, 64, kCausal}},  // keys that no query sees
    {{1, 1, 130, 20, 32, kCausal}},  // queries that see all
    {{1, 1, 37, 37, 24, kCausal}, 1.5, 1},
    {{2, 1, 11, 11, 64, kCausal}},
    {{1, 1, 40, 40, 80, kCausal}},
    padded({{5, 1, 70, 70, 64}}, {70, 0, 1, 64, 65}),
    padded({{5, 1, 70, 70, 24, kCausal}}, {70, 0, 1, 64, 16}),
    padded({{3, 2, 35, 131, 32}}, {-1, 128, 1000}),
    padded({{3, 1, 131, 35, 32, kCausal}}, {17, 35, 0}),
    padded({{3, 1, 66, 66, 20, kCausal}, 1.5, 3}, {0, 33, 66}),
    padded({{3, 2, 6, 50, 32}}, {50, 33, 0}),
    padded({{3, 1, 34, 34, 72, kCausal}}, {34, 32, 0}),
};

}  // namespace

TEST_CASE_TEMPLATE("attention on CUDA: masks", T, float, bf16) {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (const Case& c : kMasked) compare<T>(c);
}

TEST_CASE_TEMPLATE("attention on CUDA equals the plain functions in double", T, float, bf16) {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (const Case& c : kCases) compare<T>(c);
}

TEST_CASE_TEMPLATE("attention on CUDA: more keys than fit one tile", T, float, bf16) {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (int64_t keys : {207, 208, 209, 256, 300}) compare<T>({{1, 1, 35, keys, 64}});
  compare<T>({{1, 1, 230, 64, 32}});
  compare<T>({{1, 1, 211, 211, 64}});
}

TEST_CASE_TEMPLATE("attention on CUDA: large scores neither overflow nor lose the sum", T, float, bf16) {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (int64_t keys : {50, 197, 230}) compare<T>({{1, 1, 20, keys, 64}, 4.5, 0, 0, true});
}

// On a GPU the runs differ by chance, in host-CUDA by the order of threads, blocks and copies.
TEST_CASE_TEMPLATE("attention on CUDA gives the same bits every time", T, float, bf16) {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (const Case& c :
       {Case{{1, 1, 197, 197, 64}}, Case{{2, 1, 6, 50, 32}}, Case{{1, 1, 20, 230, 32}},
        padded({{2, 1, 77, 77, 64, kCausal}}, {77, 20}), padded({{2, 1, 6, 50, 32}}, {0, 40})}) {
    const Inputs<T> in(c);
    const Result first = on_cuda(c, in);
    for (uint64_t seed = 2; seed <= 4; ++seed) {
#ifdef QFM_CUDA_HOST
      host_cuda::set_seed(seed);
#endif
      CHECK(on_cuda(c, in) == first);
    }
  }
#ifdef QFM_CUDA_HOST
  host_cuda::set_seed(1);
#endif
}

TEST_CASE("attention on CUDA: an image alone and in a batch gives the same bits") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  compare_alone({{2, 1, 60, 60, 64}}, {{1, 1, 60, 60, 64}});
  compare_alone(padded({{2, 1, 60, 60, 64, kCausal}}, {41, 60}), padded({{1, 1, 60, 60, 64, kCausal}}, {41}));
}

TEST_CASE("attention on CUDA: a shape without keys is refused") {
  CHECK_THROWS_AS(attention_forward<float>(Cuda{}, {1, 1, 1, 0, 8}, {}, nullptr, {}, {}, {}), Error);
}

}  // namespace qfm::test
