#include "tools/cli/data_options.h"

#include <CLI/CLI.hpp>

#include "tools/cli/command.h"

namespace qfm {

void add_data_options(CLI::App& app, DataOptions& options, DataGiven given) {
  app.add_option(
         given == DataGiven::ByFlag ? "--data" : "SET", options.data,
         "NAME:FOLDER with NAME of live csiq tid2013 kadid10k livec koniq10k flive spaq, in the layout "
         "in which it is downloaded; biq2021:FOLDER:TABLE; or a CSV: a manifest with columns image,score[,std,reference,split,subset], "
         "or a meta_info table of pyiqa")
      ->type_name("SET")
      ->required();
  app.add_option("--fold", options.set.fold, "Of a CSV: only rows with this text in this column")
      ->type_name("COLUMN=VALUE");
  app.add_option("--root", options.set.root,
                 "Of a CSV: image paths are relative to this (default: its folder)")
      ->type_name("DIR");
  app.add_option("--image-column", options.set.image_column,
                 "Of a CSV: the column of images (default: image, path, file, filename, name or image_name)")
      ->type_name("NAME");
  app.add_option("--score-column", options.set.score_column, "Of a CSV: the column of scores (default: score, mos or dmos)")
      ->type_name("NAME");
  app.add_option("--scale", options.scale, "Range of the labels (default: as published, else as observed)")
      ->type_name("LO:HI");
  app.add_flag("--lower-is-better", options.set.lower_is_better,
               "Labels are lower for better photos (DMOS); the named sets know theirs");
  app.add_option("--split", options.set.split, "A split made by 'qfm data split'")->type_name("FILE");
}

DatasetOptions checked(const DataOptions& options) {
  DatasetOptions how = options.set;
  if (!options.scale.empty()) how.scale = as_usage("--scale", [&] { return parse_range(options.scale); });
  if (!how.fold.empty()) as_usage("--fold", [&] { parse_fold(how.fold); });
  as_usage([&] { check_dataset_name(options.data); });
  return how;
}

}  // namespace qfm
