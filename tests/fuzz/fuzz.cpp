// Readers of outside bytes under libFuzzer: whatever the bytes are, they are read, or refused by an Error.
//
//   QFM_READER=image build-asan/tests/qfm_fuzz NEW_FINDS tests/fuzz/corpus/image
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/error.h"
#include "engine/base/io.h"
#include "engine/tensor_file.h"
#include "models/checkpoint.h"
#include "train/data/dataset.h"
#include "train/data/mat_file.h"
#include "train/data/sheet.h"
#include "train/image/decode.h"
#include "train/image/exif.h"
#include "train/run/config.h"

namespace qfm {
namespace {

using Bytes = std::span<const uint8_t>;

// A file with these bytes, which has a path and no place on a disk.
class MemoryFile {
 public:
  explicit MemoryFile(Bytes bytes) : file_(::memfd_create("fuzz", MFD_CLOEXEC)) {
    if (file_.get() < 0 || ::write(file_.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) std::abort();
  }
  std::string path() const { return "/proc/self/fd/" + std::to_string(file_.get()); }

 private:
  const FileDescriptor file_;
};

void read_image(Bytes bytes) { decode_image(bytes, "photo", {.max_pixels = 1 << 20}); }

void read_exif(Bytes bytes) {
  const int turn = exif_orientation(bytes);
  if (turn < 1 || turn > 8) std::abort();
  capture_time(bytes);
}

// Safetensors, and what torch.save wrote.
void read_tensors(Bytes bytes) {
  const MemoryFile file(bytes);
  const TensorFile tensors = TensorFile::open(file.path());
  for (const auto& [name, entry] : tensors.entries())
    if (entry.bytes() <= 1 << 20) tensors.bytes(name);
  read_model_info(tensors);
}

void read_table(Bytes bytes) {
  const MemoryFile file(bytes);
  std::vector<RowProblem> problems;
  DatasetOptions options;
  options.problems = &problems;
  load_dataset(file.path(), options);
}

void read_mat(Bytes bytes) {
  const MemoryFile memory(bytes);
  const MatFile file(memory.path());
  for (const char* name : {"dmos", "orgs", "AllMOS_release"})
    if (file.has(name)) file.numbers(name);
  if (file.has("AllImages_release")) file.texts("AllImages_release");
}

void read_sheet(Bytes bytes) {
  const MemoryFile file(bytes);
  SheetReader rows(file.path(), "", "image");
  for (std::vector<std::string> row; rows.next(row);) {
  }
}

void read_config(Bytes bytes) {
  const MemoryFile file(bytes);
  TrainConfig config;
  merge_config_file(config, file.path());
  config.data = "labels.csv", config.out = "run";
  validate(config);
}

struct Reader {
  const char* name;
  void (*read)(Bytes);
};
constexpr Reader readers[] = {{"image", read_image}, {"exif", read_exif},   {"tensors", read_tensors}, {"table", read_table},
                              {"mat", read_mat},     {"sheet", read_sheet}, {"config", read_config}};

const Reader& asked_reader() {
  const char* name = std::getenv("QFM_READER");
  for (const Reader& reader : readers)
    if (name && std::string_view(name) == reader.name) return reader;
  std::string all = "QFM_READER is one of:";
  for (const Reader& reader : readers) all += concat(" ", reader.name);
  std::fprintf(stderr, "%s\n", all.c_str());
  std::exit(2);
}

}  // namespace
}  // namespace qfm

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const qfm::Reader& reader = qfm::asked_reader();
  try {
    reader.read({data, size});
  } catch (const qfm::Error&) {
  } catch (const std::bad_alloc&) {
  }
  return 0;
}
