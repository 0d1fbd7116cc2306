// Random numbers that depend on what they are for, not on what was drawn before (Philox 4x32-10, Salmon et
// al. 2011).
//
// Every random decision draws from its own stream, keyed by (seed, purpose, epoch, sample): switching one
// module on or changing the number of workers changes nothing else, and CPU and CUDA compute equal numbers.
#pragma once
#include <cmath>
#include <cstdint>
#include <string_view>

#include "engine/base/dtype.h"

namespace qfm {

// 128 random bits, or the counter that they belong to.
struct PhiloxBlock {
  uint32_t at[4];
  friend bool operator==(const PhiloxBlock&, const PhiloxBlock&) = default;
};
struct PhiloxKey {
  uint32_t at[2];
};

// The ten rounds of Philox 4x32.
QFM_HD constexpr PhiloxBlock philox4x32(PhiloxBlock c, PhiloxKey k) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * c.at[0], b = uint64_t{0xCD9E8D57u} * c.at[2];
    c = {{static_cast<uint32_t>(b >> 32) ^ c.at[1] ^ k.at[0], static_cast<uint32_t>(b),
          static_cast<uint32_t>(a >> 32) ^ c.at[3] ^ k.at[1], static_cast<uint32_t>(a)}};
    k = {{k.at[0] + 0x9E3779B9u, k.at[1] + 0xBB67AE85u}};
  }
  return c;
}

// A standard normal number of two draws (Box-Muller, one of the pair).
QFM_HD inline float normal_of(uint32_t first, uint32_t second) {
  const double u = (first + 1.0) * 0x1p-32, v = second * 0x1p-32;
  return static_cast<float>(std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586 * v));
}

// FNV-1a of a name such as "crop" or "vit.blocks.0.attn.qkv.weight": the purpose of a stream.
constexpr uint32_t purpose(std::string_view name) {
  uint32_t h = 2166136261u;
  for (char ch : name) h = (h ^ static_cast<unsigned char>(ch)) * 16777619u;
  return h;
}

// A stream in numbers: what a kernel needs to draw from it.
struct StreamName {
  PhiloxKey seed;
  uint32_t purpose, epoch, sample;
  // Draws 4 i .. 4 i + 3.
  QFM_HD PhiloxBlock block(uint32_t i) const { return philox4x32({{i, purpose, epoch, sample}}, seed); }
};

// One stream: key = seed (64 bits), counter = (draw, purpose, epoch, sample).
class Rng {
 public:
  Rng(uint64_t seed, std::string_view what, uint32_t epoch = 0, uint32_t sample = 0)
      : name_{{{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)}},
              purpose(what),
              epoch,
              sample} {}
  const StreamName& name() const { return name_; }

  uint32_t next() {
    if (left_ == 0) {
      block_ = name_.block(draw_++);
      left_ = 4;
    }
    return block_.at[4 - left_--];
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
  // Standard normal.
  float normal() {
    const uint32_t first = next(), second = next();
    return normal_of(first, second);
  }
  // Normal cut off at +-2 standard deviations (timm's trunc_normal_ cuts at +-2 absolute: the same
  // for our uses).
  float truncated_normal() {
    float x = normal();
    while (std::fabs(x) > 2.0f) x = normal();
    return x;
  }

 private:
  StreamName name_;
  uint32_t draw_ = 0;
  PhiloxBlock block_{};
  int left_ = 0;
};

}  // namespace qfm
