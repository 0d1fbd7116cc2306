// A forward pass on CUDA, captured for each batch size when it comes a second time.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <utility>

#include "engine/memory/graph.h"
#include "engine/profile.h"
#include "engine/tensor.h"
#include "kernels/vendor/vendor_case.h"

namespace qfm {

template <class Output>
class CapturedForward {
 public:
  using Forward = std::function<Output(const Tensor& images)>;
  explicit CapturedForward(Forward forward) : forward_(std::move(forward)) {}

  // The output is overwritten by the next call with as many images.
  const Output& operator()(const Tensor& images) {
    Pass& pass = passes_[images.dim(0)];
    if (pass.images.empty()) {
      pass.images = like(images);
      return pass.output =
                 forward_(images);  // libraries make their plans in it, which a capture would refuse
    }
    pass.images.copy_from(images);
    if (profiling()) return pass.output = forward_(pass.images);
    if (pass.graph.empty()) {
      pass.output = {};
      try {
        pass.graph.capture([&] { pass.output = forward_(pass.images); });
      } catch (const VendorError&) {  // as in TrainStep
        return pass.output = forward_(pass.images);
      }
    }
    pass.graph.replay();
    return pass.output;
  }
  // After memory ran out: graphs hold theirs.
  void clear() { passes_.clear(); }

 private:
  struct Pass {
    Tensor images;
    Graph graph;
    Output output;
  };
  const Forward forward_;
  std::map<int64_t, Pass> passes_;  // by batch size
};

}  // namespace qfm
