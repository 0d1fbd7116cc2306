// The program, run again as a child process.
#pragma once
#include <string>
#include <vector>

namespace qfm {

// Runs this program with `arguments`, its output and talk appended to the file `log`, and waits. The exit
// code, or 128 + the signal that ended it. The child is told to stop (SIGTERM) when this process dies. May be
// called from several threads at once. Throws Error where it cannot be started.
int run_self(const std::vector<std::string>& arguments, const std::string& log);
// SIGTERM to every child that runs.
void stop_children();

}  // namespace qfm
