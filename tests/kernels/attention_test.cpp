// Attention: the plain code against finite differences, every path against the plain code, equal bits, masks against
// attention over the keys that they leave.
#include "kernels/attention/attention.h"

#include "engine/base/error.h"
#include "tests/kernels/numbers.h"
#include "tests/support.h"
#include "tests/tolerance.h"

namespace qfm::test {
namespace {

using Shape = AttentionShape;

// One call, forward and backward, in rows wider than they need be, by an odd and an even number: q, k, v are views of one
// packed tensor where there are as many queries as keys, and the gaps must keep their bits.
template <class T>
struct Problem {
  Shape s;
  int64_t dim = s.heads * s.head_dim, ld = 3 * dim + 5 + s.heads % 2;
  std::vector<T> q, k, v, d_o;
  explicit Problem(Shape s)
      : s(s),
        q(random<T>("q", 0, s.batch * s.queries * ld)),
        k(random<T>("k", 1, s.batch * s.keys * ld)),
        v(random<T>("v", 2, s.batch * s.keys * ld)),
        d_o(random<T>("do", 3, s.batch * s.queries * ld)) {}
};

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

// The view's elements; checks that everything outside it was left alone.
template <class T>
Doubles elements(const std::vector<T>& x, int64_t ld, int64_t dim) {
  const Doubles all = converted<double>(x);
  Doubles y;
  bool untouched = true;
  for (size_t i = 0; i < all.size(); ++i)
    if (static_cast<int64_t>(i) % ld < dim) y.push_back(all[i]);
    else untouched = untouched && std::isnan(all[i]);
  CHECK(untouched);
  return y;
}

template <class T>
Result run(const Problem<T>& p) {
  const auto view = [&](auto& x) { return Heads<std::remove_reference_t<decltype(x[0])>>{x.data(), p.ld}; };
  auto o = unwritten<T>(p.s.batch * p.s.queries * p.ld), dq = o;
  auto dk = unwritten<T>(p.s.batch * p.s.keys * p.ld), dv = dk;
  auto lse = unwritten<acc<T>>(p.s.batch * p.s.heads * p.s.queries);
  attention_forward<T>(cpu, p.s, view(o), lse.data(), view(p.q), view(p.k), view(p.v));
  const auto& written = o;
  attention_backward<T>(cpu, p.s, view(dq), view(dk), view(dv), view(p.d_o), view(p.q), view(p.k), view(p.v),
                        view(written), lse.data());
  const auto part = [&](const auto& x) { return elements(x, p.ld, p.dim); };
  auto no_lse = unwritten<T>(static_cast<int64_t>(o.size()));
  attention_forward<T>(cpu, p.s, view(no_lse), nullptr, view(p.q), view(p.k), view(p.v));
  CHECK(part(no_lse) == part(o));
  return {part(o), converted<double>(lse), part(dq), part(dk), part(dv)};
}

constexpr int32_t kLengths[] = {13, 0, 30};
constexpr AttentionMask kCausal{.causal = true}, kPadded{.key_lengths = kLengths}, kBoth{true, kLengths};

const Shape kShapes[] = {{1, 1, 1, 1, 1},    {2, 3, 197, 197, 64}, {1, 2, 6, 6, 32},  {2, 1, 6, 196, 64},
                         {3, 2, 5, 13, 7},   {1, 1, 15, 33, 17},   {1, 2, 31, 1, 48}, {1, 1, 1, 97, 80},
                         {1, 3, 197, 8, 16}, {0, 2, 5, 5, 8},      {2, 2, 0, 3, 8}};
const Shape kMasked[] = {{1, 1, 1, 1, 1, kCausal},   {1, 2, 77, 77, 64, kCausal}, {2, 1, 31, 31, 17, kCausal},
                         {2, 1, 45, 9, 32, kCausal}, {2, 1, 9, 45, 32, kCausal},  {3, 2, 31, 31, 16, kPadded},
                         {3, 1, 6, 40, 9, kPadded},  {3, 2, 33, 33, 32, kBoth},   {3, 1, 31, 21, 7, kBoth},
                         {3, 1, 11, 31, 48, kBoth}};

// `queries` of one image from the first on, and its first keys, as a problem of its own without a mask.
template <class T>
Problem<T> part_of(const Problem<T>& p, int64_t image, int64_t first, int64_t queries, int64_t keys) {
  Problem<T> part({1, p.s.heads, queries, keys, p.s.head_dim});
  const auto rows = [&](const std::vector<T>& x, int64_t from, int64_t count) {
    return std::vector<T>(x.begin() + from * p.ld, x.begin() + (from + count) * p.ld);
  };
  part.q = rows(p.q, image * p.s.queries + first, queries);
  part.d_o = rows(p.d_o, image * p.s.queries + first, queries);
  part.k = rows(p.k, image * p.s.keys, keys), part.v = rows(p.v, image * p.s.keys, keys);
  return part;
}
Doubles slice(const Doubles& x, int64_t from, int64_t count) {
  return Doubles(x.begin() + from, x.begin() + from + count);
}

double loss(const Problem<double>& p) {
  const Doubles o = run(p).o;
  double sum = 0;
  for (size_t i = 0; i < o.size(); ++i) sum += o[i] * p.d_o[i / p.dim * p.ld + i % p.dim];
  return sum;
}

// dLoss/dx for each element of x's view, loss = sum of o * d_o.
void check_gradient(Problem<double> p, Doubles Problem<double>::*x, const Doubles& found) {
  const double step = 1e-5;
  for (size_t i = 0; i < found.size(); ++i) {
    double& value = (p.*x)[i / p.dim * p.ld + i % p.dim];
    const double at = value;
    value = at + step;
    const double above = loss(p);
    value = at - step;
    const double below = loss(p);
    value = at;
    CHECK(found[i] == doctest::Approx((above - below) / (2 * step)).epsilon(1e-6));
  }
}

template <class T>
void compare_with_plain(const Shape& s) {
  const Problem<T> p(s);
  Result expected;
  {
    PathScope plain(CpuIsa::Plain);
    expected = run(p);
  }
  for (const CpuPath& path : simd_paths()) {
    PathScope scope(path);
    INFO(name_of(path), " ", name_of(dtype_of<T>), ": queries ", s.queries, " keys ", s.keys, " d ",
         s.head_dim);
    const Result found = run(p);
    const int64_t forward = s.keys + s.head_dim, backward = forward + s.queries;
    CHECK(within<T>(found.o, expected.o, forward));
    CHECK(within<acc<T>>(found.lse, expected.lse, forward));
    // Together: with one key dq and dk are exactly 0, a scale that no rounding fits.
    CHECK(within<T>(found.gradients(), expected.gradients(), backward));
  }
}

}  // namespace

TEST_CASE("attention: the plain forward is softmax(q k^T / sqrt(d)) v") {
  PathScope plain(CpuIsa::Plain);
  const Problem<double> p({2, 2, 3, 5, 4});
  const Result found = run(p);
  const auto at = [&](const Doubles& x, int64_t tokens, int64_t b, int64_t h, int64_t t, int64_t c) {
    return x[(b * tokens + t) * p.ld + h * p.s.head_dim + c];
  };
  Doubles o(found.o.size()), lse;
  for (int64_t b = 0; b < p.s.batch; ++b)
    for (int64_t h = 0; h < p.s.heads; ++h)
      for (int64_t i = 0; i < p.s.queries; ++i) {
        double sum = 0;
        Doubles weighted(p.s.head_dim);
        for (int64_t j = 0; j < p.s.keys; ++j) {
          double score = 0;
          for (int64_t c = 0; c < p.s.head_dim; ++c)
            score += at(p.q, p.s.queries, b, h, i, c) * at(p.k, p.s.keys, b, h, j, c);
          const double e = std::exp(score / 2);  // sqrt(4)
          sum += e;
          for (int64_t c = 0; c < p.s.head_dim; ++c) weighted[c] += e * at(p.v, p.s.keys, b, h, j, c);
        }
        for (int64_t c = 0; c < p.s.head_dim; ++c)
          o[(b * p.s.queries + i) * p.dim + h * p.s.head_dim + c] = weighted[c] / sum;
        lse.push_back(std::log(sum));
      }
  check_close("o", found.o, o, DType::F64, 9);
  check_close("lse", found.lse, lse, DType::F64, 9);
}

TEST_CASE("attention: the plain backward equals central differences") {
  PathScope plain(CpuIsa::Plain);
  constexpr int32_t lengths[] = {2, 0, 4};
  for (const Shape& s : {Shape{2, 2, 3, 4, 5},
                         {1, 1, 1, 1, 3},
                         {1, 2, 6, 2, 1},
                         {1, 1, 5, 5, 2, kCausal},
                         {3, 1, 3, 4, 2, {false, lengths}},
                         {3, 1, 5, 4, 3, {true, lengths}}}) {
    const Problem<double> p(s);
    const Result found = run(p);
    check_gradient(p, &Problem<double>::q, found.dq);
    check_gradient(p, &Problem<double>::k, found.dk);
    check_gradient(p, &Problem<double>::v, found.dv);
  }
}

TEST_CASE("attention: every path agrees with the plain code") {
  for (const Shape& s : kShapes) {
    compare_with_plain<float>(s);
    compare_with_plain<bf16>(s);
  }
  for (const Shape& s : kMasked) {
    compare_with_plain<float>(s);
    compare_with_plain<bf16>(s);
  }
}

TEST_CASE_TEMPLATE("attention: padded keys count as little as absent ones", T, float, bf16, double) {
  for (const CpuPath& path : all_paths()) {
    PathScope scope(path);
    CAPTURE(name_of(path));
    Problem<T> p({3, 2, 31, 31, 16, kPadded});
    for (int64_t b = 0; b < p.s.batch; ++b)
      for (int64_t j = kLengths[b]; j < p.s.keys; ++j)
        for (int64_t c = 0; c < p.dim; ++c)
          p.k[(b * p.s.keys + j) * p.ld + c] = p.v[(b * p.s.keys + j) * p.ld + c] = unwritten<T>(1)[0];
    const Result found = run(p);
    for (int64_t b = 0; b < p.s.batch; ++b) {
      CAPTURE(kLengths[b]);
      const int64_t there = kLengths[b] * p.dim, rest = (p.s.keys - kLengths[b]) * p.dim,
                    of_queries = p.s.queries * p.dim, of_keys = p.s.keys * p.dim,
                    rows = p.s.heads * p.s.queries;
      Result alone{Doubles(of_queries), Doubles(rows, -INFINITY), Doubles(of_queries), {}, {}};
      if (kLengths[b] > 0) alone = run(part_of(p, b, 0, p.s.queries, kLengths[b]));
      CHECK(slice(found.o, b * of_queries, of_queries) == alone.o);
      CHECK(slice(found.lse, b * rows, rows) == alone.lse);
      CHECK(slice(found.dq, b * of_queries, of_queries) == alone.dq);
      CHECK(slice(found.dk, b * of_keys, there) == alone.dk);
      CHECK(slice(found.dv, b * of_keys, there) == alone.dv);
      CHECK(slice(found.dk, b * of_keys + there, rest) == Doubles(rest));
      CHECK(slice(found.dv, b * of_keys + there, rest) == Doubles(rest));
    }
  }
}

TEST_CASE_TEMPLATE("attention: a causal query equals one with the keys up to its own", T, float, bf16,
                   double) {
  for (const CpuPath& path : all_paths()) {
    PathScope scope(path);
    CAPTURE(name_of(path));
    for (const Shape& s :
         {Shape{1, 1, 21, 21, 16, kCausal}, {1, 1, 19, 5, 9, kCausal}, {1, 1, 5, 19, 9, kCausal}}) {
      const Problem<T> p(s);
      const Result found = run(p);
      Doubles dk(found.dk.size()), dv = dk;
      for (int64_t i = 0; i < s.queries; ++i) {
        CAPTURE(i);
        const Result alone = run(part_of(p, 0, i, 1, std::min(i + 1, s.keys)));
        CHECK(slice(found.o, i * p.dim, p.dim) == alone.o);
        CHECK(found.lse[i] == alone.lse[0]);
        CHECK(slice(found.dq, i * p.dim, p.dim) == alone.dq);
        for (size_t e = 0; e < alone.dk.size(); ++e) dk[e] += alone.dk[e], dv[e] += alone.dv[e];
      }
      CHECK(within<T>(found.dk, dk, s.queries + s.keys));
      CHECK(within<T>(found.dv, dv, s.queries + s.keys));
    }
  }
}

TEST_CASE("attention: lengths beyond the keys are all of them, below 0 none") {
  constexpr int32_t wild[] = {40, -3, 7}, tame[] = {31, 0, 7};
  for (const CpuPath& path : all_paths()) {
    PathScope scope(path);
    CHECK(run(Problem<float>({3, 1, 5, 31, 8, {false, wild}})) ==
          run(Problem<float>({3, 1, 5, 31, 8, {false, tame}})));
  }
}

TEST_CASE("attention: the FLOPs of a mask are those of the keys that queries see") {
  const auto pairs = [](int64_t queries, int64_t keys) {
    return Shape{1, 1, queries, keys, 1, kCausal}.forward_flops() / 4;
  };
  CHECK(pairs(4, 4) == 10);
  CHECK(pairs(2, 9) == 3);
  CHECK(pairs(5, 3) == 1 + 2 + 3 + 3 + 3);
  CHECK(Shape{2, 3, 5, 3, 7}.forward_flops() == 4 * 2 * 3 * 5 * 3 * 7);
}

TEST_CASE("attention: large scores neither overflow nor lose the sum") {
  for (const CpuPath& path : simd_paths()) {
    PathScope scope(path);
    Problem<float> p({1, 1, 14, 50, 8});
    for (float& x : p.q) x *= 300;
    const Result found = run(p);
    for (double v : found.o) CHECK(std::isfinite(v));
    for (double v : found.dk) CHECK(std::isfinite(v));
    compare_with_plain<float>(p.s);
  }
}

TEST_CASE_TEMPLATE("attention: any number of threads, and an image alone or in a batch, give the same bits", T, float,
                   bf16) {
  for (const CpuPath& path : all_paths())
    for (const AttentionMask& mask : {AttentionMask{}, kBoth}) {
      PathScope scope(path);
      CAPTURE(name_of(path));
      const Problem<T> p({3, 2, 61, 77, 32, mask});
      ThreadScope one(1);
      const Result expected = run(p);
      for (int n : {2, 3}) {
        ThreadScope several(n);
        CHECK(run(p) == expected);
      }
      Problem<T> alone = p;
      alone.s.batch = 1;
      const Result first = run(alone);
      const auto begins_with = [](const Doubles& all, const Doubles& part) {
        return std::equal(part.begin(), part.end(), all.begin());
      };
      CHECK(begins_with(expected.o, first.o));
      CHECK(begins_with(expected.lse, first.lse));
      CHECK(begins_with(expected.dq, first.dq));
      CHECK(begins_with(expected.dk, first.dk));
      CHECK(begins_with(expected.dv, first.dv));
    }
}

TEST_CASE("attention: a shape without keys is refused") {
  CHECK_THROWS_AS(attention_forward<float>(cpu, {1, 1, 1, 0, 8}, {}, nullptr, {}, {}, {}), Error);
}

}  // namespace qfm::test
