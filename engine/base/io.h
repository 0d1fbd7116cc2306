// Files: whole reads, and writes that leave either the old file or the new one, never a part.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qfm {

// The whole file, or what a pipe gives until its end (`<(heif-convert ...)`, /dev/stdin): at most `most` bytes, of a pipe
// 256 MiB. Throws Error "PATH: reason" when it cannot be opened or read, is neither, or is larger.
std::vector<unsigned char> read_file(const std::string& path, size_t most = size_t{1} << 40);
std::string read_text(const std::string& path, size_t most = size_t{1} << 40);

// A POSIX file descriptor, closed at the end of its life; -1: none.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  ~FileDescriptor() { close(); }
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  int get() const { return fd_; }
  bool close();  // false: closing failed

 private:
  int fd_ = -1;
};

// A regular file, read at any place.
class InputFile {
 public:
  explicit InputFile(const std::string& path);  // throws Error "PATH: reason"
  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }
  // Throws Error "PATH: truncated" where the file has fewer bytes.
  void read(uint64_t offset, void* to, size_t bytes) const;

 private:
  std::string path_;
  FileDescriptor file_;
  uint64_t size_ = 0;
};

// All of `text`, however many writes that takes. False: errno has the reason.
bool write_all(int fd, std::string_view text);
// Throws Error "PATH: cannot be written: reason".
void write_all(const FileDescriptor& file, std::string_view text, const std::string& path);

// Writes a file beside the target and renames it in commit(), after fsync: the target is the old one or
// complete. All throw Error "PATH: reason"; the old file is then intact. Without commit() PATH.tmp-PID is removed.
class AtomicFile {
 public:
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  void write(const void* data, size_t bytes) { write({static_cast<const char*>(data), bytes}); }
  void write(std::string_view text) { write_all(file_, text, path_); }
  void commit();

 private:
  void check(bool ok) const;

  const std::string path_, unfinished_;
  FileDescriptor file_;
  bool committed_ = false;
};

void write_file(const std::string& path, std::string_view content);

}  // namespace qfm
