// Every objective: one line each. Their losses are added, and their flags listed, in this order.
#include <string>

#include "train/objectives/objective.h"

namespace qfm {

ObjectiveKind regression();
ObjectiveKind consistency();
ObjectiveKind selection();
ObjectiveKind closed_form_gate();
ObjectiveKind score_contrast_objective();
ObjectiveKind pseudo_regression();
ObjectiveKind feature_distillation();
ObjectiveKind two_views();
ObjectiveKind uncertainty();

namespace {
const std::vector<ObjectiveKind>& kinds() {
  static const std::vector<ObjectiveKind> all = {
      regression(),
      consistency(),
      selection(),
      closed_form_gate(),
      score_contrast_objective(),
      pseudo_regression(),
      feature_distillation(),
      two_views(),
      uncertainty(),
  };
  return all;
}
}  // namespace

const std::vector<OptionField>& option_fields() {
  static const std::vector<OptionField> fields = [] {
    std::vector<OptionField> all;
    for (const ObjectiveKind& kind : kinds()) all.insert(all.end(), kind.fields.begin(), kind.fields.end());
    return all;
  }();
  return fields;
}

Objectives make_objectives(const ObjectiveContext& context) {
  Objectives made;
  for (const ObjectiveKind& kind : kinds())
    if (auto one = kind.make(context, made)) made.push_back(std::move(one));
  return made;
}

}  // namespace qfm
