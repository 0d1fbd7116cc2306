// Bugs that are planted one at a time in small sound kernels, to see that host-CUDA finds each.
#pragma once
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "engine/base/error.h"
#include "tests/schedules.h"

namespace qfm::test {

enum class Bug {
  None,
  // planted_rows.cuh: sums of rows, a block a row
  MissingBarrier,       // between the warps' sums and their readers
  MissingReuseBarrier,  // before shared memory is used again
  DivergentBarrier,     // that one warp alone comes to
  EarlyReturn,          // a warp leaves before the barrier
  ExitedLane,           // lanes leave before a shuffle
  HalfMask,             // a shuffle whose mask lacks lanes that call it
  GuardTooFar,          // reads one element past the row
  GuardTooShort,        // leaves out the last element
  WrongStride,          // rows taken to be n + 1 apart
  WrongLane,            // the lane that stores the warp's sum is not the one that has it
  HalfButterfly,        // a warp sum without its last step
  UnclearedSum,         // adds to shared memory that was not set to zero
  UnwrittenShared,      // reads a sum of a warp that the block does not have
  SharedReadOutside,    // reads past the end of a shared array
  SharedWriteOutside,   // writes there
  SharedTooLarge,       // more than 48 KB of static shared memory
  MisalignedPack,       // reads 16 bytes at a time from rows that are not aligned
  GridTooSmall,         // one row a block, and fewer blocks than rows
  WritesNextRow,        // stores a sum one place too far
  WritesOtherBlock,     // stores it in a place of the next row's block too
  // planted_rows.cuh: sums of columns, partial sums a block and then their sum
  OrderOfArrival,   // warps add up in the order in which they arrive
  MissingSlice,     // leaves out the last block's partial sums
  UnwrittenSlice,   // reads the slice behind the last
  ReadsOtherBlock,  // adds up the slices in the launch that makes them
  // planted_product.cuh: a matrix product fed by cp.async
  UnwaitedRead,           // reads without a wait
  ShortWait,              // waits until two groups are left where one may be
  Uncommitted,            // waits for groups that no commit has made
  PrefetchPastEnd,        // starts a copy that is not waited for
  NoBarrierAfterWait,     // reads what other threads' copies brought
  NoBarrierBeforeRefill,  // overwrites a buffer that others still read
  BuffersSwapped,         // multiplies the buffer that is being filled
  MissingZeroFill,        // copies from past the matrix's edge
  CopyOutsideShared,      // copies to one row past the tile
  WrongMatrixRow,         // ldmatrix takes the first 8 rows twice
  MisalignedMatrixRow,    // ldmatrix from one element further
  MissingTranspose,       // ldmatrix without .trans
  WrongFragment,          // two registers of a swapped
  WrongOutputFragment,    // two registers of d swapped
  StaleAccumulator,       // keeps the sums of the tile before
  LastStepForgotten,      // leaves out the last columns of a
  RowGuard,               // writes one row past the result
  // planted_attention.cuh: softmax(q k^T) v, a warp a query, 32 keys at a time
  MaskRoundedUp,         // attends to the keys that fill up the last 32: wrong at 197
  MaskOffByOne,          // leaves out the last key
  MaxOfOneLane,          // subtracts the lane's maximum in place of the warp's
  SumNotRescaled,        // the sum keeps an older maximum
  OutputNotRescaled,     // the output does
  MissingSyncwarp,       // reads what other lanes write
  MissingReuseSyncwarp,  // overwrites what other lanes read; shuffles happen to keep them apart
  // the same, causal or with padded keys
  SeesTheNextKey,     // a query sees one key behind its own
  LowerRightCorner,   // aligns the last query with the last key, not the first with the first
  SeesPadding,        // takes the padding for keys
  LeavesDiagonalOut,  // goes through whole 32s of keys that are all seen, not through the one on the diagonal
  HiddenKeysFirst,    // goes through the keys from the last 32 on: a query that sees none there has no maximum yet
  DividesByNothing,   // a query without keys is 0 / 0
  // planted_sampling.cuh: bilinear samples, and their gradient by lists of places
  RowWraps,             // takes what lies right of the last column from the next row
  NearestCounted,       // takes the nearest element where there is none
  NoBarrierBeforeHead,  // replaces the head of a list that others still read
  ListAsTheyCome,       // threads put their places in a list in the order in which they arrive
  ListCutShort,         // forgets the places of earlier steps
  AnyPlaceIsHead,       // not only the last of its cell
  CellForgotten,        // gathers from three of the four cells around an element
  // planted_conv.cuh: a convolution in tiles, and its dx by phases
  ConvNoBarrierAfterGather,   // multiplies what others gather
  ConvNoBarrierBeforeGather,  // gathers over what others still multiply
  ConvRowTooFar,              // takes the row below the image for a part of it
  ConvColumnTooFar,           // the column past it
  ConvTapsTurned,             // takes the window's columns for its rows
  ConvLinesRoundedUp,         // multiplies lines that fill up the last 8
  ConvChannelTooFar,          // stores a channel past the last
  ConvPlaceTooFar,            // stores places past the image
  ConvPhaseRoundedDown,       // leaves out the last elements of an odd image
  ConvPhaseWithoutPadding,    // takes the taps of another phase
  // planted_batchnorm.cuh: the statistics of a channel over all images
  NormOfOneImage,          // takes them over the first image
  NormImagesSideBySide,    // takes a channel's planes to follow each other
  NormCountRoundedUp,      // divides by whole blocks of threads
  NormSquaresAboutZero,    // mean of squares less the square of the mean: no digits left far from zero
  NormNoBarrierBeforeSum,  // reads the warps' sums before all are there
  NormNoBarrierAfterSum,   // overwrites sums that others still read
  NormRunningTwice,        // each warp moves the running mean
  // planted_pool.cuh: a maximum over windows, and its gradient gathered
  PoolPaddingIsZero,        // the padding takes part: wrong where all is negative
  PoolColumnWraps,          // takes what lies right of the last column from the next row
  PoolLastOfEqual,          // the last of equal values has the gradient
  PoolPlaceInBatch,         // counts the place from the first plane on
  PoolLastWindowForgotten,  // gathers from the first of two windows over an element
};

enum class Found { No, Error, WrongResult };

// Counts runs of one kernel until a bug shows itself.
class Hunt {
 public:
  Found found() const { return found_; }
  // launch() runs under all schedules; sound(): whether its results are right.
  template <class Launch, class Sound>
  void run(Launch&& launch, Sound&& sound) {
    for_schedules([&] {
      if (found_ != Found::No) return;
      try {
        launch();
        if (!sound()) found_ = Found::WrongResult;
      } catch (const Error& error) {
        found_ = Found::Error, message_ = error.what();
      }
    });
  }
  const std::string& message() const { return message_; }

 private:
  Found found_ = Found::No;
  std::string message_;
};

inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// n elements of value f(i), then as many NaN as a bug may reach.
template <class T, class F>
std::vector<T> with_margin(size_t n, size_t margin, F&& f) {
  std::vector<T> v;
  for (size_t i = 0; i < n; ++i) v.push_back(T(f(i)));
  v.resize(n + margin, T(kNan));
  return v;
}

template <class T>
bool all_nan(const std::vector<T>& v, size_t from) {
  for (size_t i = from; i < v.size(); ++i)
    if (!std::isnan(static_cast<float>(v[i]))) return false;
  return true;
}

}  // namespace qfm::test
