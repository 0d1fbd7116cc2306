// Label tables as CSV files: plain manifests, and the meta_info tables of pyiqa.
#pragma once
#include "train/data/dataset.h"

namespace qfm {

// A manifest has a header with one of image, path, file, filename, name, image_name (the first of these that it has) and one
// of score, mos, dmos, or the columns that the options name, optionally std, reference,
// split, subset (letter case ignored), and any other columns. It has no direction: higher is better,
// whatever the column is called, unless the options have another. An image NAME is root/NAME; without a root
// FOLDER/NAME beside the table, or where there is none FOLDER/images/NAME.
//
// A table of pyiqa has the image under dist_name, img_name, name or "Image name", its reference under
// ref_name, and a split of 0, 1, 2 or train, val, test. It is known by its file name, meta_info_XDataset.csv,
// or by a column dist_name or img_name; X gives the direction, and of the eight sets the label range. Images
// are found without regard to letter case; of LIVE Challenge the 7 training images are left out.
Dataset load_manifest(const std::string& path, const DatasetOptions& options);

// The samples as a manifest: image,score,std,reference,split. Images by their names, or by their absolute paths.
enum class ImagesBy { Name, Path };
std::string manifest_text(const Dataset& set, ImagesBy images);

}  // namespace qfm
