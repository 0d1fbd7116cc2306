#include "kernels/conv/conv2d.h"

#include <algorithm>
#include <type_traits>
#include <vector>

#include "kernels/common/activate.h"
#include "kernels/common/parallel_loops.h"
#include "kernels/conv/conv_sum.h"

namespace qfm {

// The readable code: what every other path must agree with. Each function computes what depends on one image and one
// channel, or on one channel of each side.
namespace plain {
namespace {

bool inside(int64_t i, int64_t size) { return i >= 0 && i < size; }

// Every tap (row u, column v of the window) at which output place (i, j) sees an element (row, column) of the image:
// f(tap, element).
template <class F>
void for_taps(const ConvShape& s, int64_t i, int64_t j, F&& f) {
  for (int64_t u = 0; u < s.y.size; ++u)
    for (int64_t v = 0; v < s.x.size; ++v) {
      const int64_t row = s.y.at(i, u), column = s.x.at(j, v);
      if (inside(row, s.height) && inside(column, s.width)) f(u * s.x.size + v, row * s.width + column);
    }
}

// Whether some position of the window sees element `at` through tap `tap`, and which.
bool position_of(const Window& window, int64_t positions, int64_t at, int64_t tap, int64_t& position) {
  const int64_t begin = at + window.pad_begin - tap * window.dilation;
  position = begin / window.stride;
  return begin % window.stride == 0 && inside(position, positions) && begin >= 0;
}

// The same from the other side: every tap through which output place `place` sees element (row, column): f(tap, place).
template <class F>
void for_places(const ConvShape& s, int64_t row, int64_t column, F&& f) {
  for (int64_t u = 0; u < s.y.size; ++u)
    for (int64_t v = 0; v < s.x.size; ++v) {
      int64_t i, j;
      if (position_of(s.y, s.out_height(), row, u, i) && position_of(s.x, s.out_width(), column, v, j))
        f(u * s.x.size + v, i * s.out_width() + j);
    }
}

// Output channel o of image b.
template <class T>
void forward(const ConvShape& s, T* y, const T* x, const T* w, const ConvEpilogue<T>& e, int64_t b,
             int64_t o) {
  using A = acc<T>;
  const int64_t area = s.height * s.width, places = s.out_height() * s.out_width();
  const int64_t first = o / s.group_out() * s.group_in();
  for (int64_t place = 0; place < places; ++place) {
    A v = 0;
    for (int64_t c = 0; c < s.group_in(); ++c) {
      const T* image = x + (b * s.in_channels + first + c) * area;
      const T* weight = w + (o * s.group_in() + c) * s.taps();
      for_taps(s, place / s.out_width(), place % s.out_width(),
               [&](int64_t tap, int64_t at) { v += A(weight[tap]) * A(image[at]); });
    }
    const int64_t at = (b * s.out_channels + o) * places + place;
    if (e.scale) v *= e.scale[o];
    if (e.shift) v += e.shift[o];
    if (e.residual) v += A(e.residual[at]);
    y[at] = T(activate(e.activation, v));
  }
}

// Input channel c of image b.
template <class T>
void dx(const ConvShape& s, T* dx, const T* dy, const T* w, int64_t b, int64_t c) {
  using A = acc<T>;
  const int64_t area = s.height * s.width, places = s.out_height() * s.out_width();
  const int64_t first = c / s.group_in() * s.group_out();
  for (int64_t at = 0; at < area; ++at) {
    A sum = 0;
    for (int64_t o = first; o < first + s.group_out(); ++o) {
      const T* gradient = dy + (b * s.out_channels + o) * places;
      const T* weight = w + (o * s.group_in() + c % s.group_in()) * s.taps();
      for_places(s, at / s.width, at % s.width,
                 [&](int64_t tap, int64_t place) { sum += A(weight[tap]) * A(gradient[place]); });
    }
    dx[(b * s.in_channels + c) * area + at] = T(sum);
  }
}

// Output channel o, channel c of its group.
template <class T>
void dw(const ConvShape& s, acc<T>* dw, const T* dy, const T* x, int64_t o, int64_t c) {
  using A = acc<T>;
  const int64_t area = s.height * s.width, places = s.out_height() * s.out_width();
  A* weight = dw + (o * s.group_in() + c) * s.taps();
  for (int64_t tap = 0; tap < s.taps(); ++tap) weight[tap] = 0;
  for (int64_t b = 0; b < s.batch; ++b) {
    const T* image = x + (b * s.in_channels + o / s.group_out() * s.group_in() + c) * area;
    const T* gradient = dy + (b * s.out_channels + o) * places;
    for (int64_t place = 0; place < places; ++place)
      for_taps(s, place / s.out_width(), place % s.out_width(),
               [&](int64_t tap, int64_t at) { weight[tap] += A(gradient[place]) * A(image[at]); });
  }
}

template <class T>
acc<T> db(const ConvShape& s, const T* dy, int64_t o) {
  const int64_t places = s.out_height() * s.out_width();
  acc<T> sum = 0;
  for (int64_t b = 0; b < s.batch; ++b)
    for (int64_t place = 0; place < places; ++place)
      sum += acc<T>(dy[(b * s.out_channels + o) * places + place]);
  return sum;
}

}  // namespace
}  // namespace plain

namespace {

// The code of a path: products of panels of `columns` places, and convolutions channel by channel.
template <class T>
struct ConvCode {
  int64_t columns;
  size_t (*workspace)(const ConvSum&, int64_t, int64_t);
  void (*block)(const ConvBlock<T>&);
  size_t (*dw_workspace)(const ConvSum&, int64_t, int64_t);
  void (*dw_block)(const ConvDwBlock<T>&);
  size_t (*depthwise_workspace)(const ConvSum&);
  void (*depthwise_block)(const DepthwiseBlock<T>&);
  void (*depthwise_dw_block)(const DepthwiseDwBlock<T>&);
};
template <class T>
ConvCode<T> conv_code() {
#define QFM_CONV_CODE_OF(isa)                                                                                \
  {                                                                                                          \
    isa::conv_panel_columns(), isa::conv_workspace<T>, isa::conv_block<T>, isa::conv_dw_workspace<T>,        \
        isa::conv_dw_block<T>, isa::depthwise_workspace, isa::depthwise_block<T>, isa::depthwise_dw_block<T> \
  }
  if (cpu_path() == CpuIsa::Avx512) return QFM_CONV_CODE_OF(avx512);
  return QFM_CONV_CODE_OF(avx2);
#undef QFM_CONV_CODE_OF
}

// Work in blocks of at most kMostRows rows times kMostPanels panels, which stay in the second level of cache. A few
// tasks for each thread, none too small to be worth handing over: rather fewer rows, as the panels of a block are
// gathered anew for each. The cut changes no bit of the result.
struct Cut {
  static constexpr int64_t kMostRows = 512, kMostPanels = 8, kFewRows = 56, kMinProducts = 1 << 18;
  int64_t rows, panels, groups, row_blocks, panel_blocks;
  Cut(int64_t rows, int64_t panels, int64_t groups, double products)
      : rows(rows),
        panels(panels),
        groups(groups),
        row_blocks((rows + kMostRows - 1) / kMostRows),
        panel_blocks((panels + kMostPanels - 1) / kMostPanels) {
    const auto wanted =
        std::min<int64_t>(static_cast<int64_t>(products / static_cast<double>(kMinProducts)), 2 * threads());
    while (tasks() < wanted && rows / (row_blocks + 1) >= kFewRows) ++row_blocks;
    while (tasks() < wanted && panel_blocks < panels) ++panel_blocks;
  }
  int64_t tasks() const { return groups * row_blocks * panel_blocks; }
  // f(group, row, rows, panel, panels) for each block.
  template <class F>
  void run(F&& f) const {
    if (rows == 0 || panels == 0) return;
    parallel_for(tasks(), [&](int64_t task) {
      const int64_t r = task % row_blocks, p = task / row_blocks % panel_blocks;
      const int64_t row = rows * r / row_blocks, panel = panels * p / panel_blocks;
      f(task / row_blocks / panel_blocks, row, rows * (r + 1) / row_blocks - row, panel,
        panels * (p + 1) / panel_blocks - panel);
    });
  }
};

// f(code, channel, channels, workspace) for ranges of `count` channels, which cost about `flops`.
template <class T, class F>
void for_channels(const ConvSum& s, int64_t count, double flops, F&& f) {
  constexpr double kTask = 1 << 19;
  const ConvCode<T> code = conv_code<T>();
  const auto tasks = static_cast<int64_t>(std::min(flops / kTask + 1, 1e6));
  for_ranges(count, std::max<int64_t>(1, (count + tasks - 1) / tasks), [&](int64_t begin, int64_t end) {
    const Scratch workspace(code.depthwise_workspace(s));
    f(code, begin, end - begin, workspace.as<void>());
  });
}

template <class T>
void run_sum(const ConvSum& s, T* result, const T* source, const T* w, const ConvEpilogue<T>& epilogue) {
  if (s.rows == 1 && s.channels == 1 && s.tap_count() > 0) {
    const auto flops =
        2.0 * static_cast<double>(s.batch * s.groups * s.places()) * static_cast<double>(s.tap_count());
    return for_channels<T>(s, s.batch * s.groups, flops,
                           [&](auto& code, int64_t begin, int64_t count, void* workspace) {
                             code.depthwise_block({s, result, source, w, epilogue, begin, count, workspace});
                           });
  }
  const ConvCode<T> code = conv_code<T>();
  const int64_t places = s.batch * s.places();
  const Cut cut(
      s.rows, (places + code.columns - 1) / code.columns, s.groups,
      static_cast<double>(places * s.groups * s.rows) * static_cast<double>(s.channels * s.tap_count()));
  cut.run([&](int64_t group, int64_t row, int64_t rows, int64_t panel, int64_t panels) {
    const Scratch workspace(code.workspace(s, rows, panels));
    code.block({s, result, source, w, epilogue, group, row, rows, panel, panels, workspace.as<void>()});
  });
}

// A sum with the arrays that it points to.
class Forward {
 public:
  explicit Forward(const ConvShape& s) : phase_taps_{0, s.taps()} {
    for (int64_t u = 0; u < s.y.size; ++u)
      for (int64_t v = 0; v < s.x.size; ++v) taps_.push_back({s.y.at(0, u), s.x.at(0, v), u * s.x.size + v});
    const SumAxis y = sum_axis(s.height, s.y.stride, s.out_height(), 1),
                  x = sum_axis(s.width, s.x.stride, s.out_width(), 1);
    sum = {s.batch, s.groups,     s.group_out(),      s.group_in(), y,
           x,       taps_.data(), phase_taps_.data(), s.taps(),     false};
  }
  ConvSum sum;

 private:
  std::vector<SumTap> taps_;
  std::vector<int64_t> phase_taps_;
};

// The image's elements first, first + stride, ... are seen by position q + offset through each tap of one residue.
struct TapOffset {
  int64_t tap, offset;
};
std::vector<TapOffset> taps_of_phase(const Window& window, int64_t first) {
  std::vector<TapOffset> taps;
  for (int64_t tap = 0; tap < window.size; ++tap) {
    const int64_t at = first + window.pad_begin - tap * window.dilation;
    if (at % window.stride == 0) taps.push_back({tap, at / window.stride});
  }
  return taps;
}
class Backward {
 public:
  explicit Backward(const ConvShape& s) : phase_taps_{0} {
    const SumAxis y = sum_axis(s.out_height(), 1, s.height, std::min(s.y.stride, s.height)),
                  x = sum_axis(s.out_width(), 1, s.width, std::min(s.x.stride, s.width));
    for (int64_t i = 0; i < y.phases; ++i)
      for (int64_t j = 0; j < x.phases; ++j) {
        for (const TapOffset& u : taps_of_phase(s.y, i))
          for (const TapOffset& v : taps_of_phase(s.x, j))
            taps_.push_back({u.offset, v.offset, u.tap * s.x.size + v.tap});
        phase_taps_.push_back(static_cast<int64_t>(taps_.size()));
      }
    sum = {s.batch, s.groups,     s.group_in(),       s.group_out(), y,
           x,       taps_.data(), phase_taps_.data(), s.taps(),      true};
  }
  ConvSum sum;

 private:
  std::vector<SumTap> taps_;
  std::vector<int64_t> phase_taps_;
};

template <class T>
void run_dw(const ConvShape& s, acc<T>* dw, acc<T>* db, const T* dy, const T* x) {
  const Forward forward(s);
  const int64_t columns = s.group_in() * s.taps();
  if (s.batch == 0) {
    std::fill(dw, dw + s.out_channels * columns, acc<T>{0});
    if (db) std::fill(db, db + s.out_channels, acc<T>{0});
    return;
  }
  if (s.depthwise())
    return for_channels<T>(forward.sum, s.groups, s.flops(),
                           [&](auto& code, int64_t begin, int64_t count, void* workspace) {
                             code.depthwise_dw_block({forward.sum, dw, db, dy, x, begin, count, workspace});
                           });
  const ConvCode<T> code = conv_code<T>();
  const Cut cut(s.group_out(), (columns + code.columns - 1) / code.columns, s.groups, s.flops() / 2);
  cut.run([&](int64_t group, int64_t row, int64_t rows, int64_t panel, int64_t panels) {
    const Scratch workspace(code.dw_workspace(forward.sum, rows, panels));
    code.dw_block({forward.sum, dw, db, dy, x, group, row, rows, panel, panels, workspace.as<void>()});
  });
}

}  // namespace

template <class T>
void conv2d_forward(Cpu, const ConvShape& s, T* y, const T* x, const T* w, const ConvEpilogue<T>& epilogue) {
  if constexpr (has_vector_code && !std::is_same_v<T, double>)
    if (cpu_path() != CpuIsa::Plain) return run_sum<T>(Forward(s).sum, y, x, w, epilogue);
  parallel_for(s.batch * s.out_channels, [&](int64_t i) {
    plain::forward(s, y, x, w, epilogue, i / s.out_channels, i % s.out_channels);
  });
}

template <class T>
void conv2d_dx(Cpu, const ConvShape& s, T* dx, const T* dy, const T* w) {
  if constexpr (has_vector_code && !std::is_same_v<T, double>)
    if (cpu_path() != CpuIsa::Plain) return run_sum<T>(Backward(s).sum, dx, dy, w, {});
  parallel_for(s.batch * s.in_channels,
               [&](int64_t i) { plain::dx(s, dx, dy, w, i / s.in_channels, i % s.in_channels); });
}

template <class T>
void conv2d_dw(Cpu, const ConvShape& s, acc<T>* dw, acc<T>* db, const T* dy, const T* x) {
  if constexpr (has_vector_code && !std::is_same_v<T, double>)
    if (cpu_path() != CpuIsa::Plain) return run_dw<T>(s, dw, db, dy, x);
  if (db) parallel_for(s.out_channels, [&](int64_t o) { db[o] = plain::db(s, dy, o); });
  parallel_for(s.out_channels * s.group_in(),
               [&](int64_t i) { plain::dw(s, dw, dy, x, i / s.group_in(), i % s.group_in()); });
}

#define QFM_INSTANTIATE(T)                                                                             \
  template void conv2d_forward(Cpu, const ConvShape&, T*, const T*, const T*, const ConvEpilogue<T>&); \
  template void conv2d_dx(Cpu, const ConvShape&, T*, const T*, const T*);                              \
  template void conv2d_dw(Cpu, const ConvShape&, acc<T>*, acc<T>*, const T*, const T*);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
QFM_INSTANTIATE(double)
#undef QFM_INSTANTIATE

}  // namespace qfm
