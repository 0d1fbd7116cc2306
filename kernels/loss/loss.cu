// Smooth L1 with its gradient on CUDA; the contract is in loss.h, one element in loss_point.h.
//
// Maths, d = prediction - target:  mean of d^2 / (2 beta) where |d| < beta, else |d| - beta / 2;
// gradient clamp(d / beta, -1, 1) / n.
//
// Cost, for n elements of e bytes: 3 n e bytes and about 6 n FLOPs. n is the batch's scores (256 floats: 3
// kB, floor a nanosecond): one launch of one block gives value and gradient, and what counts is the launch.
#include "kernels/common/cuda_loops.cuh"
#include "kernels/loss/loss.h"
#include "kernels/loss/loss_point.h"

namespace qfm {
namespace {

template <class T>
struct MeanSmoothL1 {
  SmoothL1Point point;
  T* grad;
  const T *prediction, *target;
  double scale;  // 1 / n
  template <int V>
  __device__ double at(int64_t i) const {
    const Pack<T, V> ps = load<V>(prediction + i), ts = load<V>(target + i);
    Pack<T, V> gs;
    double sum = 0;
    for (int k = 0; k < V; ++k) {
      double slope;
      sum += point(static_cast<double>(static_cast<float>(ps.at[k])) - static_cast<float>(ts.at[k]), slope);
      gs.at[k] = T(static_cast<float>(slope * scale));
    }
    store<V>(grad + i, gs);
    return sum;
  }
  __device__ float finish(double sum) const { return static_cast<float>(sum * scale); }
};

}  // namespace

template <class T>
void smooth_l1(Cuda cuda, acc<T>* loss, T* grad, const T* prediction, const T* target, double beta,
               int64_t n) {
  const MeanSmoothL1<T> f{
      {beta}, grad, prediction, target, 1.0 / static_cast<double>(std::max<int64_t>(1, n))};
  with_lanes<T>(0, {grad, prediction, target}, [&]<int V>(Lanes<V>) { sum_all<V>(cuda, f, loss, n); });
}

template void smooth_l1(Cuda, float*, float*, const float*, const float*, double, int64_t);
template void smooth_l1(Cuda, float*, bf16*, const bf16*, const bf16*, double, int64_t);

}  // namespace qfm
