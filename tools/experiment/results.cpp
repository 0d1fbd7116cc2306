#include "tools/experiment/results.h"

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <sstream>

#include "engine/base/error.h"
#include "engine/base/io.h"

namespace qfm {
namespace {

enum class Member { Needed, Younger };  // Younger: lines of earlier versions lack it

// f(name, value, member) for the members of a line, in its order.
template <class Result, class F>
void for_members(Result& r, F&& f) {
  const auto needed = Member::Needed, younger = Member::Younger;
  f("id", r.id, needed), f("key", r.key, needed), f("inputs", r.inputs, younger);
  f("data", r.data, needed), f("variant", r.variant, needed), f("label_share", r.label_share, needed);
  f("seed", r.seed, needed), f("split_sha256", r.split, needed);
  f("protocol", r.protocol, younger), f("crops", r.crops, younger);
  f("version", r.version, needed), f("commit", r.commit, needed);
  f("srcc", r.srcc, needed), f("plcc", r.plcc, needed), f("plcc_mapped", r.plcc_mapped, needed);
  f("krcc", r.krcc, needed), f("rmse_mapped", r.rmse_mapped, needed), f("seconds", r.seconds, needed);
  f("losses", r.losses, needed), f("scores", r.scores, needed), f("schedule", r.schedule, younger);
}

template <class T>
Json json_value(const T& value) {
  return value;
}
Json json_value(const std::optional<double>& value) { return as_json(value); }

template <class T>
void take(const Json& from, T& to) {
  from.get_to(to);
}
void take(const Json& from, std::optional<double>& to) {
  if (!from.is_null()) to = from.get<double>();
}

RunResult result_from(const std::string& text) {
  const Json line = Json::parse(text);
  RunResult result;
  for_members(result, [&](const char* name, auto& value, Member member) {
    if (member == Member::Needed || line.contains(name)) take(line.at(name), value);
  });
  return result;
}

}  // namespace

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
  for_members(result, [&](const char* name, const auto& value, Member) { line[name] = json_value(value); });
  if (result.schedule.empty()) line.erase("schedule");
  const FileDescriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
  write_all(file, to_line(line), path);
  QFM_CHECK(::fsync(file.get()) == 0, path, ": cannot be written");
}

}  // namespace qfm
