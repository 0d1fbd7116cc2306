// Runs the program that was built, with a small random model and small photos.
#pragma once
#include <doctest/doctest.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/base/io.h"
#include "models/backbones/vit.h"
#include "models/checkpoint.h"
#include "models/heads/query_decoder.h"
#include "tests/support.h"
#include "train/image/encode.h"

namespace qfm::test {

inline std::string content(const std::string& path) { return read_text(path); }

inline std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

struct Outcome {
  int code;  // 128 + signal where one ended it
  std::string out, err;
  std::vector<std::string> lines() const { return lines_of(out); }
  std::vector<std::string> talk() const { return lines_of(err); }
  std::vector<nlohmann::json> json() const {
    std::vector<nlohmann::json> all;
    for (const auto& line : lines()) all.push_back(nlohmann::json::parse(line));
    return all;
  }
};

// A model of one narrow block that scores in milliseconds, and two photos, a.png and b.jpg, and bad.jpg.
class Workbench {
 public:
  TemporaryFolder folder;

  Workbench() {
    ModelInfo info;
    VitConfig vit;
    vit.width = 24, vit.depth = 1;
    info.config = {"vit-tiny", std::make_shared<const VitConfig>(vit), false, std::make_shared<const QueryDecoderConfig>()};
    info.name = "random", info.training_set = "none", info.command = "none", info.version = "0";
    save(model, info);
    ModelInfo calibrated = info;
    calibrated.config.head = info.config.head->with_variance(4);
    std::vector<double> ratios;
    for (int i = 1; i <= 100; ++i) ratios.push_back(0.02 * i);
    calibrated.calibration.emplace(ratios);
    save(calibrated_model, calibrated);
    info.higher_is_better = false, info.label_low = 0, info.label_high = 9;
    save(dmos_model, info);
    calibrated.higher_is_better = false, calibrated.label_low = 0, calibrated.label_high = 9;
    save(calibrated_dmos_model, calibrated);
    write_image(folder / "a.png", photo(300, 260, 3));
    write_image(folder / "b.jpg", photo(500, 240, 7));
    write_file(folder / "bad.jpg", "\xff\xd8\xff\xe0 this is no photo");
  }

  const std::string model = folder / "model.safetensors", dmos_model = folder / "dmos.safetensors",
                    calibrated_model = folder / "calibrated.safetensors",
                    calibrated_dmos_model = folder / "calibrated_dmos.safetensors";
  const std::string a = folder / "a.png", b = folder / "b.jpg", bad = folder / "bad.jpg";

  // `input`: what stands on standard input; `output`: a file for standard output instead of Outcome::out.
  Outcome run(std::vector<std::string> arguments, const std::string& input = "",
              const std::string& output = "") const {
    arguments.insert(arguments.begin(), QFM_PROGRAM);
    return spawn(arguments, input, output);
  }
  // The same with the model, on the CPU.
  Outcome with_model(std::vector<std::string> arguments, const std::string& input = "",
                     const std::string& output = "") const {
    arguments.insert(arguments.end(), {"--model", model, "--device", "cpu"});
    return run(std::move(arguments), input, output);
  }

  Outcome spawn(const std::vector<std::string>& arguments, const std::string& input,
                const std::string& output) const {
    const std::string in = folder / ".in", out = output.empty() ? folder / ".out" : output,
                      err = folder / ".err";
    write_file(in, input);
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, in.c_str(), O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, 1, out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    posix_spawn_file_actions_addopen(&files, 2, err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    std::vector<char*> argv;
    for (const auto& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    // Results are compared with the CPU's, also on a machine with a GPU: it is seen where it is asked for.
    const bool asked = std::any_of(arguments.begin(), arguments.end(),
                                   [](const std::string& word) { return word.starts_with("cuda"); });
    std::string hidden = "CUDA_VISIBLE_DEVICES=";
    std::vector<char*> environment;
    for (char** entry = environ; *entry; ++entry)
      if (asked || !std::string_view(*entry).starts_with(hidden)) environment.push_back(*entry);
    if (!asked) environment.push_back(hidden.data());
    environment.push_back(nullptr);
    pid_t pid = 0;
    REQUIRE(::posix_spawnp(&pid, argv[0], &files, nullptr, argv.data(), environment.data()) == 0);
    posix_spawn_file_actions_destroy(&files);
    int status = 0;
    REQUIRE(::waitpid(pid, &status, 0) == pid);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
            output.empty() ? content(out) : std::string(), content(err)};
  }

 private:
  static void save(const std::string& path, const ModelInfo& info) {
    Model random(info.config, cpu_device, DType::F32, false);
    random.params.initialise(5);
    save_model(path, random, info, StoreAs::BF16);
  }
  static Image photo(int width, int height, int step) {
    Image image(width, height);
    for (size_t i = 0; i < image.rgb.size(); ++i)
      image.rgb[i] = static_cast<uint8_t>(i * static_cast<size_t>(step) / 5);
    return image;
  }
};

inline const Workbench& bench() {
  static const Workbench one;
  return one;
}

// Exit code and one line of complaint with `part` in it; nothing on stdout.
inline void check_refused(const Outcome& outcome, int code, const std::string& part) {
  CAPTURE(outcome.err);
  CHECK(outcome.code == code);
  CHECK(outcome.out.empty());
  REQUIRE(outcome.talk().size() == 1);
  CHECK(outcome.err.starts_with("qfm: "));
  CHECK(outcome.err.find(part) != std::string::npos);
}

}  // namespace qfm::test
