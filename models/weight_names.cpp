#include "models/weight_names.h"

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "models/backbones/vit.h"
#include "models/checkpoint.h"

namespace qfm {
namespace {

using Entries = TensorFile::Entries;
using Words = std::pair<std::string_view, std::string_view>;

// Replaced in this order, each wherever it stands.
constexpr std::array kHuggingFace{Words{"embeddings.cls_token", "cls_token"},
                                  Words{"embeddings.position_embeddings", "pos_embed"},
                                  Words{"embeddings.patch_embeddings.projection.", "patch_embed.proj."},
                                  Words{"encoder.layer.", "blocks."},
                                  Words{"encoder.layers.", "blocks."},
                                  Words{"layers.", "blocks."},
                                  Words{".attention.attention.query.", ".attn.q."},
                                  Words{".attention.attention.key.", ".attn.k."},
                                  Words{".attention.attention.value.", ".attn.v."},
                                  Words{".attention.q_proj.", ".attn.q."},
                                  Words{".attention.k_proj.", ".attn.k."},
                                  Words{".attention.v_proj.", ".attn.v."},
                                  Words{".attention.output.dense.", ".attn.proj."},
                                  Words{".attention.o_proj.", ".attn.proj."},
                                  Words{".intermediate.dense.", ".mlp.fc1."},
                                  Words{".output.dense.", ".mlp.fc2."},
                                  Words{".layernorm_before.", ".norm1."},
                                  Words{".layernorm_after.", ".norm2."},
                                  Words{".layer_scale1.lambda1", ".ls1.gamma"},
                                  Words{".layer_scale2.lambda1", ".ls2.gamma"},
                                  Words{"layernorm.", "norm."}};
constexpr std::array kTorchvision{Words{"class_token", "cls_token"},
                                  Words{"conv_proj.", "patch_embed.proj."},
                                  Words{"encoder.pos_embedding", "pos_embed"},
                                  Words{"encoder.layers.encoder_layer_", "blocks."},
                                  Words{"encoder.ln.", "norm."},
                                  Words{".ln_1.", ".norm1."},
                                  Words{".ln_2.", ".norm2."},
                                  Words{".self_attention.in_proj_", ".attn.qkv."},
                                  Words{".self_attention.out_proj.", ".attn.proj."},
                                  Words{".mlp.0.", ".mlp.fc1."},
                                  Words{".mlp.3.", ".mlp.fc2."},
                                  Words{".mlp.linear_1.", ".mlp.fc1."},
                                  Words{".mlp.linear_2.", ".mlp.fc2."},
                                  Words{"heads.", "head."}};

std::string replaced(std::string name, std::span<const Words> words) {
  for (const auto& [from, to] : words)
    if (const size_t at = name.find(from); at != std::string::npos) name.replace(at, from.size(), to);
  return name;
}

template <class Rename>
Entries renamed(const TensorFile& file, Rename&& rename) {
  Entries entries;
  for (const auto& [name, entry] : file.entries()) {
    const std::string to = rename(name);
    QFM_CHECK(to.empty() || entries.emplace(to, entry).second, file.path(), ": two tensors for ", to);
  }
  return entries;
}

std::string without(const std::string& name, const std::string& prefix) {
  return name.starts_with(prefix) ? name.substr(prefix.size()) : name;
}

bool all_begin_with(const Entries& entries, const std::string& prefix) {
  return !entries.empty() &&
         std::all_of(entries.begin(), entries.end(), [&](const auto& e) { return e.first.starts_with(prefix); });
}

// What stands before Hugging Face's names: nothing, or the kind of model; nullopt: these are others' names.
std::optional<std::string> hugging_face_prefix(const TensorFile& file) {
  for (const char* prefix : {"", "vit.", "deit.", "dinov2.", "dinov2_with_registers."})
    if (file.has(std::string(prefix) + "embeddings.cls_token")) return prefix;
  return std::nullopt;
}

// One matrix or vector of q, k and v, where all three are there.
void join_attention(const std::string& path, Entries& entries) {
  for (auto q = entries.begin(); q != entries.end();) {
    const size_t at = q->first.rfind(".attn.q.");
    const auto sibling = [&](const char* to) { return entries.find(std::string(q->first).replace(at, 8, to)); };
    if (at == std::string::npos || sibling(".attn.k.") == entries.end() || sibling(".attn.v.") == entries.end()) {
      ++q;
      continue;
    }
    const auto k = sibling(".attn.k."), v = sibling(".attn.v.");
    TensorFile::Entry joined = q->second;
    joined.parts = {q->second, k->second, v->second};
    for (const auto& part : joined.parts)
      QFM_CHECK(part.shape == q->second.shape && part.dtype == q->second.dtype && part.shape.rank() > 0, path, ": ",
                q->first, " and its k and v differ in shape or type");
    std::vector<int64_t> dims(joined.shape.begin(), joined.shape.end());
    dims[0] *= 3;
    joined.shape = Shape(std::span<const int64_t>(dims));
    const std::string name = std::string(q->first).replace(at, 8, ".attn.qkv.");
    entries.erase(k), entries.erase(v);
    q = entries.erase(q);
    entries.emplace(name, std::move(joined));
  }
}

TensorFile from_hugging_face(const TensorFile& file, const std::string& prefix) {
  QFM_CHECK(!file.has(prefix + "embeddings.distillation_token"), file.path(),
            ": DeiT with a distillation token, no architecture here");
  QFM_CHECK(!file.has(prefix + "embeddings.register_tokens"), file.path(),
            ": DINOv2 with register tokens, no architecture here");
  Entries entries = renamed(file, [&](const std::string& full) {
    const std::string name = without(full, prefix);
    const bool left_out =
        name.starts_with("classifier.") || name.starts_with("pooler.") || name == "embeddings.mask_token";
    return left_out ? std::string() : replaced(name, kHuggingFace);
  });
  join_attention(file.path(), entries);
  TensorFile::Metadata metadata = file.metadata();
  if (entries.count("blocks.0.ls1.gamma") == 0) metadata[kOrigin] = kHuggingFaceVit;
  return file.with(std::move(entries), std::move(metadata));
}

constexpr const char* kBesideTimm = "qfm.";

// Ours under timm's names, brought back.
TensorFile from_timm_names(const TensorFile& file) {
  const std::string prefix = read_model_info(file).config.backbone->prefix();
  return file.with(renamed(file,
                           [&](const std::string& name) {
                             return name.starts_with(kBesideTimm) ? without(name, kBesideTimm) : prefix + name;
                           }),
                   file.metadata());
}

}  // namespace

std::string timm_name(const std::string& name, const std::string& backbone_prefix) {
  return name.starts_with(backbone_prefix) ? without(name, backbone_prefix) : kBesideTimm + name;
}

TensorFile open_weights(const std::string& path) {
  TensorFile file = TensorFile::open(path);
  if (all_begin_with(file.entries(), "module."))
    file = file.with(renamed(file, [](const std::string& name) { return without(name, "module."); }), file.metadata());
  if (file.metadata().count("qfm")) {
    const auto& all = file.entries();
    const auto beside = all.lower_bound(kBesideTimm);
    return beside != all.end() && beside->first.starts_with(kBesideTimm) ? from_timm_names(file) : file;
  }
  if (const auto prefix = hugging_face_prefix(file)) return from_hugging_face(file, *prefix);
  if (file.has("class_token") && file.has("conv_proj.weight"))
    return file.with(renamed(file, [](const std::string& name) { return replaced(name, kTorchvision); }),
                     file.metadata());
  return file;
}

}  // namespace qfm
