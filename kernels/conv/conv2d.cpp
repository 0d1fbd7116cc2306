#include "kernels/conv/conv2d.h"

#include "kernels/common/parallel_loops.h"

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

template <class T>
void conv2d_forward(Cpu, const ConvShape& s, T* y, const T* x, const T* w, const ConvEpilogue<T>& epilogue) {
  parallel_for(s.batch * s.out_channels, [&](int64_t i) {
    plain::forward(s, y, x, w, epilogue, i / s.out_channels, i % s.out_channels);
  });
}

template <class T>
void conv2d_dx(Cpu, const ConvShape& s, T* dx, const T* dy, const T* w) {
  parallel_for(s.batch * s.in_channels,
               [&](int64_t i) { plain::dx(s, dx, dy, w, i / s.in_channels, i % s.in_channels); });
}

template <class T>
void conv2d_dw(Cpu, const ConvShape& s, acc<T>* dw, acc<T>* db, const T* dy, const T* x) {
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
