// host-CUDA is tested by bugs: each one below is planted alone, and must show itself by an error or a wrong
// result in some schedule. The same kernels without a bug must pass in all.
#include <cstdio>

#include "tests/engine/planted_attention.cuh"
#include "tests/engine/planted_batchnorm.cuh"
#include "tests/engine/planted_bugs.h"
#include "tests/engine/planted_conv.cuh"
#include "tests/engine/planted_pool.cuh"
#include "tests/engine/planted_product.cuh"
#include "tests/engine/planted_rows.cuh"
#include "tests/engine/planted_sampling.cuh"
#include "tests/support.h"

namespace qfm::test {
namespace {

struct Planted {
  const char* name;
  Hunt (*hunt)();
};
#define QFM_ROWS(bug) \
  Planted { #bug, &hunt_in_rows < Bug::bug> }
#define QFM_COLUMNS(bug) \
  Planted { #bug, &hunt_in_columns < Bug::bug> }
#define QFM_PRODUCT(bug) \
  Planted { #bug, &hunt_in_product < Bug::bug> }
#define QFM_ATTENTION(bug) \
  Planted { #bug, &hunt_in_attention < Bug::bug> }
#define QFM_CONV(bug) \
  Planted { #bug, &hunt_in_conv < Bug::bug> }
#define QFM_BATCHNORM(bug) \
  Planted { #bug, &hunt_in_batchnorm < Bug::bug> }
#define QFM_POOL(bug) \
  Planted { #bug, &hunt_in_pool < Bug::bug> }
#define QFM_SAMPLES(bug) \
  Planted { #bug, &hunt_in_samples < Bug::bug> }

constexpr Planted kSound[] = {QFM_ROWS(None), QFM_COLUMNS(None), QFM_PRODUCT(None), QFM_ATTENTION(None),
                              QFM_SAMPLES(None), QFM_CONV(None), QFM_BATCHNORM(None), QFM_POOL(None)};

constexpr Planted kPlanted[] = {
    QFM_ROWS(MissingBarrier),
    QFM_ROWS(MissingReuseBarrier),
    QFM_ROWS(DivergentBarrier),
    QFM_ROWS(EarlyReturn),
    QFM_ROWS(ExitedLane),
    QFM_ROWS(HalfMask),
    QFM_ROWS(GuardTooFar),
    QFM_ROWS(GuardTooShort),
    QFM_ROWS(WrongStride),
    QFM_ROWS(WrongLane),
    QFM_ROWS(HalfButterfly),
    QFM_ROWS(UnclearedSum),
    QFM_ROWS(SharedTooLarge),
    QFM_ROWS(MisalignedPack),
    QFM_ROWS(GridTooSmall),
    QFM_ROWS(WritesNextRow),
    QFM_ROWS(WritesOtherBlock),
#ifndef QFM_ASAN  // which would stop the program
    QFM_ROWS(SharedReadOutside),
    QFM_ROWS(SharedWriteOutside),
    QFM_PRODUCT(CopyOutsideShared),
#endif
    QFM_COLUMNS(UnwrittenShared),
    QFM_COLUMNS(OrderOfArrival),
    QFM_COLUMNS(MissingSlice),
    QFM_COLUMNS(UnwrittenSlice),
    QFM_COLUMNS(ReadsOtherBlock),
    QFM_PRODUCT(UnwaitedRead),
    QFM_PRODUCT(ShortWait),
    QFM_PRODUCT(Uncommitted),
    QFM_PRODUCT(PrefetchPastEnd),
    QFM_PRODUCT(NoBarrierAfterWait),
    QFM_PRODUCT(NoBarrierBeforeRefill),
    QFM_PRODUCT(BuffersSwapped),
    QFM_PRODUCT(MissingZeroFill),
    QFM_PRODUCT(WrongMatrixRow),
    QFM_PRODUCT(MisalignedMatrixRow),
    QFM_PRODUCT(MissingTranspose),
    QFM_PRODUCT(WrongFragment),
    QFM_PRODUCT(WrongOutputFragment),
    QFM_PRODUCT(StaleAccumulator),
    QFM_PRODUCT(LastStepForgotten),
    QFM_PRODUCT(RowGuard),
    QFM_ATTENTION(MaskRoundedUp),
    QFM_ATTENTION(MaskOffByOne),
    QFM_ATTENTION(MaxOfOneLane),
    QFM_ATTENTION(SumNotRescaled),
    QFM_ATTENTION(OutputNotRescaled),
    QFM_ATTENTION(MissingSyncwarp),
    QFM_ATTENTION(SeesTheNextKey),
    QFM_ATTENTION(LowerRightCorner),
    QFM_ATTENTION(SeesPadding),
    QFM_ATTENTION(LeavesDiagonalOut),
    QFM_ATTENTION(HiddenKeysFirst),
    QFM_ATTENTION(DividesByNothing),
    QFM_SAMPLES(RowWraps),
    QFM_SAMPLES(NearestCounted),
    QFM_SAMPLES(NoBarrierBeforeHead),
    QFM_SAMPLES(ListAsTheyCome),
    QFM_SAMPLES(ListCutShort),
    QFM_SAMPLES(AnyPlaceIsHead),
    QFM_SAMPLES(CellForgotten),
    QFM_CONV(ConvNoBarrierAfterGather),
    QFM_CONV(ConvNoBarrierBeforeGather),
    QFM_CONV(ConvRowTooFar),
    QFM_CONV(ConvColumnTooFar),
    QFM_CONV(ConvTapsTurned),
    QFM_CONV(ConvLinesRoundedUp),
    QFM_CONV(ConvChannelTooFar),
    QFM_CONV(ConvPlaceTooFar),
    QFM_CONV(ConvPhaseRoundedDown),
    QFM_CONV(ConvPhaseWithoutPadding),
    QFM_BATCHNORM(NormOfOneImage),
    QFM_BATCHNORM(NormImagesSideBySide),
    QFM_BATCHNORM(NormCountRoundedUp),
    QFM_BATCHNORM(NormSquaresAboutZero),
    QFM_BATCHNORM(NormNoBarrierBeforeSum),
    QFM_BATCHNORM(NormNoBarrierAfterSum),
    QFM_BATCHNORM(NormRunningTwice),
    QFM_POOL(PoolPaddingIsZero),
    QFM_POOL(PoolColumnWraps),
    QFM_POOL(PoolLastOfEqual),
    QFM_POOL(PoolPlaceInBatch),
    QFM_POOL(PoolLastWindowForgotten),
#ifdef QFM_CUDA_RACE  // no schedule shows it
    QFM_ATTENTION(MissingReuseSyncwarp),
#endif
};

TEST_CASE("host-CUDA: every planted bug is caught, the sound kernels are not") {
  for (const Planted& p : kSound) {
    const Hunt hunt = p.hunt();
    CHECK_MESSAGE(hunt.found() == Found::No, hunt.message());
  }
  int errors = 0, wrong = 0;
  for (const Planted& p : kPlanted) {
    const Hunt hunt = p.hunt();
    CHECK_MESSAGE(hunt.found() != Found::No, std::string(p.name));
    errors += hunt.found() == Found::Error, wrong += hunt.found() == Found::WrongResult;
  }
  const int count = static_cast<int>(std::size(kPlanted));
  std::printf("planted bugs caught: %d of %d (%d by an error that names the place, %d by wrong results)\n",
              errors + wrong, count, errors, wrong);
  CHECK(errors + wrong == count);
}

}  // namespace
}  // namespace qfm::test
