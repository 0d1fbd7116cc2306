// The study ladders (kernels/study), timed: a vendor's library, then every step from naive to shipped.
#pragma once
#include "models/backbone.h"
#include "tools/bench/bench.h"

namespace qfm {

// Prints a table for each ladder that --only lets pass, in BF16 at the sizes that the model gives the
// function, and returns them for the report's file. peaks: what the device reaches in BF16. cold_bytes: see
// ColdBuffers (tools/bench/cold_buffers.h). Without CUDA there are none.
Json bench_ladders(const std::string& only, const TransformerSizes& sizes, int64_t batch, Device device,
                   const Peaks& peaks, int64_t cold_bytes);

}  // namespace qfm
