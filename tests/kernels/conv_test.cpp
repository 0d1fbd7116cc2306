// Convolutions large enough to be cut in blocks and steps, against the reference, with any number of threads.
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "kernels/conv/conv2d.h"
#include "tests/kernels/numbers.h"
#include "tests/scopes.h"
#include "tests/tolerance.h"

namespace qfm::test {
namespace {

using Floats = std::vector<float>;

struct Results {
  Floats y, dx, dw, db;
};
Results run(const ConvShape& s) {
  const int64_t in = s.batch * s.in_channels * s.height * s.width,
                weights = s.out_channels * s.group_in() * s.taps(),
                out = s.batch * s.out_channels * s.out_height() * s.out_width();
  const auto x = random<float>("x", 0, in), w = random<float>("w", 0, weights),
             dy = random<float>("dy", 0, out);
  const auto filled = [](int64_t n) { return Floats(static_cast<size_t>(n), NAN); };
  Results r{filled(out), filled(in), filled(weights), filled(s.out_channels)};
  conv2d_forward<float>(Cpu{}, s, r.y.data(), x.data(), w.data());
  conv2d_dx<float>(Cpu{}, s, r.dx.data(), dy.data(), w.data());
  conv2d_dw<float>(Cpu{}, s, r.dw.data(), r.db.data(), dy.data(), x.data());
  return r;
}

void check(const Floats& found, const Floats& expected, int64_t length) {
  CHECK(within<float>(converted<double>(found), converted<double>(expected), length));
}

TEST_CASE(
    "convolutions in several blocks and steps equal the reference, with the same bits for any threads") {
  const Window same{3, 1, 1, 1}, half{3, 2, 1, 1};
  for (const ConvShape& s : {ConvShape{1, 150, 12, 12, 130, 1, same, same},
                             {2, 21, 23, 25, 70, 1, half, same},
                             {1, 60, 9, 40, 240, 2, {5, 1, 2, 2}, half}}) {
    Results expected;
    {
      const PathScope plain(CpuIsa::Plain);
      expected = run(s);
    }
    for (const CpuIsa path : {CpuIsa::Avx2, CpuIsa::Avx512}) {
      if (!available(path)) continue;
      const PathScope scope(path);
      ThreadScope one(1);
      const Results alone = run(s);
      check(alone.y, expected.y, s.group_in() * s.taps());
      check(alone.dx, expected.dx, s.group_out() * s.taps());
      check(alone.dw, expected.dw, s.batch * s.out_height() * s.out_width());
      check(alone.db, expected.db, s.batch * s.out_height() * s.out_width());
      for (const int n : {2, 5}) {
        ThreadScope several(n);
        const Results found = run(s);
        CHECK(found.y == alone.y);
        CHECK(found.dx == alone.dx);
        CHECK(found.dw == alone.dw);
        CHECK(found.db == alone.db);
      }
    }
  }
}

}  // namespace
}  // namespace qfm::test
