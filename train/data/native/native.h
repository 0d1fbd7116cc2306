// The eight sets of the field in the layouts in which their authors publish them, and how they are told apart.
#pragma once
#include <string>

#include "train/data/dataset.h"

namespace qfm {

// Readers of NativeLayout: `folder` holds one of the layout's label files. Throw Error "PATH: reason".
Dataset read_live(const std::string& folder, const DatasetOptions& options);
Dataset read_csiq(const std::string& folder, const DatasetOptions& options);
Dataset read_tid2013(const std::string& folder, const DatasetOptions& options);
Dataset read_kadid10k(const std::string& folder, const DatasetOptions& options);
Dataset read_livec(const std::string& folder, const DatasetOptions& options);
Dataset read_koniq10k(const std::string& folder, const DatasetOptions& options);
Dataset read_flive(const std::string& folder, const DatasetOptions& options);
Dataset read_spaq(const std::string& folder, const DatasetOptions& options);

// BIQ2021 (Ahmed and Asif): a table of any name with image, mos, optionally subset and sha256; images are relative to
// `folder`, opinions 0 to 1, higher is better. A file whose SHA-256 differs is a bad row. Throws Error "PATH: reason".
Dataset read_biq2021(const std::string& folder, const std::string& table, const DatasetOptions& options);

// The set at NAME:FOLDER. Throws Error where there is no such folder or no label file of this layout in it;
// it then names the layout that was found there, one folder above or one below.
Dataset load_native(const NativeLayout& layout, const std::string& folder, const DatasetOptions& options);
// "; this is the layout of koniq10k: --data koniq10k:FOLDER" for a path in or at the folder of such a set,
// else "".
std::string layout_hint(const std::string& path);

// LIVE Challenge starts with the 7 photos t1 .. t7 on which raters were trained: no part of the set.
bool is_livec_training_image(int64_t row, const std::string& image);

}  // namespace qfm
