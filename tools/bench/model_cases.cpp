#include "tools/bench/model_cases.h"

#include "engine/memory/memory.h"
#include "tools/bench/cold_buffers.h"
#include "train/objectives/matching_memory.h"

namespace qfm {

TransformerSizes transformer_of(const ModelConfig& model) {
  const auto sizes = model.backbone->transformer();
  QFM_CHECK(sizes, model.arch, ": the cases are of a transformer's layers");
  return *sizes;
}

std::vector<KernelCase> model_cases(const ModelConfig& model, int64_t batch, DType dtype) {
  const TransformerSizes sizes = transformer_of(model);
  const CaseSizes all{.batch = batch,
                      .tokens = sizes.tokens,
                      .patches = model.features().tokens(),
                      .width = sizes.width,
                      .heads = sizes.heads,
                      .queries = model.head->members(),
                      .depth = sizes.depth,
                      .patch = sizes.patch,
                      .height = sizes.image_height,
                      .image_width = sizes.image_width,
                      .entries = MatchOptions{}.batches * batch};
  return dtype == DType::I8 ? int8_kernel_cases(all) : kernel_cases(all, dtype);
}

TimedRun prepared(const KernelCase& c, Device device, int64_t cold_bytes) {
  const ColdBuffers make({device, c.type}, c.bytes, cold_bytes);
  std::vector<BufferTurns> buffers;
  for (const CaseArray& a : c.arrays) buffers.push_back(make({a.size}, a.type));
  std::vector<std::vector<void*>> turns(make.copies);
  for (size_t turn = 0; turn < make.copies; ++turn) {
    for (const BufferTurns& buffer : buffers) turns[turn].push_back(buffer[turn].raw());
    for (size_t i = 0; i < c.arrays.size(); ++i)
      if (const auto& contents = c.arrays[i].contents) {
        const std::vector<char> bytes = contents(turns[turn].data());
        copy_bytes(device, turns[turn][i], cpu_device, bytes.data(), bytes.size());
      }
  }
  return
      [buffers, turns, device, run = c.run](size_t turn) { run(device, turns[turn % turns.size()].data()); };
}

#ifndef QFM_WITH_ONEDNN
TimedRun prepared_by_onednn(const KernelCase&) { return nullptr; }
#endif

}  // namespace qfm
