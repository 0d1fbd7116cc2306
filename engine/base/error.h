// qfm::Error and QFM_CHECK: the one way the library reports that something is wrong.
// Library code never exits and never prints; the program's main() turns an Error into one line.
#pragma once
#include <sstream>
#include <stdexcept>
#include <string>

namespace qfm {

// what() is the plain reason ("w.safetensors: header is cut short"), fit to be shown to a user.
// where() is the source position ("engine/tensor.cpp:41"), shown when QFM_DEBUG is set.
class Error : public std::runtime_error {
 public:
  Error(const std::string& what, const char* file, int line)
      : std::runtime_error(what), where_(std::string(file) + ":" + std::to_string(line)) {}
  const std::string& where() const { return where_; }

 private:
  std::string where_;
};

// A device or host allocation failed: separate, so that a caller may retry with a smaller batch.
class OutOfMemory : public Error {
 public:
  using Error::Error;
};

template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

}  // namespace qfm

// QFM_CHECK(rows > 0, "layernorm: rows is ", rows): throws qfm::Error when the condition is false.
#define QFM_CHECK(cond, ...)                                                         \
  do {                                                                               \
    if (!(cond)) throw ::qfm::Error(::qfm::concat(__VA_ARGS__), __FILE__, __LINE__); \
  } while (0)
#define QFM_FAIL(...) throw ::qfm::Error(::qfm::concat(__VA_ARGS__), __FILE__, __LINE__)
