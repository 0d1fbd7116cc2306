#include "models/qfm_iqm.h"

#include "layers/activations.h"

namespace qfm {

ModelConfig model_config(const std::string& arch, const std::string& convention) {
  ModelConfig c;
  c.arch = arch;
  if (arch == "vit-tiny") c.vit.width = 192, c.vit.heads = 3;
  else if (arch == "vit-small") c.vit.width = 384, c.vit.heads = 6;
  else if (arch == "vit-base") c.vit.width = 768, c.vit.heads = 12;
  else QFM_FAIL("architecture '", arch, "' is not known: vit-tiny, vit-small or vit-base");
  QFM_CHECK(convention == "deit" || convention == "deit3", "convention '", convention,
            "' is not known: deit or deit3");
  if (convention == "deit3") c.vit.layer_scale = true, c.vit.pos_embed_on_cls = false;
  c.panel.width = c.vit.width;
  return c;
}

QfmIqm::QfmIqm(const ModelConfig& c, Device device, DType compute, bool training)
    : config(c),
      vit(params, "vit.", c.vit),
      select(c.select ? std::optional<FeatureSelection>(std::in_place, params, c.vit.width) : std::nullopt),
      decoder(params, c.panel) {
  QFM_CHECK(c.panel.width == c.vit.width, "model: decoder width ", c.panel.width, " for a backbone of width ",
            c.vit.width);
  params.allocate(device, compute, training);
}

QfmIqm::Output QfmIqm::operator()(const Var& images) const {
  const Vit::Features f = vit(images);
  Output out;
  out.cls = f.cls, out.patches = f.patches;
  if (select) {
    out.gate = (*select)(f.patches);
    out.cls = gate(f.cls, out.gate), out.patches = gate(f.patches, out.gate);
  }
  const QueryDecoder::Output panel = decoder(out.cls, out.patches);
  out.tokens = panel.tokens, out.judges = panel.judges, out.score = panel.score;
  return out;
}

void QfmIqm::init(uint64_t seed) {
  vit.init(seed);
  if (select) select->init(seed);
  decoder.init(seed);
  params.sync();
}

void QfmIqm::freeze() {
  vit.freeze();
  if (select) select->freeze();
  decoder.freeze();
}

}  // namespace qfm
