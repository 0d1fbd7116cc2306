// qfm embed: the features of photos, for other programs.
#include <CLI/CLI.hpp>
#include <memory>
#include <new>

#include "engine/base/sha256.h"
#include "engine/base/threads.h"
#include "models/checkpoint.h"
#include "models/pretrained.h"
#include "tools/cli/command.h"
#include "tools/cli/console.h"
#include "tools/cli/photo_options.h"
#include "tools/cli/photos.h"
#include "tools/cli/results.h"
#include "tools/cli/version.h"
#include "train/image/photo_stream.h"

namespace qfm {
namespace {

struct EmbedOptions {
  CommonOptions common;
  PhotoOptions photos;
  std::string output;
};

// The rows of all parts, one after the other.
Tensor joined(const std::vector<Tensor>& parts) {
  std::vector<int64_t> dims(parts.front().shape().begin(), parts.front().shape().end());
  dims[0] = 0;
  for (const Tensor& part : parts) dims[0] += part.dim(0);
  Tensor all{Shape(dims)};
  int64_t at = 0;
  for (const Tensor& part : parts) {
    all.rows(at, at + part.dim(0)).copy_from(part);
    at += part.dim(0);
  }
  return all;
}

int embed(const EmbedOptions& options) {
  checked_extension(options.output, ".safetensors");
  const PredictOptions predict = options.photos.predict(options.common.seed);
  const Placement where = apply(options.common);
  const std::string path = model_path(options.common);
  const auto photos = list_photos(options.photos.paths, options.photos.recursive, options.photos.nul);
  const LoadedModel loaded = load_backbone(path, where.device, where.dtype);
  const Predictor predictor(*loaded.model, loaded.info, predict);
  PhotoStream stream(photos, {.decode = options.photos.decode(), .workers = decode_workers()});
  Progress progress(options.common.quiet, "photos", static_cast<int64_t>(photos.size()));
  std::vector<Tensor> cls, patches;
  Json rows = Json::array();
  int64_t done = 0, failed = 0;
  for (const auto& photo : photos) {
    const auto failure = [&](const char* reason) {
      progress.clear();
      warn(error_line(photo.path + ": " + reason));
      ++failed;
    };
    try {
      DecodeResult next = stream.next();
      QFM_CHECK(next.error.empty(), next.error);
      auto embedding = predictor.embed(std::move(next.image));
      for (const CropWindow& w : embedding.windows)
        rows.push_back({{"path", photo.path}, {"left", w.left}, {"top", w.top}});
      cls.push_back(std::move(embedding.cls)), patches.push_back(std::move(embedding.patches));
    } catch (const Error& e) {
      failure(e.what());
    } catch (const std::bad_alloc&) {
      failure("out of memory");
    }
    progress.update(++done);
  }
  progress.clear();
  QFM_CHECK(!cls.empty(), options.output, ": not written: no photo could be read");
  const auto line = [](const Json& json) {
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
  };
  Json about = {{"version", version()},
                      {"model", path},
                      {"model_sha256", sha256_of_file(path)},
                      {"crops", options.photos.crops},
                      {"crop", loaded.info.crop},
                      {"resize", as_json(predict.resize.value_or(loaded.info.resize))},
                      {"dtype", flag_of(loaded.dtype)},
                      {"seed", options.common.seed}};
  add_kernels(about, where.device);
  Json files = Json::array();
  for (const auto& row : rows) files.push_back(row["path"]);
  write_safetensors(options.output, {{"cls", joined(cls)}, {"patches", joined(patches)}},
                    {{"embedding", line(about)}, {"files", line(files)}, {"rows", line(rows)}});
  note(options.common.quiet, format("%s: %zu rows of %lld photos\n", options.output.c_str(), rows.size(),
                                    static_cast<long long>(done - failed)));
  return failed != 0;
}

}  // namespace

void add_embed(CLI::App& parent, const RegisterAction& on) {
  const auto options = std::make_shared<EmbedOptions>();
  CLI::App* app = add_subcommand(parent, "embed",
                                 "Write the features of photos to a .safetensors file.\n"
                                 "Tensors cls (n, D) and patches (n, N, D) after the final LayerNorm, F32, "
                                 "one row a crop. The metadata names, in "
                                 "JSON, the file of each row (files) and the place of its crop (rows). "
                                 "--model also takes a checkpoint of timm.",
                                 "qfm embed photo.jpg --crops center -o features.safetensors");
  add_photo_options(*app, options->photos);
  app->add_option("-o", options->output, "The .safetensors file to write")->type_name("FILE")->required();
  add_model_option(*app, options->common);
  add_device_options(*app, options->common);
  add_common_options(*app, options->common);
  on(app, [options] { return embed(*options); });
}

}  // namespace qfm
