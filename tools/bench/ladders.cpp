#include "tools/bench/ladders.h"

#include "engine/cuda/cuda.h"
#include "kernels/study/study.h"
#include "tools/bench/cold_buffers.h"
#include "tools/cli/console.h"

namespace qfm {
namespace {

struct Rung {
  std::string name, idea;
  std::function<bool(size_t turn)> run;  // false: not available (row 0 only)
};

struct Ladder {
  std::string name, shape;
  double flops = 0;                                              // of matrix products, by the mathematics
  double bytes = 0;                                              // that must move at least once
  std::function<std::vector<Rung>(const ColdBuffers&)> prepare;  // row 0 first
};

// call(function, turn) calls it with the arrays of that turn.
template <class Vendor, class Steps, class Call>
std::vector<Rung> rungs(const char* library, const char* how, Vendor by_vendor, const Steps& steps,
                        const Call& call) {
  std::vector<Rung> all{{library, how, [=](size_t turn) { return call(by_vendor, turn); }}};
  for (const auto& step : steps)
    all.push_back({step.name, step.idea, [=, run = step.run](size_t turn) {
                     call(run, turn);
                     return true;
                   }});
  return all;
}

Cuda stream() { return Cuda{cuda::compute_stream()}; }

Ladder layernorm_ladder(int64_t rows, int64_t cols) {
  const double bytes = 2 * static_cast<double>(rows * cols) * sizeof(bf16);
  const auto prepare = [=](const ColdBuffers& make) {
    const BufferTurns x = make({rows, cols}), y = make({rows, cols}), w = make({cols}), b = make({cols}),
                      mean = make({rows}, true), rstd = make({rows}, true);
    return rungs("cuDNN", "its layer normalisation", layernorm_by_vendor, layernorm_steps(),
                 [=](auto run, size_t i) {
                   return run(stream(), rows, cols, y[i].data<bf16>(), mean[i].data<float>(),
                              rstd[i].data<float>(), x[i].data<bf16>(), w[i].data<bf16>(), b[i].data<bf16>());
                 });
  };
  return {"ladder.layernorm", concat(rows, "x", cols), 0, bytes, prepare};
}

Ladder attention_ladder(AttentionShape s) {
  const int64_t d = s.heads * s.head_dim, tokens = s.batch * s.queries;
  const auto prepare = [=](const ColdBuffers& make) {
    const BufferTurns qkv = make({tokens, 3 * d}), o = make({tokens, d});
    return rungs(
        "cuDNN", "its scaled dot-product attention", attention_by_vendor, attention_steps(),
        [=](auto run, size_t i) {
          const bf16* q = qkv[i].data<bf16>();
          return run(stream(), s, {o[i].data<bf16>(), d}, {q, 3 * d}, {q + d, 3 * d}, {q + 2 * d, 3 * d});
        });
  };
  return {"ladder.attention", concat(s.batch, "x", s.heads, "x", s.queries, "x", s.head_dim),
          s.forward_flops(), 4 * static_cast<double>(tokens * d) * sizeof(bf16), prepare};
}

// y (m, n) of x (m, k) and w (n, k), for both ladders of products.
Ladder product_ladder(bool bias_gelu, int64_t m, int64_t n, int64_t k) {
  const double bytes = static_cast<double>(m * k + n * k + m * n) * sizeof(bf16),
               flops = 2 * static_cast<double>(m) * static_cast<double>(n * k);
  const auto prepare = [=](const ColdBuffers& make) {
    const BufferTurns x = make({m, k}), w = make({n, k}), bias = make({n}), y = make({m, n});
    if (!bias_gelu)
      return rungs("cuBLASLt", "its first suggestion", gemm_by_vendor, gemm_steps(), [=](auto run, size_t i) {
        return run(stream(), m, n, k, y[i].data<bf16>(), x[i].data<bf16>(), w[i].data<bf16>());
      });
    return rungs("cuBLASLt", "both in its epilogue, GELU in the tanh form", bias_gelu_by_vendor,
                 bias_gelu_steps(), [=](auto run, size_t i) {
                   return run(stream(), m, n, k, y[i].data<bf16>(), x[i].data<bf16>(), w[i].data<bf16>(),
                              bias[i].data<bf16>());
                 });
  };
  return {bias_gelu ? "ladder.bias_gelu" : "ladder.gemm", concat(m, "x", n, "x", k), flops, bytes, prepare};
}

Ladder conv_ladder(const ConvShape& s) {
  const int64_t out = s.batch * s.out_channels * s.out_height() * s.out_width(),
                in = s.batch * s.in_channels * s.height * s.width,
                weights = s.out_channels * s.in_channels * s.taps();
  const auto prepare = [=](const ColdBuffers& make) {
    const BufferTurns x = make({in}), w = make({weights}), y = make({out});
    return rungs("cuDNN", "its first suggestion", conv_by_vendor, conv_steps(), [=](auto run, size_t i) {
      return run(stream(), s, y[i].data<bf16>(), x[i].data<bf16>(), w[i].data<bf16>());
    });
  };
  return {"ladder.conv",
          concat(s.batch, "x", s.in_channels, "x", s.height, "x", s.width, " to ", s.out_channels, ", ",
                 s.y.size, "x", s.x.size),
          s.flops(), static_cast<double>(out + in + weights) * sizeof(bf16), prepare};
}

// One table: a row is printed when it is there.
class LadderTable {
 public:
  LadderTable(const Ladder& ladder, const Peaks& peaks) : ladder_(ladder), peaks_(peaks) {
    print(format("\n%s %s, BF16: %.1f GFLOP, %.1f MB; peak %s\n", ladder.name.c_str(), ladder.shape.c_str(),
                 ladder.flops / 1e9, ladder.bytes / 1e6, text_of(peaks).c_str()));
    print(format("%-2s %-18s %10s %22s %10s %8s %9s  %s\n", "", "", "ms median", "[min, max]",
                 by_flops() ? "TFLOP/s" : "GB/s", by_flops() ? "of peak" : "of copy", "x row 0", "idea"));
  }

  void add_absent(const Rung& rung) {
    rows_.push_back({{"step", rows_.size()}, {"name", rung.name}, {"idea", rung.idea}, {"available", false}});
    print(format("%-2zu %-18s not available\n", rows_.size() - 1, rung.name.c_str()));
  }
  void add_failed(const Rung& rung, const std::string& why) {
    rows_.push_back({{"step", rows_.size()}, {"name", rung.name}, {"idea", rung.idea}, {"error", why}});
    print(format("%-2zu %-18s failed: %s\n", rows_.size() - 1, rung.name.c_str(), why.c_str()));
  }
  void add(const Rung& rung, const Timing& ms) {
    const double gflops = ladder_.flops / ms.median / 1e6, gbs = ladder_.bytes / ms.median / 1e6;
    const double rate = by_flops() ? gflops / 1e3 : gbs;
    const double share = by_flops() ? gflops / peaks_.gflops : gbs / peaks_.copy_gbs;
    Json row = {{"step", rows_.size()}, {"name", rung.name},
                {"idea", rung.idea},    {"median_ms", ms.median},
                {"min_ms", ms.least},   {"max_ms", ms.most},
                {"gbs", gbs},           {"share_of_copy", gbs / peaks_.copy_gbs}};
    if (by_flops()) row.update({{"gflops", gflops}, {"share_of_peak", share}});
    if (rows_.empty()) vendor_ms_ = ms.median;
    std::string ratio = "-";
    if (vendor_ms_ > 0) {
      row["times_row_0"] = vendor_ms_ / ms.median;
      ratio = format("%.3f", vendor_ms_ / ms.median);
    }
    print(format("%-2zu %-18s %10.4f [%9.4f, %9.4f] %10.1f %7.1f%% %9s  %s\n", rows_.size(),
                 rung.name.c_str(), ms.median, ms.least, ms.most, rate, 100 * share, ratio.c_str(),
                 rung.idea.c_str()));
    rows_.push_back(std::move(row));
  }
  Json report() const {
    return {{"name", ladder_.name},   {"shape", ladder_.shape}, {"dtype", "BF16"},
            {"flops", ladder_.flops}, {"bytes", ladder_.bytes}, {"peak_gflops", rounded(peaks_.gflops)},
            {"peak_by", peaks_.by},   {"peak_of", peaks_.of},   {"copy_gbs", rounded(peaks_.copy_gbs)},
            {"rows", rows_}};
  }

 private:
  bool by_flops() const { return ladder_.flops > 0; }
  const Ladder& ladder_;
  const Peaks& peaks_;
  double vendor_ms_ = 0;  // 0: the vendor is not there
  Json rows_ = Json::array();
};

// ResNet-50's third stage: what its windows of 3 x 3 do most.
ConvShape resnet_conv(int64_t batch) {
  return {batch, 256, 14, 14, 256, 1, {3, 1, 1, 1, 1}, {3, 1, 1, 1, 1}};
}

}  // namespace

Json bench_ladders(const std::string& only, const TransformerSizes& sizes, int64_t batch, Device device,
                   const Peaks& peaks, int64_t cold_bytes) {
  const int64_t d = sizes.width, tokens = sizes.tokens, rows = batch * tokens;
  Json report = Json::array();
  for (const Ladder& ladder : {layernorm_ladder(rows, d), product_ladder(false, rows, 4 * d, d),
                               product_ladder(true, rows, 4 * d, d),
                               attention_ladder({batch, sizes.heads, tokens, tokens, d / sizes.heads}),
                               conv_ladder(resnet_conv(batch))}) {
    if (ladder.name.find(only) == std::string::npos) continue;
    LadderTable table(ladder, peaks);
    std::vector<Rung> rungs;
    const std::string unprepared = failure_of([&] {
      rungs = ladder.prepare(ColdBuffers({device, DType::BF16}, ladder.bytes, cold_bytes));
    });
    if (!unprepared.empty()) table.add_failed({"all", "", {}}, unprepared);
    for (const Rung& rung : rungs) {
      bool there = false;
      Timing ms{};
      const std::string failure = failure_of([&] {
        there = rung.run(0);
        if (there) ms = time_calls(device, [&](size_t turn) { rung.run(turn); });
      });
      if (!failure.empty()) table.add_failed(rung, failure);
      else if (there) table.add(rung, ms);
      else table.add_absent(rung);
    }
    report.push_back(table.report());
  }
  return report;
}

}  // namespace qfm
