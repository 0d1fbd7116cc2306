#include "tools/cli/console.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "engine/base/error.h"
#include "engine/base/io.h"

namespace qfm {
namespace {

std::atomic<bool> stop{false};
static_assert(std::atomic<bool>::is_always_lock_free);
void ask_to_stop(int signal) {
  stop.store(true);
  std::signal(signal, SIG_DFL);
}

}  // namespace

void stop_on_signals() { std::signal(SIGINT, ask_to_stop), std::signal(SIGTERM, ask_to_stop); }
bool stop_asked() { return stop.load(); }

void print(std::string_view text) {
  if (write_all(STDOUT_FILENO, text)) return;
  if (errno == EPIPE) throw ClosedPipe();
  QFM_FAIL("standard output: ", std::strerror(errno));
}

void warn(std::string_view text) { write_all(STDERR_FILENO, text); }

std::string one_line(std::string_view text) {
  std::string line(text);
  std::replace_if(
      line.begin(), line.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
  return line;
}

std::string error_line(std::string_view reason) { return "qfm: " + one_line(reason) + "\n"; }

std::string format(const char* text, ...) {
  std::va_list arguments, again;
  va_start(arguments, text);
  va_copy(again, arguments);
  std::string result(static_cast<size_t>(std::max(0, std::vsnprintf(nullptr, 0, text, arguments))), '\0');
  va_end(arguments);
  std::vsnprintf(result.data(), result.size() + 1, text, again);
  va_end(again);
  return result;
}

std::string duration(double seconds) {
  const auto s = static_cast<long long>(seconds + 0.5);
  if (s >= 3600) return format("%lld h %02lld min", s / 3600, s / 60 % 60);
  if (s >= 60) return format("%lld min %02lld s", s / 60, s % 60);
  return format("%lld s", s);
}

// "2.5 a second"; "8.0 s each" where one takes longer.
static std::string pace(double rate) {
  if (rate >= 1) return format("%.1f a second", rate);
  return (1 / rate < 60 ? format("%.1f s", 1 / rate) : duration(1 / rate)) + " each";
}

Progress::Progress(bool quiet, std::string unit, int64_t total, int64_t begun)
    : quiet_(quiet),
      terminal_(::isatty(STDERR_FILENO) == 1),
      unit_(std::move(unit)),
      total_(total),
      begun_(begun) {}

double Progress::seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

void Progress::update(int64_t done, std::string_view extra) {
  const auto now = Clock::now();
  if (quiet_ || now - last_ < (terminal_ ? std::chrono::milliseconds(100) : std::chrono::milliseconds(5000)))
    return;
  last_ = now;
  const double rate = static_cast<double>(done - begun_) / std::max(seconds(), 1e-9);
  std::string line =
      format("%lld of %lld %s", static_cast<long long>(done), static_cast<long long>(total_), unit_.c_str());
  if (done > begun_)
    line += ", " + pace(rate) + ", " + duration(static_cast<double>(total_ - done) / rate) + " left";
  if (!extra.empty()) (line += ", ") += extra;
  if (terminal_) {
    constexpr int kWidth = 20;
    const auto filled = static_cast<size_t>(kWidth * done / std::max<int64_t>(1, total_));
    line = "\r\033[K[" + std::string(filled, '#') + std::string(kWidth - filled, '.') + "] " + line;
  } else {
    line += "\n";
  }
  drawn_ = terminal_;
  warn(line);
}

void Progress::clear() {
  if (drawn_) warn("\r\033[K");
  drawn_ = false;
}

long peak_resident_mb() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss >> 10;
}

}  // namespace qfm
