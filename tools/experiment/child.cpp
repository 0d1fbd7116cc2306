#include "tools/experiment/child.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <mutex>
#include <set>

#include "engine/base/error.h"

namespace qfm {
namespace {

std::mutex mutex;
std::set<pid_t> children;

// Only what is safe between fork and exec.
[[noreturn]] void become(char* const* argv, int log, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(127);  // it died before prctl
  ::dup2(log, STDOUT_FILENO);
  ::dup2(log, STDERR_FILENO);
  ::execv("/proc/self/exe", argv);
  ::_exit(127);
}

}  // namespace

int run_self(const std::vector<std::string>& arguments, const std::string& log) {
  std::vector<std::string> words{"qfm"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (auto& w : words) argv.push_back(w.data());
  argv.push_back(nullptr);
  const int file = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  QFM_CHECK(file >= 0, log, ": ", std::strerror(errno));
  const pid_t parent = ::getpid();
  pid_t child;
  {
    const std::lock_guard lock(mutex);
    child = ::fork();
    if (child == 0) become(argv.data(), file, parent);
    if (child > 0) children.insert(child);
  }
  const int failure = errno;
  ::close(file);
  QFM_CHECK(child > 0, "a process cannot be started: ", std::strerror(failure));
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  const std::lock_guard lock(mutex);
  children.erase(child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void stop_children() {
  const std::lock_guard lock(mutex);
  for (pid_t child : children) ::kill(child, SIGTERM);
}

}  // namespace qfm
