// Protocol Buffers' wire format, of which an ONNX file is made: fields, each a number and a value.
#pragma once
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace qfm {

class ProtoMessage {
 public:
  ProtoMessage& integer(int field, int64_t value) {
    key(field, 0), varint(static_cast<uint64_t>(value));
    return *this;
  }
  ProtoMessage& real(int field, float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    key(field, 5);
    for (int i = 0; i < 4; ++i) bytes_ += static_cast<char>(bits >> 8 * i);
    return *this;
  }
  // A text, bytes, or a message.
  ProtoMessage& bytes(int field, std::string_view value) {
    key(field, 2), varint(value.size()), bytes_ += value;
    return *this;
  }
  ProtoMessage& message(int field, const ProtoMessage& value) { return bytes(field, value.bytes_); }
  const std::string& str() const { return bytes_; }

 private:
  void key(int field, int kind) { varint(static_cast<uint64_t>(field << 3 | kind)); }
  void varint(uint64_t value) {
    for (; value > 127; value >>= 7) bytes_ += static_cast<char>(value | 128);
    bytes_ += static_cast<char>(value);
  }
  std::string bytes_;
};

}  // namespace qfm
