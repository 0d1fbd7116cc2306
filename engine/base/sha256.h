// SHA-256 (FIPS 180-4): names the exact bytes of a model or a split in results.
#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "engine/base/io.h"

namespace qfm {
namespace detail {

// The first 32 bits of the fractions of cube roots (64 of them) or square roots (8) of the first primes.
template <size_t N>
std::array<uint32_t, N> prime_root_fractions(int power) {
  std::array<uint32_t, N> result{};
  size_t found = 0;
  for (uint64_t p = 2; found < N; ++p) {
    bool prime = true;
    for (uint64_t d = 2; d * d <= p; ++d) prime = prime && p % d != 0;
    if (!prime) continue;
    // The largest x with x^power <= p * 2^(32 * power), in 128-bit integers; its low 32 bits
    // are the fraction.
    unsigned __int128 root = 0;
    for (int bit = 37; bit >= 0; --bit) {
      const unsigned __int128 x = root | (static_cast<unsigned __int128>(1) << bit);
      const unsigned __int128 limit = static_cast<unsigned __int128>(p) << (32 * power);
      if ((power == 2 ? x * x : x * x * x) <= limit) root = x;
    }
    result[found++] = static_cast<uint32_t>(root);
  }
  return result;
}

}  // namespace detail

// 64 lower-case hexadecimal digits.
inline std::string sha256(std::span<const unsigned char> data) {
  static const auto constants = detail::prime_root_fractions<64>(3);
  auto state = detail::prime_root_fractions<8>(2);
  const auto block = [&](const unsigned char* p) {
    std::array<uint32_t, 64> w;
    for (size_t i = 0; i < 16; ++i)
      w[i] = uint32_t{p[4 * i]} << 24 | uint32_t{p[4 * i + 1]} << 16 | uint32_t{p[4 * i + 2]} << 8 |
             p[4 * i + 3];
    for (size_t i = 16; i < 64; ++i) {
      const uint32_t a = w[i - 15], b = w[i - 2];
      w[i] = w[i - 16] + (std::rotr(a, 7) ^ std::rotr(a, 18) ^ a >> 3) + w[i - 7] +
             (std::rotr(b, 17) ^ std::rotr(b, 19) ^ b >> 10);
    }
    auto [a, b, c, d, e, f, g, h] = state;
    for (size_t i = 0; i < 64; ++i) {
      const uint32_t t1 = h + (std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25)) + ((e & f) ^ (~e & g)) +
                          constants[i] + w[i];
      const uint32_t t2 =
          (std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
      h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
    }
    const std::array<uint32_t, 8> add{a, b, c, d, e, f, g, h};
    for (size_t i = 0; i < 8; ++i) state[i] += add[i];
  };

  const size_t whole = data.size() / 64 * 64;
  for (size_t i = 0; i < whole; i += 64) block(data.data() + i);
  // The rest, a one bit, zeros, and the length in bits.
  std::array<unsigned char, 128> last{};
  const size_t rest = data.size() - whole, size = rest < 56 ? 64 : 128;
  std::copy(data.begin() + static_cast<ptrdiff_t>(whole), data.end(), last.begin());
  last[rest] = 0x80;
  for (size_t i = 0; i < 8; ++i)
    last[size - 1 - i] = static_cast<unsigned char>(uint64_t{data.size()} * 8 >> (8 * i));
  for (size_t i = 0; i < size; i += 64) block(last.data() + i);

  std::string text;
  for (uint32_t word : state)
    for (int shift = 28; shift >= 0; shift -= 4) text += "0123456789abcdef"[word >> shift & 15];
  return text;
}

inline std::string sha256(std::string_view text) {
  return sha256(std::span(reinterpret_cast<const unsigned char*>(text.data()), text.size()));
}

// Throws Error "PATH: reason".
inline std::string sha256_of_file(const std::string& path) { return sha256(read_file(path)); }

}  // namespace qfm
