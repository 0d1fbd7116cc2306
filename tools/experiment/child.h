// The program, run again as a child process.
#pragma once
#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

namespace qfm {

class Child {
 public:
  // Starts this program with `arguments`, its output and diagnostics appended to the file `log`. It is told
  // to stop (SIGTERM) when the calling thread ends. Throws Error where it cannot be started.
  Child(const std::vector<std::string>& arguments, const std::string& log);
  // The exit code, or 128 + the signal that ended it, once; nullopt while it runs.
  std::optional<int> ended() const;
  void stop() const;  // SIGTERM

 private:
  pid_t pid_;
};

}  // namespace qfm
