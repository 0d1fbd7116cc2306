// The 4-parameter logistic mapping of train/metrics/metrics.h.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "engine/base/error.h"
#include "train/metrics/metrics.h"

namespace qfm {
namespace {

using Beta = std::array<double, 4>;

struct Scale {
  double mean, deviation;  // population standard deviation
};

Scale scale_of(Values values) {
  const auto n = static_cast<double>(values.size());
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  double sum = 0;
  for (double v : values) sum += (v - mean) * (v - mean);
  return {mean, std::sqrt(sum / n)};
}

std::vector<double> standardised(Values values, Scale scale) {
  std::vector<double> z;
  for (double v : values) z.push_back((v - scale.mean) / scale.deviation);
  return z;
}

double sigmoid(double t) { return t >= 0 ? 1 / (1 + std::exp(-t)) : std::exp(t) / (1 + std::exp(t)); }

double curve(const Beta& beta, double x) {
  return beta[1] + (beta[0] - beta[1]) * sigmoid((x - beta[2]) / std::fabs(beta[3]));
}

double residual_of(const Beta& beta, Values x, Values y) {
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) sum += (curve(beta, x[i]) - y[i]) * (curve(beta, x[i]) - y[i]);
  return sum;
}

// J^T J and -J^T r of the residuals r = curve - y.
struct Normal {
  std::array<Beta, 4> matrix{};
  Beta right{};
};

Normal normal_equations(const Beta& beta, Values x, Values y) {
  Normal normal;
  for (size_t i = 0; i < x.size(); ++i) {
    const double width = std::fabs(beta[3]), t = (x[i] - beta[2]) / width, s = sigmoid(t);
    const double slope = (beta[0] - beta[1]) * s * (1 - s) / width;
    const Beta row{s, 1 - s, -slope, -slope * t * std::copysign(1.0, beta[3])};
    const double r = curve(beta, x[i]) - y[i];
    for (size_t a = 0; a < 4; ++a) {
      normal.right[a] -= row[a] * r;
      for (size_t b = 0; b < 4; ++b) normal.matrix[a][b] += row[a] * row[b];
    }
  }
  return normal;
}

// Solves (A + damping diag(A)) step = right by Cholesky's method; false where that matrix is not positive definite.
bool damped_step(const Normal& normal, double damping, Beta& step) {
  std::array<Beta, 4> l{};
  for (size_t i = 0; i < 4; ++i) {
    for (size_t j = 0; j <= i; ++j) {
      double sum = normal.matrix[i][j] * (i == j ? 1 + damping : 1);
      for (size_t k = 0; k < j; ++k) sum -= l[i][k] * l[j][k];
      if (i == j && !(sum > 0)) return false;
      l[i][j] = i == j ? std::sqrt(sum) : sum / l[j][j];
    }
  }
  for (size_t i = 0; i < 4; ++i) {
    step[i] = normal.right[i];
    for (size_t k = 0; k < i; ++k) step[i] -= l[i][k] * step[k];
    step[i] /= l[i][i];
  }
  for (size_t i = 4; i-- > 0;) {
    for (size_t k = i + 1; k < 4; ++k) step[i] -= l[k][i] * step[k];
    step[i] /= l[i][i];
  }
  return true;
}

// Levenberg-Marquardt with Marquardt's scaling; stops when twenty accepted steps in a row gain next to nothing.
Beta least_squares(Beta beta, Values x, Values y) {
  double damping = 1e-3, residual = residual_of(beta, x, y);
  for (int iteration = 0, idle = 0; iteration < 2000 && idle < 20 && damping < 1e12; ++iteration) {
    const Normal normal = normal_equations(beta, x, y);
    Beta step{}, next = beta;
    bool better = false;
    if (damped_step(normal, damping, step)) {
      for (size_t i = 0; i < 4; ++i) next[i] += step[i];
      const double at_next = next[3] == 0 ? NAN : residual_of(next, x, y);
      better = at_next < residual;
      if (better) {
        idle = residual - at_next < 1e-15 * residual ? idle + 1 : 0;
        beta = next, residual = at_next;
      }
    }
    damping = better ? std::max(damping / 10, 1e-12) : damping * 4;
  }
  return beta;
}

}  // namespace

double LogisticFit::operator()(double x) const { return curve(beta, x); }

std::optional<LogisticFit> fit_logistic(Values prediction, Values label) {
  // plcc checks the lists, and is undefined exactly where the curve is.
  if (!plcc(prediction, label) || label.size() < 5) return std::nullopt;
  // Fitted on standardised lists, then taken back: the curve only shifts and stretches with them.
  const Scale sx = scale_of(prediction), sy = scale_of(label);
  if (!(std::isnormal(sx.deviation) && std::isnormal(sy.deviation)))
    return std::nullopt;  // out of range of squares
  const auto x = standardised(prediction, sx), y = standardised(label, sy);
  const auto [least, most] = std::minmax_element(y.begin(), y.end());
  // A falling relation has beta1 < beta2; from the mirrored start it needs no lucky step through a flat curve.
  const Beta rising = least_squares({*most, *least, 0, 0.25}, x, y);
  const Beta falling = least_squares({*least, *most, 0, 0.25}, x, y);
  const Beta b = residual_of(falling, x, y) < residual_of(rising, x, y) ? falling : rising;

  LogisticFit fit{};
  fit.beta = {sy.mean + b[0] * sy.deviation, sy.mean + b[1] * sy.deviation, sx.mean + b[2] * sx.deviation,
              b[3] * sx.deviation};
  std::vector<double> mapped;
  for (double v : x) mapped.push_back(curve(b, v));
  fit.plcc = plcc(mapped, y);
  fit.residual = residual_of(b, x, y) * sy.deviation * sy.deviation;
  fit.rmse = std::sqrt(fit.residual / static_cast<double>(label.size()));
  return fit;
}

}  // namespace qfm
