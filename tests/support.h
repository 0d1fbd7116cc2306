// What tests share: where golden files are, and the wording of a skip.
#pragma once
#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "engine/base/error.h"

namespace qfm::test {

// A file of tests/golden, which is in every clone.
inline std::string golden_path(const std::string& name) {
  return std::string(QFM_SOURCE_DIR) + "/tests/golden/" + name;
}

// A file of ../shared, which a fresh clone may lack: empty string where it is absent.
inline std::string shared_path(const std::string& name) {
  const auto path = std::filesystem::path(QFM_SOURCE_DIR) / "../shared" / name;
  return std::filesystem::exists(path) ? path.lexically_normal().string() : std::string();
}

// Tests of speed, and the longest ones, do less there.
#ifdef QFM_ASAN
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

// Counted by tools/test: each line that starts so is one skipped test.
#define QFM_SKIP(reason)            \
  do {                              \
    MESSAGE("skipped: " << reason); \
    return;                         \
  } while (0)

// Where many thousand small files are written faster: in memory, where the system has that.
inline std::filesystem::path memory_directory() {
  const std::filesystem::path memory = "/dev/shm";
  return std::filesystem::is_directory(memory) && ::access(memory.c_str(), W_OK) == 0
             ? memory
             : std::filesystem::temp_directory_path();
}

// A new empty folder under the system's temporary folder, removed at the end of the scope.
struct TemporaryFolder {
  std::filesystem::path path;
  explicit TemporaryFolder(const std::filesystem::path& above = std::filesystem::temp_directory_path()) {
    std::string name = (above / "qfm-test-XXXXXX").string();
    path = ::mkdtemp(name.data());
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  std::string operator/(const std::string& name) const { return (path / name).string(); }
};

// The message of the Error that f throws, which must be one line; empty where it throws none.
template <class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    const std::string message = error.what();
    CHECK_MESSAGE(message.find('\n') == std::string::npos, message);
    return message;
  }
  return "";
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace qfm::test
