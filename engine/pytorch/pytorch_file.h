// The tensors of a file that torch.save wrote: a zip archive, or the bare pickles of PyTorch before 1.6.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "engine/base/io.h"

namespace qfm {

// Where a tensor lies, little endian: `strides`, in elements, as PyTorch has them.
struct PyTorchTensor {
  std::string dtype;  // as safetensors names it: "F32", "I64", ...
  std::vector<int64_t> shape, strides;
  uint64_t begin = 0, end = 0;  // of its storage from the tensor's first element on, bytes of the file
};

struct PyTorchContents {
  std::map<std::string, PyTorchTensor> tensors;
  std::map<std::string, std::string> texts;  // of the outermost dict
};

// Whether the file's first bytes are those of a zip archive or of a pickle.
bool looks_like_pytorch(const InputFile& file);

// The dict of tensors, or that under "state_dict", "model", "params" or "model_state_dict" in the outermost dict; what
// else is there is left out. Each tensor lies wholly in its storage, each storage in the file. Throws Error
// "PATH: reason" otherwise, and where anything but data is asked for (engine/pytorch/pickle.h).
PyTorchContents read_pytorch(const InputFile& file);

}  // namespace qfm
