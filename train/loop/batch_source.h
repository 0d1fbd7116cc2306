// Where the batches of a run come from.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "train/objectives/batch.h"

namespace qfm {

class BatchSource {
 public:
  virtual ~BatchSource() = default;
  virtual int64_t batches_per_epoch() const = 0;
  virtual int64_t batch_size() const = 0;  // rows of every batch
  // next() will give batches number first .. end - 1 of the run, over the ends of epochs. A batch is a pure function of
  // its number, least of all does it depend on how many threads decode.
  virtual void start(int64_t first, int64_t end) = 0;
  // Throws Error "PATH: reason" for a photo that cannot be decoded.
  virtual Batch next() = 0;
  virtual const std::vector<std::string>& paths() const = 0;  // what Batch::photos numbers
};

}  // namespace qfm
