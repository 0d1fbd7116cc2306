// CUDA graphs: work that is recorded once and then started as a whole, again and again, by one launch.
#pragma once
#include <functional>

#include "engine/cuda/cuda.h"
#include "engine/memory/memory.h"

namespace qfm {

// Replays the kernels and copies that a function issued to the compute stream, with the same addresses and
// arguments: what changes from one replay to the next (a batch, a learning rate) lies in device memory that
// was allocated before. Memory that the function allocates belongs to the graph until it is destroyed, so
// tensors that it keeps hold the results of the last replay.
class Graph {
 public:
  Graph() = default;
  ~Graph() { reset(); }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  bool empty() const { return captured_ == nullptr; }
  // Calls work() once; nothing is computed yet. Throws what work throws, and Error for work that cannot be
  // captured (it waits for a result); the graph is then empty, and memory as it was.
  void capture(const std::function<void()>& work);
  // Same bits as the captured function called again.
  void replay() const;
  void reset() noexcept;

 private:
  std::unique_ptr<MemoryPool> pool_;
  cuda::Captured* captured_ = nullptr;
};

}  // namespace qfm
