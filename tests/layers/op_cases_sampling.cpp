#include <algorithm>
#include <array>

#include "layers/pointwise.h"
#include "layers/sampling.h"
#include "tests/layers/op_cases.h"

namespace qfm::test {
namespace {

using In = std::vector<Var>;

void add_resize(std::vector<OpCase>& t) {
  for (auto [h, w, to_h, to_w] : {std::array<int64_t, 4>{1, 1, 3, 2},
                                  {5, 7, 1, 1},
                                  {4, 5, 8, 10},
                                  {7, 33, 3, 13},
                                  {3, 29, 5, 67},
                                  {5, 5, 5, 5},
                                  {2, 3, 31, 37}})
    for (const bool corners : {false, true})
      t.push_back({concat("resize_bilinear ", h, "x", w, " to ", to_h, "x", to_w, corners ? ", corners" : ""),
                   {{{2, 3, h, w}}},
                   [=](const In& v) { return resize_bilinear(v[0], to_h, to_w, corners); },
                   4 * (1 + to_h / h) * (1 + to_w / w)});
}

// Sides are odd, or even where corners lie on corners: there no coordinate of 8 bits but -1, 0 and 1 lies on a kink of
// the interpolation, where it has no derivative.
void add_sample(std::vector<OpCase>& t) {
  struct Sizes {
    int64_t batch, channels, height, width, to_height, to_width;
    double spread;
  };
  for (const Sizes s : {Sizes{1, 1, 1, 1, 1, 1, 0.3},
                        {2, 3, 5, 7, 4, 5, 0.6},
                        {1, 19, 7, 3, 3, 7, 0.5},
                        {2, 16, 5, 9, 1, 37, 0.4},
                        {1, 2, 13, 11, 1, 3, 0.6},
                        {1, 5, 3, 3, 2, 9, 8}})
    for (const bool corners : {false, true})
      for (const auto padding : {SamplePadding::Zeros, SamplePadding::Border}) {
        const int64_t more = corners ? 1 : 0, places = s.to_height * s.to_width;
        t.push_back(
            {concat("sample_bilinear ", s.channels, "x", s.height + more, "x", s.width + more, " at ", places,
                    padding == SamplePadding::Border ? ", border" : "", corners ? ", corners" : ""),
             {{{s.batch, s.channels, s.height + more, s.width + more}},
              {{s.batch, s.to_height, s.to_width, 2}, false, true, s.spread}},
             [=](const In& v) {
               return sample_bilinear(v[0], cast(v[1], acc_of(v[0].value.dtype())), padding, corners);
             },
             4 * std::max(s.channels, places)});
      }
}

}  // namespace

void add_sampling_cases(std::vector<OpCase>& table) {
  add_resize(table);
  add_sample(table);
}

}  // namespace qfm::test
