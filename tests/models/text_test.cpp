// The text transformer against CLIP's in PyTorch, with weights by formula (network_golden.h).
#include <optional>

#include "models/text/text_transformer.h"
#include "tests/models/network_golden.h"

using namespace qfm;
using namespace qfm::test;

namespace {

struct Text {
  explicit Text(const Json& about, DType dtype) {
    TextConfig c;
    c.vocabulary = about.at("vocabulary"), c.context = about.at("context"), c.width = about.at("width");
    c.depth = about.at("layers"), c.heads = about.at("heads"), c.out = about.at("out");
    transformer.emplace(params, c);
    params.allocate(cpu_device, dtype, dtype == DType::F64);
    fill_by_formula(params, "");
  }
  ParamSet params;
  std::optional<TextTransformer> transformer;
};

// Texts by formula: a begin, some words, the end, which is the largest id, then zeros.
Tensor text_ids(int64_t batch, const TextConfig& c) {
  Tensor ids({batch, c.context}, DType::I32);
  const auto id = ids.span<int32_t>();
  const FormulaBits words("ids"), ends("ends");
  const auto many = static_cast<uint64_t>(c.vocabulary - 3), places = static_cast<uint64_t>(c.context - 3);
  for (int64_t i = 0; i < batch; ++i) {
    const auto end = static_cast<int64_t>(3 + ends[static_cast<uint64_t>(i)] % places);
    for (int64_t t = 0; t < c.context; ++t) {
      const auto at = static_cast<size_t>(i * c.context + t);
      id[at] = t > end ? 0 : static_cast<int32_t>(1 + words[at] % many);
      if (t == 0) id[at] = static_cast<int32_t>(c.vocabulary - 2);
      if (t == end) id[at] = static_cast<int32_t>(c.vocabulary - 1);
    }
  }
  return ids;
}

}  // namespace

TEST_CASE("networks: the text transformer equals CLIP's in PyTorch, forward and backward") {
  for (const DType dtype : {DType::F64, DType::F32}) {
    CAPTURE(name_of(dtype));
    Golden golden("text");
    const Text text(golden.about, dtype);
    const TextFeatures y = (*text.transformer)(text_ids(golden.about.at("batch"), text.transformer->config));
    golden.check("out.pooled", y.pooled.value, dtype), golden.check("out.tokens", y.tokens.value, dtype);
    if (dtype != DType::F64) continue;
    backward(weighted({{"pooled", y.pooled}, {"tokens", y.tokens}}));
    for (const Param& p : text.params.params()) golden.check("grad." + p.name(), p.grad(), dtype);
    CHECK(golden.checked == golden.sketches.size());
  }
}

TEST_CASE("networks: a shorter text pools the same; ids and sizes that do not fit are refused") {
  const Text text(Golden("text").about, DType::F32);
  const TextConfig& c = text.transformer->config;
  const auto end = static_cast<int32_t>(c.vocabulary - 1);
  const auto pooled = [&](const std::vector<int32_t>& ids) {
    return (*text.transformer)(Tensor::from(ids, {1, static_cast<int64_t>(ids.size())})).pooled.value;
  };
  const Tensor brief = pooled({5, 9, end}), padded = pooled({5, 9, end, 0, 0, 0, 7});
  check_close("pooled", brief.to(DType::F64).span<double>(), padded.to(DType::F64).span<double>(), DType::F32, c.width);
  CHECK(contains(message_of([&] { pooled({5, end + 1}); }), "61"));
  CHECK(contains(message_of([&] { pooled({-1, end}); }), "-1"));
  CHECK(contains(message_of([&] { pooled(std::vector<int32_t>(14, 1)); }), "with at most 13 a text"));
  ParamSet params;
  TextConfig odd;
  odd.width = 10, odd.heads = 3, odd.depth = 1;
  CHECK(contains(message_of([&] { TextTransformer(params, odd); }), "width 10 does not divide into 3 heads"));
}
