// qfm: scores the quality of photos, and trains and measures the models that do.
#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdlib>
#include <map>
#include <memory>
#include <new>
#include <vector>

#include "engine/base/notice.h"
#include "engine/base/suggest.h"
#include "engine/profile.h"
#include "tools/cli/command.h"
#include "tools/cli/console.h"
#include "tools/cli/version.h"

namespace qfm {
namespace {

using Actions = std::map<const CLI::App*, Action>;

const CLI::App* deepest(const CLI::App* app) {
  while (!app->get_subcommands().empty()) app = app->get_subcommands().front();
  return app;
}

// "qfm score" -> "score: ", the start of a usage error.
std::string prefix(const CLI::App* app) {
  std::string names;
  for (; app->get_parent(); app = app->get_parent())
    names = app->get_name() + (names.empty() ? "" : " ") + names;
  return names.empty() ? "" : names + ": ";
}

std::vector<std::string> known_flags(const CLI::App* app) {
  std::vector<std::string> flags;
  for (const CLI::Option* option : app->get_options())
    for (const auto& name : option->get_lnames()) flags.push_back("--" + name);
  return flags;
}

std::vector<std::string> known_commands(const CLI::App* app) {
  std::vector<std::string> names;
  for (const CLI::App* sub : app->get_subcommands({})) names.push_back(sub->get_name());
  return names;
}

// What is wrong with the command line, in one sentence. An unknown word is the likeliest cause of any other
// complaint, so it is named first.
std::string usage_reason(const CLI::App& root, const CLI::ParseError& error) {
  const CLI::App* app = deepest(&root);
  for (const std::string& word : app->remaining()) {
    if (word.size() > 1 && word[0] == '-') {
      const std::string flag = word.substr(0, word.find('='));
      return prefix(app) + "unknown flag '" + flag + "'" + did_you_mean(flag, known_flags(app));
    }
    const auto commands = known_commands(app);
    if (commands.empty()) return prefix(app) + "unexpected '" + word + "'";
    return prefix(app) + "unknown command '" + word + "'" + did_you_mean(word, commands);
  }
  const std::string names = prefix(app).substr(0, prefix(app).find(':'));
  const std::string reason = app->get_require_subcommand_min() > 0 ? "a command is needed" : error.what();
  return prefix(app) + reason + " (see qfm " + names + (names.empty() ? "" : " ") + "--help)";
}

// Help that fits a terminal.
class WrappedHelp : public CLI::Formatter {
 public:
  WrappedHelp() { column_width(26); }
  std::string make_option_desc(const CLI::Option* option) const override {
    return wrapped(option->get_description(), 80);
  }
  std::string make_description(const CLI::App* app) const override {
    return wrapped(app->get_description(), 106) + "\n\n";
  }
  // The first line of a command's description.
  std::string make_subcommand(const CLI::App* sub) const override {
    const std::string description = sub->get_description();
    std::stringstream out;
    CLI::detail::format_help(out, sub->get_name(), description.substr(0, description.find('\n')),
                             get_column_width());
    return out.str();
  }

 private:
  static std::string wrapped(const std::string& text, size_t columns) {
    std::string result, word;
    size_t used = 0;
    for (size_t i = 0; i <= text.size(); ++i) {
      if (i < text.size() && text[i] != ' ' && text[i] != '\n') {
        word += text[i];
        continue;
      }
      if (used > 0 && used + 1 + word.size() > columns) result += '\n', used = 0;
      if (used > 0) result += ' ', ++used;
      result += word, used += word.size();
      word.clear();
      if (i < text.size() && text[i] == '\n') result += '\n', used = 0;
    }
    return result;
  }
};

int run(int argc, char** argv) {
  CLI::App root(
      "Scores the quality of photos: 0 (bad) to 100 (excellent), by a model trained on human opinion.",
      "qfm");
  root.footer(
      "\nExample:\n  qfm score photo.jpg\n\nqfm COMMAND --help tells more. Exit codes: 0 all well, 1 "
      "something failed, 2 usage.");
  root.formatter(std::make_shared<WrappedHelp>());
  root.set_version_flag("--version", version_text, "Print version, commit and backends, and exit");
  root.require_subcommand(1);
  Actions actions;
  const RegisterAction on = [&](CLI::App* app, Action action) { actions[app] = std::move(action); };
  add_score(root, on);
  add_rank(root, on);
  add_explain(root, on);
  add_embed(root, on);
#ifndef QFM_DEPLOY
  add_compare(root, on);
  add_train(root, on);
  add_eval(root, on);
  add_distort(root, on);
  add_data(root, on);
  add_experiment(root, on);
#endif
  add_model(root, on);
  add_bench(root, on);
  try {
    root.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    print(root.help());
    return 0;
  } catch (const CLI::CallForVersion&) {
    print(version_text() + "\n");
    return 0;
  } catch (const CLI::ParseError& e) {
    throw UsageError(usage_reason(root, e));
  }
  return actions.at(deepest(&root))();
}

// A closed stdin, stdout or stderr would give its number to the next file opened, which would then receive
// the output.
void occupy_standard_files() {
  for (int fd = 0; fd <= 2; ++fd)
    if (::fcntl(fd, F_GETFD) < 0) ::open("/dev/null", O_RDONLY);
}

int failed(int code, const char* reason) {
  warn(error_line(reason));
  return code;
}

int guarded(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const ClosedPipe&) {
    return 0;
  } catch (const UsageError& e) {
    return failed(2, e.what());
  } catch (const OutOfMemory& e) {
    const std::string text = e.what();
    const bool of_gpu = text.find(concat("on ", name_of(cuda_device))) != std::string::npos;
    return failed(1, (text + (of_gpu ? "; --device cpu does without the GPU's memory" : "")).c_str());
  } catch (const Error& e) {
    if (std::getenv("QFM_DEBUG")) warn(error_line("at " + e.where()));
    return failed(1, e.what());
  } catch (const std::bad_alloc&) {
    return failed(1, "out of memory");
  } catch (const std::exception& e) {
    return failed(1, e.what());
  } catch (...) {
    return failed(1, "unknown failure");
  }
}

}  // namespace
}  // namespace qfm

int main(int argc, char** argv) {
  qfm::occupy_standard_files();
  // A closed pipe and a file grown to its limit are errors of write().
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  qfm::set_notices([](const std::string& text) { qfm::warn(qfm::error_line(text)); });
  const int code = qfm::guarded(argc, argv);
  if (qfm::profiling())
    qfm::warn(qfm::profile_report() + qfm::format("peak resident: %ld MiB\n", qfm::peak_resident_mb()));
  return code;
}
