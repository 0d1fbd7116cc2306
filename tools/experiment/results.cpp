#include "tools/experiment/results.h"

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <sstream>
#include <type_traits>

#include "engine/base/error.h"
#include "engine/base/io.h"

namespace qfm {
namespace {

// f(name, member) for the figures of a line and of the metrics of `qfm eval`.
template <class Result, class F>
void for_figures(Result& r, F&& f) {
  f("srcc", r.srcc), f("plcc", r.plcc), f("plcc_mapped", r.plcc_mapped);
  f("krcc", r.krcc), f("rmse_mapped", r.rmse_mapped);
}

// f(name, member) for the members of a line, in its order; young(name, member) where lines of earlier
// versions lack it.
template <class Result, class F, class Young>
void for_members(Result& r, F&& f, Young&& young) {
  f("id", r.id), f("key", r.key), young("inputs", r.inputs), f("data", r.data), f("variant", r.variant);
  f("label_share", r.label_share), f("seed", r.seed), f("split_sha256", r.split);
  young("protocol", r.protocol), young("crops", r.crops), f("version", r.version), f("commit", r.commit);
  for_figures(r, f), f("seconds", r.seconds), f("losses", r.losses), f("scores", r.scores);
  young("schedule", r.schedule);
}

template <class T>
void take(const Json& value, T& to) {
  value.get_to(to);
}
void take(const Json& value, std::optional<double>& to) {
  if (!value.is_null()) to = value.get<double>();
}

RunResult result_from(const std::string& text) {
  const Json line = Json::parse(text);
  RunResult result;
  for_members(
      result, [&](const char* name, auto& to) { take(line.at(name), to); },
      [&](const char* name, auto& to) {
        if (line.contains(name)) take(line.at(name), to);
      });
  return result;
}

}  // namespace

void take_figures(const Json& metrics, RunResult& result) {
  for_figures(result, [&](const char* name, auto& to) { take(metrics.at(name), to); });
}

std::vector<RunResult> read_results(const std::string& path) {
  std::vector<RunResult> results;
  std::istringstream lines(read_text(path));
  for (std::string line; std::getline(lines, line) && !lines.eof();) try {
      results.push_back(result_from(line));
    } catch (const std::exception& e) {
      QFM_FAIL(path, ": line ", results.size() + 1, ": not a result: ", e.what());
    }
  return results;
}

void cut_last_line(const std::string& path) {
  std::filesystem::resize_file(path, read_text(path).rfind('\n') + 1);
}

void append_result(const std::string& path, const RunResult& result) {
  Json line;
  const auto put = [&](const char* name, const auto& value) {
    if constexpr (std::is_same_v<decltype(value), const std::optional<double>&>) line[name] = as_json(value);
    else line[name] = value;
  };
  for_members(result, put, put);
  if (result.schedule.empty()) line.erase("schedule");
  const FileDescriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
  write_all(file, to_line(line), path);
  QFM_CHECK(::fsync(file.get()) == 0, path, ": cannot be written");
}

}  // namespace qfm
