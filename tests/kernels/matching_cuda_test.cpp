// kernels/matching/matching.cu and crops.cu on a GPU or in host-CUDA, bit by bit against the plain functions.
#include <array>

#include "kernels/image/crops.h"
#include "kernels/matching/matching.h"
#include "tests/kernels/cuda_kernels.h"

namespace qfm::test {
namespace {

struct Photos {
  std::vector<float> z, score;
  std::vector<int64_t> image, reference, age;
  Photos(const char* name, int64_t n, int64_t dim) : z(random<float>(name, 0, n * dim)) {
    Rng rng(11, name);
    for (int64_t i = 0; i < n; ++i) {
      score.push_back(static_cast<float>(rng.below(30)) / 30.0f);
      image.push_back(rng.below(50)), reference.push_back(static_cast<int64_t>(rng.below(8)) - 2);
      age.push_back(rng.below(7));
    }
    if (n > 3) score[2] = std::numeric_limits<float>::quiet_NaN();
    // Many equal cosines: half of the descriptors are of the same few.
    for (int64_t i = 0; i < n * dim; ++i)
      if (i / dim % 2 == 1) z[static_cast<size_t>(i)] = i / dim % 4 == 1 ? -0.5f : 0.5f;
    if (n > 5 && dim > 0) z[static_cast<size_t>(5 * dim)] = std::numeric_limits<float>::quiet_NaN();
  }
};

TEST_CASE("nearest_match on CUDA finds the partners that the plain search finds") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  int64_t found_any = 0;
  for (const auto& [n, m, dim] : {std::array<int64_t, 3>{0, 5, 3},
                                  {5, 0, 3},
                                  {1, 1, 1},
                                  {7, 13, 5},
                                  {9, 128, 32},
                                  {16, 129, 33},
                                  {13, 197, 64},
                                  {33, 400, 7},
                                  {2, 40, 0}}) {
    CAPTURE(n);
    CAPTURE(m);
    const Photos q("queries", n, dim), p("memory", m, dim);
    const Device d = cuda_device;
    for (const float tau_s : {0.7f, -1.0f}) {
      const MatchRule rule{0.05f, tau_s};
      std::vector<int32_t> partner(static_cast<size_t>(n), -7);
      auto cosine = unwritten<float>(n);
      nearest_match(cpu, partner.data(), cosine.data(),
                    {q.z.data(), q.score.data(), q.image.data(), q.reference.data(), nullptr, n},
                    {p.z.data(), p.score.data(), p.image.data(), p.reference.data(), p.age.data(), m}, dim,
                    rule);
      found_any += std::count_if(partner.begin(), partner.end(), [](int32_t at) { return at >= 0; });
      for_schedules([&] {
        Guarded<float> qz(d, q.z), qs(d, q.score), pz(d, p.z, 1), ps(d, p.score), to_cosine(d, cosine.size());
        Guarded<int64_t> qi(d, q.image), qr(d, q.reference), pi(d, p.image), pr(d, p.reference), pa(d, p.age);
        Guarded<int32_t> to_partner(d, partner.size());
        nearest_match(Cuda{}, to_partner.data(), to_cosine.data(),
                      {qz.data(), qs.data(), qi.data(), qr.data(), nullptr, n},
                      {pz.data(), ps.data(), pi.data(), pr.data(), pa.data(), m}, dim, rule);
        CHECK(to_partner.values() == partner);
        CHECK(same_bits(to_cosine.values(), cosine));
      });
    }
  }
  CHECK(found_any > 20);
}

TEST_CASE_TEMPLATE("the noise on CUDA: gather_tokens", T, float, bf16) {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (const auto& [batch, tokens, dim] :
       {std::array<int64_t, 3>{0, 3, 5}, {1, 1, 1}, {3, 7, 13}, {5, 197, 8}, {4, 196, 192}, {2, 3, 0}}) {
    CAPTURE(batch);
    CAPTURE(tokens);
    CAPTURE(dim);
    const int64_t n = batch * tokens * dim;
    std::vector<int32_t> from, order;
    Rng rng(5, "order");
    for (int64_t b = 0; b < batch; ++b)
      from.push_back(static_cast<int32_t>(rng.below(static_cast<uint32_t>(batch + 1))) - 1);
    for (int64_t i = 0; i < batch * tokens; ++i)
      order.push_back(static_cast<int32_t>(rng.below(static_cast<uint32_t>(tokens))));
    check_kernel<T>({"noise", {random<T>("x", 0, n)}, {{n}}, {}}, [&](auto dev, auto in, auto out, auto) {
      const Device d = std::is_same_v<decltype(dev), Cuda> ? cuda_device : cpu_device;
      Guarded<int32_t> source(d, from), permutation(d, order);
      gather_tokens(dev, out[0], in[0], source.data(), permutation.data(), batch, tokens, dim);
    });
  }
}

TEST_CASE_TEMPLATE("put_rows on CUDA writes where it is told, and nowhere else", T, float, bf16) {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (const auto& [rows, cols] : {std::array<int64_t, 2>{0, 3}, {1, 1}, {3, 7}, {5, 197}, {16, 384}, {2, 0}})
    for (const int64_t first : {int64_t{0}, rows}) {
      CAPTURE(cols);
      check_kernel<T>({"put_rows", {random<T>("x", 0, rows * cols)}, {{3 * rows * cols}}, {}},
                      [&, rows = rows, cols = cols](auto dev, auto in, auto out, auto) {
                        const Device d = std::is_same_v<decltype(dev), Cuda> ? cuda_device : cpu_device;
                        std::vector<int64_t> to;  // the last row nowhere, the others in the opposite order
                        for (int64_t i = 0; i < rows; ++i)
                          to.push_back(rows > 1 && i + 1 == rows ? -1 : first + rows - 1 - i);
                        Guarded<int64_t> at(d, to);
                        put_rows(dev, out[0], in[0], at.data(), rows, cols);
                      });
    }
}

TEST_CASE("match_sums on CUDA adds what the plain function adds, in its order") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (const int64_t n : {0, 1, 31, 32, 33, 197}) {
    CAPTURE(n);
    const auto score = random<float>("score", 0, n), memory = random<float>("memory", 0, 50),
               cosine = random<float>("cosine", 0, n);
    std::vector<int32_t> partner;
    for (int64_t i = 0; i < n; ++i) partner.push_back(static_cast<int32_t>(i * 7 % 51) - 1);
    std::vector<double> sums{3, 1, 0.1, -0.7}, expected = sums;
    match_sums(cpu, expected.data(), partner.data(), cosine.data(), score.data(), memory.data(), n);
    CHECK(expected[0] == 3 + static_cast<double>(n));
    for_schedules([&] {
      const Device d = cuda_device;
      Guarded<double> to(d, sums);
      Guarded<int32_t> p(d, partner);
      Guarded<float> c(d, cosine), s(d, score), m(d, memory);
      match_sums(Cuda{}, to.data(), p.data(), c.data(), s.data(), m.data(), n);
      CHECK(same_bits(to.values(), expected));
    });
  }
}

TEST_CASE_TEMPLATE("crop_normalise on CUDA equals the plain function", T, float, bf16) {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  const ChannelScale scale{{0.485f, 0.456f, 0.406f}, {0.229f, 0.224f, 0.225f}};
  std::vector<uint8_t> wide(3 * 61 * 53), narrow(3 * 40 * 50);
  for (size_t i = 0; i < wide.size(); ++i) wide[i] = static_cast<uint8_t>(i * i / 7);
  for (size_t i = 0; i < narrow.size(); ++i) narrow[i] = static_cast<uint8_t>(i * 31);
  for (const int64_t crop : {0, 1, 7, 8, 16, 37, 40}) {
    CAPTURE(crop);
    const auto side = static_cast<int32_t>(crop);
    const int64_t n = 3 * 3 * crop * crop;
    check_kernel<T>({"crop_normalise", {}, {{n}}, {}}, [&](auto dev, auto, auto out, auto) {
      const Device d = std::is_same_v<decltype(dev), Cuda> ? cuda_device : cpu_device;
      Guarded<uint8_t> a(d, wide), b(d, narrow);
      Guarded<CropSource> sources(d, {{a.data(), 61, 53, 61 - side, 53 - side, 0},
                                      {b.data(), 40, 50, 0, 3, 1},
                                      {a.data(), 61, 53, 5, 0, 1}});
      crop_normalise(dev, out[0], sources.data(), scale, 3, crop);
      crop_normalise(dev, out[0], sources.data(), scale, 0, crop);
    });
  }
}

}  // namespace
}  // namespace qfm::test
