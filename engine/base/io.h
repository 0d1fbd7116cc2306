// Files: whole reads, and writes that leave either the old file or the new one, never a part.
#pragma once
#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace qfm {

// The whole file. Throws Error "PATH: reason" when it cannot be opened or read, is not a regular file, or is
// larger than `most` bytes.
std::vector<unsigned char> read_file(const std::string& path, size_t most = size_t{1} << 40);
std::string read_text(const std::string& path, size_t most = size_t{1} << 40);

// Writes PATH.tmp-PID beside the target, calls fsync, renames. Throws Error "PATH: reason"; the old file is
// then intact and the temporary one gone.
class AtomicFile {
 public:
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();  // without commit: removes the temporary file
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  void write(const void* data, size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  void commit();

 private:
  std::string path_, temporary_;
  int fd_;
};

void write_file(const std::string& path, std::string_view content);

}  // namespace qfm
