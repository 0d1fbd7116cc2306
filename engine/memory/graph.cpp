#include "engine/memory/graph.h"

#include "engine/base/error.h"

namespace qfm {

void Graph::capture(const std::function<void()>& work) {
  reset();
  auto pool = std::make_unique<MemoryPool>();
  cuda::begin_capture();
  try {
    const MemoryPool::Scope scope(*pool);
    work();
  } catch (...) {
    cuda::end_capture(false);
    throw;
  }
  captured_ = cuda::end_capture(true);
  pool_ = std::move(pool);
}

void Graph::replay() const {
  QFM_CHECK(captured_ != nullptr, "cuda: an empty graph is replayed");
  cuda::launch_captured(captured_);
}

void Graph::reset() noexcept {
  if (captured_) cuda::release_captured(captured_);
  captured_ = nullptr;
  pool_.reset();
}

}  // namespace qfm
