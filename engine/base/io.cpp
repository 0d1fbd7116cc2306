#include "engine/base/io.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "engine/base/error.h"

namespace qfm {

bool FileDescriptor::close() { return fd_ < 0 || ::close(std::exchange(fd_, -1)) == 0; }

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  close();
  fd_ = std::exchange(other.fd_, -1);
  return *this;
}

namespace {

// What is read from a pipe is held before it is looked at, so there is less of it than of a file.
std::vector<unsigned char> read_pipe(const FileDescriptor& pipe, const std::string& path, size_t most) {
  ::fcntl(pipe.get(), F_SETFL, ::fcntl(pipe.get(), F_GETFL) & ~O_NONBLOCK);  // opened so, for pipes that nobody writes to
  most = std::min(most, size_t{256} << 20);
  std::vector<unsigned char> data;
  for (size_t done = 0;;) {
    data.resize(std::max(size_t{1} << 16, 2 * done));
    const ssize_t n = ::read(pipe.get(), data.data() + done, data.size() - done);
    if (n < 0 && errno == EINTR) continue;
    QFM_CHECK(n >= 0, path, ": ", std::strerror(errno));
    done += static_cast<size_t>(n);
    QFM_CHECK(done <= most, path, ": a pipe of more than the ", most, " bytes allowed");
    if (n > 0) continue;
    data.resize(done);
    return data;
  }
}

}  // namespace

std::vector<unsigned char> read_file(const std::string& path, size_t most) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  QFM_CHECK(file.get() >= 0, path, ": ", std::strerror(errno));
  struct stat info {};
  QFM_CHECK(::fstat(file.get(), &info) == 0, path, ": ", std::strerror(errno));
  if (S_ISFIFO(info.st_mode)) return read_pipe(file, path, most);
  QFM_CHECK(S_ISREG(info.st_mode), path, ": neither a regular file nor a pipe");
  const auto size = static_cast<size_t>(info.st_size);
  QFM_CHECK(size <= most, path, ": ", size, " bytes is more than the ", most, " allowed");
  std::vector<unsigned char> data(size);
  size_t done = 0;
  while (done < size) {
    const ssize_t n = ::read(file.get(), data.data() + done, size - done);
    if (n < 0 && errno == EINTR) continue;
    QFM_CHECK(n >= 0, path, ": ", std::strerror(errno));
    QFM_CHECK(n > 0, path, ": truncated while being read");
    done += static_cast<size_t>(n);
  }
  return data;
}

std::string read_text(const std::string& path, size_t most) {
  const auto bytes = read_file(path, most);
  return {bytes.begin(), bytes.end()};
}

InputFile::InputFile(const std::string& path)
    : path_(path), file_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
  struct stat info {};
  QFM_CHECK(file_.get() >= 0 && ::fstat(file_.get(), &info) == 0, path, ": ", std::strerror(errno));
  QFM_CHECK(S_ISREG(info.st_mode), path, ": not a regular file");
  size_ = static_cast<uint64_t>(info.st_size);
}

void InputFile::read(uint64_t offset, void* to, size_t bytes) const {
  QFM_CHECK(offset <= size_ && bytes <= size_ - offset, path_, ": truncated");
  char* p = static_cast<char*>(to);
  while (bytes > 0) {
    const ssize_t n = ::pread(file_.get(), p, bytes, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    QFM_CHECK(n >= 0, path_, ": ", std::strerror(errno));
    QFM_CHECK(n > 0, path_, ": truncated");
    p += n, offset += static_cast<uint64_t>(n), bytes -= static_cast<size_t>(n);
  }
}

bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    text.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

void write_all(const FileDescriptor& file, std::string_view text, const std::string& path) {
  QFM_CHECK(write_all(file.get(), text), path, ": cannot be written: ", std::strerror(errno));
}

AtomicFile::AtomicFile(const std::string& path)
    : path_(path),
      unfinished_(concat(path, ".tmp-", ::getpid())),
      file_(::open(unfinished_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)) {
  check(file_.get() >= 0);
}

AtomicFile::~AtomicFile() {
  if (!committed_) ::unlink(unfinished_.c_str());
}

void AtomicFile::check(bool ok) const { QFM_CHECK(ok, path_, ": cannot be written: ", std::strerror(errno)); }

void AtomicFile::commit() {
  check(::fsync(file_.get()) == 0 && file_.close() && ::rename(unfinished_.c_str(), path_.c_str()) == 0);
  committed_ = true;
  // The rename itself must reach the disk too.
  const auto folder = std::filesystem::path(path_).parent_path();
  const FileDescriptor dir(::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (dir.get() >= 0) ::fsync(dir.get());
}

void write_file(const std::string& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content);
  file.commit();
}

}  // namespace qfm
