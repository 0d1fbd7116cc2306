#include "engine/base/io.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "engine/base/error.h"

namespace qfm {
namespace {

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

}  // namespace

std::vector<unsigned char> read_file(const std::string& path, size_t most) {
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  QFM_CHECK(file.fd >= 0, path, ": ", std::strerror(errno));
  struct stat info {};
  QFM_CHECK(::fstat(file.fd, &info) == 0, path, ": ", std::strerror(errno));
  QFM_CHECK(S_ISREG(info.st_mode), path, ": not a regular file");
  const auto size = static_cast<size_t>(info.st_size);
  QFM_CHECK(size <= most, path, ": ", size, " bytes is more than the ", most, " allowed");
  std::vector<unsigned char> data(size);
  size_t done = 0;
  while (done < size) {
    const ssize_t n = ::read(file.fd, data.data() + done, size - done);
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

AtomicFile::AtomicFile(const std::string& path)
    : path_(path),
      temporary_(concat(path, ".tmp-", ::getpid())),
      fd_(::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)) {
  QFM_CHECK(fd_ >= 0, path_, ": cannot be written: ", std::strerror(errno));
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::write(const void* data, size_t bytes) {
  const char* p = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n = ::write(fd_, p, bytes);
    if (n < 0 && errno == EINTR) continue;
    QFM_CHECK(n > 0, path_, ": cannot be written: ", std::strerror(errno));
    p += n, bytes -= static_cast<size_t>(n);
  }
}

void AtomicFile::commit() {
  QFM_CHECK(::fsync(fd_) == 0, path_, ": cannot be written: ", std::strerror(errno));
  const int fd = fd_;
  fd_ = -1;
  const bool ok = ::close(fd) == 0 && ::rename(temporary_.c_str(), path_.c_str()) == 0;
  const int why = errno;
  if (!ok) ::unlink(temporary_.c_str());
  QFM_CHECK(ok, path_, ": cannot be written: ", std::strerror(why));
  // The rename itself must reach the disk too.
  auto folder = std::filesystem::path(path_).parent_path();
  const Descriptor dir{::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (dir.fd >= 0) ::fsync(dir.fd);
}

void write_file(const std::string& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content);
  file.commit();
}

}  // namespace qfm
