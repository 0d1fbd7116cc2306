// kernels/matching/noise.cu and kernels/loss/qfm_losses.cu on a GPU or in host-CUDA against the plain functions.
#include <array>

#include "kernels/loss/qfm_losses.h"
#include "kernels/matching/noise.h"
#include "tests/kernels/cuda_kernels.h"

namespace qfm::test {
namespace {

constexpr auto rounding = Equal::Rounding;

// Numbers in the accumulation type, in the memory of the tag's device.
template <class Tag, class V>
Guarded<V> there(Tag, const std::vector<V>& values) {
  return Guarded<V>(std::is_same_v<Tag, Cuda> ? cuda_device : cpu_device, values);
}
// Every third is 0; all at least 0.
std::vector<float> weights(int64_t n) {
  auto w = random<float>("weight", 0, n);
  for (size_t i = 0; i < w.size(); ++i) w[i] = i % 3 == 1 ? 0.0f : std::fabs(w[i]) / static_cast<float>(n);
  return w;
}

TEST_CASE("match_weights on CUDA equals the plain one") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (int64_t n : {0, 1, 13, 197, 600}) {
    CAPTURE(n);
    std::vector<int32_t> partner;
    for (int64_t i = 0; i < n; ++i) partner.push_back(static_cast<int32_t>(i % 3) - 1);
    check_kernel<float>({"match_weights", {}, {}, {{n}}}, [&](auto dev, auto, auto, auto sums) {
      auto p = there(dev, partner);
      match_weights(dev, sums[0], p.data(), n);
    });
  }
}

TEST_CASE_TEMPLATE("normal noise on CUDA has the numbers of the streams", T, float, bf16) {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
#ifdef QFM_CUDA_HOST
  constexpr auto equal = Equal::Bits;
#else
  constexpr auto equal = rounding;  // a GPU's own log and cos
#endif
  for (const auto& [b, n] :
       {std::array<int64_t, 2>{0, 5}, {3, 0}, {1, 1}, {3, 13}, {2, 197 * 24}, {5, 1025}}) {
    CAPTURE(n);
    std::vector<StreamName> streams;
    for (int64_t i = 0; i < b; ++i)
      streams.push_back(Rng((uint64_t{7} << 40) + 5, "noise", 2, static_cast<uint32_t>(i * i)).name());
    check_kernel<T>({"draw_normal", {}, {{b * n, equal}}, {}},
                    [&, b = b, n = n](auto dev, auto, auto out, auto) {
                      auto s = there(dev, streams);
                      draw_normal(dev, out[0], s.data(), b, n);
                      if constexpr (std::is_same_v<decltype(dev), Cpu>)
                        for (int64_t i = 0; i < b; ++i) {
                          Rng rng((uint64_t{7} << 40) + 5, "noise", 2, static_cast<uint32_t>(i * i));
                          for (int64_t j = 0; j < n; ++j) {
                            const T drawn = T(rng.normal());
                            REQUIRE(static_cast<float>(out[0][i * n + j]) == static_cast<float>(drawn));
                          }
                        }
                    });
  }
}

TEST_CASE_TEMPLATE("the noise's search on CUDA equals the plain one", T, float, bf16) {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (int64_t n : {0, 1, 13, 300}) {
    CAPTURE(n);
    const auto trial = random<float>("trial", 0, n);
    check_kernel<T>({"keep_worst_case", {random<T>("score", 0, n), random<T>("clean", 0, n)}, {}, {{n}, {n}}},
                    [&](auto dev, auto in, auto, auto sums) {
                      auto zero = there(dev, std::vector<float>(static_cast<size_t>(n), 0.0f));
                      auto a = there(dev, trial);
                      cast(dev, sums[0], zero.data(), n), cast(dev, sums[1], zero.data(), n);
                      keep_worst_case(dev, sums[0], sums[1], a.data(), in[0], in[1], n);
                    });
  }
}

TEST_CASE_TEMPLATE("the method's losses on CUDA equal the plain ones", T, float, bf16) {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (int64_t n : {0, 1, 13, 197, 16400}) {  // above 16384: the sum takes a second launch
    CAPTURE(n);
    check_kernel<T>({"weighted_smooth_l1",
                     {random<T>("p", 0, n), random<T>("t", 0, n)},
                     {{n, rounding}},
                     {{1, rounding}},
                     n},
                    [&](auto dev, auto in, auto out, auto sums) {
                      auto w = there(dev, weights(n));
                      weighted_smooth_l1(dev, sums[0], out[0], in[0], in[1], w.data(), 0.5, n);
                    });
  }
  for (const auto& [b, r, c] :
       {std::array<int64_t, 3>{0, 6, 5}, {1, 1, 2}, {5, 6, 24}, {3, 1, 197}, {2, 8200, 2}}) {
    CAPTURE(c);
    // The rows' shares are floats for either type: the second launch that adds many is tried once.
    if (b * r > 16384 && !std::is_same_v<T, float>) continue;
    const int64_t n = b * r * c;
    check_kernel<T>({"cosine_distance",
                     {random<T>("a", 0, n), random<T>("c", 0, n)},
                     {{n, rounding}},
                     {{1, rounding}},
                     std::max<int64_t>(1, n)},
                    [&, b = b, r = r, c = c](auto dev, auto in, auto out, auto sums) {
                      auto w = there(dev, weights(b));
                      cosine_distance(dev, sums[0], out[0], in[0], in[1], w.data(), b, r, c, 1e-8);
                    });
  }
  for (const auto& [b, d] : {std::array<int64_t, 2>{1, 1}, {5, 13}, {9, 197}}) {
    CAPTURE(d);
    auto gates = random<T>("g", 0, b * d);
    for (T& g : gates) g = T(0.6f + 0.1f * static_cast<float>(g));
    for (const bool moving : {true, false})
      check_kernel<T>({"selection_loss", {gates}, {{b * d, rounding}}, {{1, rounding}}, b * d},
                      [&, b = b, d = d](auto dev, auto in, auto out, auto sums) {
                        const auto still = std::vector<float>(static_cast<size_t>(d), 0.0f);
                        auto v = there(dev, moving ? weights(d) : still);
                        selection_loss(dev, sums[0], out[0], in[0], v.data(), b, d);
                      });
  }
  for (const auto& [n, d] : {std::array<int64_t, 2>{1, 3}, {2, 1}, {9, 13}, {33, 48}}) {
    CAPTURE(n);
    auto targets = weights(n * n);
    for (int64_t i = 0; i < n; ++i) targets[static_cast<size_t>(i * n + i)] = 0;
    check_kernel<T>(
        {"similarity_cross_entropy", {random<T>("u", 0, n * d)}, {{n * d, rounding}}, {{1, rounding}}, n * d},
        [&, n = n, d = d](auto dev, auto in, auto out, auto sums) {
          auto t = there(dev, targets);
          auto work = there(dev, std::vector<float>(static_cast<size_t>(n * (n + 1)), 0.0f));
          similarity_cross_entropy(dev, sums[0], out[0], work.data(), in[0], t.data(), 1.0, n, d);
        });
  }
}

}  // namespace
}  // namespace qfm::test
