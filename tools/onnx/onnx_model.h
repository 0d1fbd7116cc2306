// A quality model as an ONNX file (opset 17), which ONNX Runtime and others run.
#pragma once
#include <string>

namespace qfm {

// Writes `to`, atomically: backbone, gate and head of the checkpoint `from`, in F32.
//   pixels (crops, 3, H, W), F32: RGB from 0 to 255; the model's normalisation is part of the graph
//   score (crops): 0 to 100, higher is better; that of a photo, as `qfm score` gives it, is the mean over its crops
//   members (crops, M): those that the score is the mean of, on the same scale; the spread is their standard deviation
// The description of the checkpoint is the metadata "qfm". Throws Error "PATH: reason", also for a head that scores
// several views together.
void write_onnx(const std::string& from, const std::string& to);

}  // namespace qfm
