// From the flags of a run to what its parts are made of.
#pragma once
#include <optional>
#include <string>

#include "models/checkpoint.h"
#include "train/data/dataset.h"
#include "train/loop/batch_stream.h"
#include "train/objectives/objective.h"
#include "train/run/config.h"
#include "train/run/pseudo_labels.h"

namespace qfm {

// Architecture and preprocessing: of our checkpoint, or fitting timm's, or as asked for. A checkpoint without
// a feature selection head gets one where --select asks for it; one that has it keeps it. targets: of the training photos,
// which a new head begins from.
ModelInfo starting_info(const TrainConfig& config, const std::vector<double>& targets = {});
// What the run learns from, for its checkpoints.
void describe(ModelInfo& info, const TrainConfig& config, const Dataset& train);

LoaderOptions loader_options(const TrainConfig& config, const ModelInfo& info);
// The objectives of the flags, for a model that is not allocated yet. batch: rows of every batch. labels: of the photos
// that batches number, the first of them those of `train`; their descriptors are `semantics`.
Objectives objectives_of(const TrainConfig& config, const Dataset& train, const std::vector<float>& labels,
                         Semantics semantics, int64_t batch, Model& model, const ModelInfo& info,
                         Device device, DType compute);

// The photos of --unlabelled with the teacher's labels; none without it. Makes the folder --out, where the
// labels are kept unless --label-cache is given.
PseudoLabels label_unlabelled(const TrainConfig& config,
                              const std::function<void(int64_t, int64_t)>& progress);
LabelledPhotos labelled_photos(const Dataset& set, bool scaled);
LabelledPhotos labelled_photos(const PseudoLabels& labels, const Dataset& set, bool scaled);

}  // namespace qfm
