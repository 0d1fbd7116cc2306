// Random numbers that depend on what they are for, not on what was drawn before (Philox 4x32-10, Salmon et
// al. 2011).
//
// Every random decision draws from its own stream, keyed by (seed, purpose, epoch, sample): switching one
// module on or changing the number of workers changes nothing else, and CPU and CUDA compute equal numbers.
#pragma once
#include <array>
#include <cmath>
#include <cstdint>
#include <string_view>

namespace qfm {

// The ten rounds of Philox 4x32: 128 random bits for a counter and a key.
constexpr std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> c, std::array<uint32_t, 2> k) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * c[0], b = uint64_t{0xCD9E8D57u} * c[2];
    c = {static_cast<uint32_t>(b >> 32) ^ c[1] ^ k[0], static_cast<uint32_t>(b),
         static_cast<uint32_t>(a >> 32) ^ c[3] ^ k[1], static_cast<uint32_t>(a)};
    k = {k[0] + 0x9E3779B9u, k[1] + 0xBB67AE85u};
  }
  return c;
}

// FNV-1a of a name such as "crop" or "vit.blocks.0.attn.qkv.weight": the purpose of a stream.
constexpr uint32_t purpose(std::string_view name) {
  uint32_t h = 2166136261u;
  for (char ch : name) h = (h ^ static_cast<unsigned char>(ch)) * 16777619u;
  return h;
}

// One stream: key = seed (64 bits), counter = (draw, purpose, epoch, sample).
class Rng {
 public:
  Rng(uint64_t seed, std::string_view what, uint32_t epoch = 0, uint32_t sample = 0)
      : key_{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)},
        purpose_(purpose(what)),
        epoch_(epoch),
        sample_(sample) {}

  uint32_t next() {
    if (left_ == 0) {
      block_ = philox4x32({draw_++, purpose_, epoch_, sample_}, key_);
      left_ = 4;
    }
    return block_[4 - left_--];
  }
  // In [0, 1), 24 bits.
  float uniform() { return static_cast<float>(next() >> 8) * 0x1p-24f; }
  // In [0, n), n >= 1, by rejection: every value is equally likely.
  uint32_t below(uint32_t n) {
    const uint32_t limit = static_cast<uint32_t>(-n) % n;  // 2^32 mod n
    while (true) {
      const uint64_t product = uint64_t{next()} * n;
      if (static_cast<uint32_t>(product) >= limit) return static_cast<uint32_t>(product >> 32);
    }
  }
  // Standard normal (Box-Muller, one of the pair).
  float normal() {
    const double u = (next() + 1.0) * 0x1p-32, v = next() * 0x1p-32;
    return static_cast<float>(std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586 * v));
  }
  // Normal cut off at +-2 standard deviations (timm's trunc_normal_ cuts at +-2 absolute: the same for our
  // uses).
  float truncated_normal() {
    float x = normal();
    while (std::fabs(x) > 2.0f) x = normal();
    return x;
  }

 private:
  std::array<uint32_t, 2> key_;
  uint32_t purpose_, epoch_, sample_, draw_ = 0;
  std::array<uint32_t, 4> block_{};
  int left_ = 0;
};

}  // namespace qfm
