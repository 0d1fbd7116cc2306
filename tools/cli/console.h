// stdout carries results only, stderr carries talk.
#pragma once
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace qfm {

// The reader of stdout has gone (`| head`): the program ends without a word and with 0.
struct ClosedPipe {};
// To stdout, whole and at once (nothing is buffered). Throws ClosedPipe, or Error "standard output: reason".
void print(std::string_view text);
// To stderr, where nothing can be done about a failure.
void warn(std::string_view text);
inline void note(bool quiet, std::string_view text) {
  if (!quiet) warn(text);
}
// Line ends become blanks.
std::string one_line(std::string_view text);
// "qfm: REASON\n", one line whatever the reason holds.
std::string error_line(std::string_view reason);

// From now on SIGINT and SIGTERM are asked about by stop_asked(); a second one kills.
void stop_on_signals();
bool stop_asked();

// printf into a string.
[[gnu::format(printf, 1, 2)]] std::string format(const char* text, ...);
// "1 h 02 min", "3 min 10 s", "12 s".
std::string duration(double seconds);

// How far a long run is: a bar that is redrawn when stderr is a terminal, else a line every few seconds,
// nothing when quiet.
class Progress {
 public:
  // begun: done before this run.
  Progress(bool quiet, std::string unit, int64_t total, int64_t begun = 0);
  ~Progress() { clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  // `extra` is put at the end of the line: "loss 3.21".
  void update(int64_t done, std::string_view extra = {});
  // Removes the bar, so that something else can be printed.
  void clear();
  double seconds() const;

 private:
  using Clock = std::chrono::steady_clock;
  const bool quiet_, terminal_;
  const std::string unit_;
  const int64_t total_, begun_;
  const Clock::time_point start_ = Clock::now();
  Clock::time_point last_ = start_;
  bool drawn_ = false;
};

// The most memory this process has held so far, MiB.
long peak_resident_mb();

}  // namespace qfm
