// Semantic noise where it is drawn, and its strength (models/METHOD.md 4.3-4.5, our reconstruction). Images
// without a match keep their rows and get weight and noise 0, so that shapes never depend on what was found
// and nothing waits for the search.
#pragma once
#include <cstdint>

#include "engine/base/dtype.h"
#include "engine/base/rng.h"
#include "engine/memory/device.h"

namespace qfm {

// weight[i] = 1 / (how many partners are >= 0) where partner[i] >= 0, else 0; all 0 where there is none. A:
// float or double.
template <class A>
void match_weights(Cpu, A* weight, const int32_t* partner, int64_t n);
template <class A>
void match_weights(Cuda, A* weight, const int32_t* partner, int64_t n);

// noise[b, i] = the i-th standard normal number of the stream streams[b] (rng.h): noise (batch, inner). The
// words are the CPU's; a GPU's log and cos may differ in their last bit.
template <class T>
void draw_normal(Cpu, T* noise, const StreamName* streams, int64_t batch, int64_t inner);
template <class T>
void draw_normal(Cuda, T* noise, const StreamName* streams, int64_t batch, int64_t inner);

// One round of the adversarial search: where |score - clean| > change, the trial replaces
// strength and change.
template <class T>
void keep_worst_case(Cpu, acc<T>* strength, acc<T>* change, const acc<T>* trial, const T* score,
                     const T* clean, int64_t n);
template <class T>
void keep_worst_case(Cuda, acc<T>* strength, acc<T>* change, const acc<T>* trial, const T* score,
                     const T* clean, int64_t n);

}  // namespace qfm
