"""Every artifact file of the pipeline: HDF5 kinds and table kinds. ``docs/artifacts.md`` is generated from here."""

from __future__ import annotations

from stages.artifacts.hdf5 import TEXT, Field, Spec, ragged_fields
from stages.artifacts.tables import Column, TableSpec

LEVELS = (1, 2, 3)
SIDES = ("fg", "bg")
TRAIN, VAL = 0, 1

IMAGES = Spec(
    "images",
    1,
    "images",
    "One shard of the data set: encoded images and index masks, validated, with pixel counts.",
    {
        "id": Field("N", TEXT, "-", "image id"),
        "position": Field("N", "int32", "-", "place in the training list followed by the validation list"),
        "split": Field("N", "uint8", "-", "0 training list, 1 validation list"),
        "height": Field("N", "int32", "px", "height"),
        "width": Field("N", "int32", "px", "width"),
        "pixels": Field("N C+1", "int64", "px", "pixels of background (0) and of each class (1…C)"),
        "void": Field("N", "int64", "px", "pixels with label 255"),
        **ragged_fields("image", "N", "uint8", "byte", "encoded image (JPEG or PNG)"),
        **ragged_fields("mask", "N", "uint8", "byte", "encoded index mask (PNG; 0 background, 255 void)"),
    },
    {"classes": "names of classes 1…C", "source": "reader that the images came from"},
)

INDEX = Spec(
    "index",
    1,
    "index",
    "The data set without its pixels: where each image lies, what it holds, which classes are novel in which fold.",
    {
        "id": Field("N", TEXT, "-", "image id, unique"),
        "split": Field("N", "uint8", "-", "0 training list, 1 validation list"),
        "shard": Field("N", "int32", "-", "number of the image shard"),
        "row": Field("N", "int32", "-", "row in that shard"),
        "height": Field("N", "int32", "px", "height"),
        "width": Field("N", "int32", "px", "width"),
        "pixels": Field("N C+1", "int64", "px", "pixels of background (0) and of each class (1…C)"),
        "void": Field("N", "int64", "px", "pixels with label 255"),
        "fold": Field("C", "int32", "-", "fold in which class 1…C is novel"),
    },
    {
        "classes": "names of classes 1…C",
        "folds": "number of folds",
        "min_object_pixels": "an image counts as one of a class from this many pixels on",
        "novel_images": "keep or drop training images that hold novel classes too",
    },
)

HIERARCHIES = Spec(
    "hierarchies",
    1,
    "hierarchies",
    "One shard of region hierarchies (ultrametric contour maps) of the training images.",
    {
        "id": Field("T", TEXT, "-", "image id"),
        "row": Field("T", "int32", "-", "row in the image shard"),
        "height": Field("T", "int32", "px", "height of the image"),
        "width": Field("T", "int32", "px", "width of the image"),
        "work_height": Field("T", "int32", "px", "height at which the hierarchy was made"),
        "work_width": Field("T", "int32", "px", "width at which the hierarchy was made"),
        **ragged_fields("basins", "T", "uint16", "-", "leaf of the hierarchy at each pixel, row by row"),
        **ragged_fields("parents", "T", "int32", "-", "parent of each node; leaves first, the root is its own parent"),
        **ragged_fields(
            "heights", "T", "float32", "contour strength in [0, 1)", "level at which a node's children merge"
        ),
    },
    {"method": "how the hierarchies were made"},
)

REGIONS = Spec(
    "regions",
    1,
    "regions",
    "One shard of region label maps: the hierarchies cut at one contour strength.",
    {
        "id": Field("T", TEXT, "-", "image id"),
        "row": Field("T", "int32", "-", "row in the image shard"),
        "height": Field("T", "int32", "px", "height"),
        "width": Field("T", "int32", "px", "width"),
        "count": Field("T", "int32", "regions", "regions of the image, numbered 0…count−1"),
        **ragged_fields("labels", "T", "uint16", "-", "region at each pixel, row by row"),
    },
    {"tau": "contour strength of the cut"},
)

FEATURES = Spec(
    "features",
    1,
    "features",
    "One shard of the region corpora R_bg and R_fg of a fold: one masked-average-pooled vector each (A, Eq. 1).",
    {
        "bg/vectors": Field("R D", "float32", "-", "pooled features of background regions"),
        "bg/image": Field("R", TEXT, "-", "image id"),
        "bg/region": Field("R", "int32", "-", "region number in the image's label map"),
        "bg/area": Field("R", "int64", "px", "background pixels of the region"),
        "bg/box": Field("R 4", "int32", "px", "top, left, bottom, right; ends exclusive"),
        "fg/vectors": Field("O D", "float32", "-", "pooled features of (image, base class) masks"),
        "fg/image": Field("O", TEXT, "-", "image id"),
        "fg/class": Field("O", "int32", "-", "class 1…C"),
        "fg/area": Field("O", "int64", "px", "pixels of the class"),
        "fg/box": Field("O 4", "int32", "px", "top, left, bottom, right; ends exclusive"),
    },
    {
        "fold": "fold",
        "encoder": "digest of the encoder's weights",
        "dropped_regions": "background regions under min_region_area",
        "dropped_pixels": "their pixels",
    },
)

PROTOTYPES = Spec(
    "prototypes",
    1,
    "prototypes",
    "Three levels of prototypes of a fold, foreground and background (A, Eq. 2).",
    {
        f"{side}/level{level}/{name}": Field(dims.format(side, level), dtype, unit, doc)
        for side in SIDES
        for level in LEVELS
        for name, dims, dtype, unit, doc in (
            ("centres", "K_{0}{1} D", "float32", "-", "k-means centres"),
            ("members", "K_{0}{1}", "int64", "vectors", "corpus vectors below each centre"),
            ("parent", "K_{0}{1}", "int32", "-", "centre of the next coarser level; −1 at the coarsest"),
        )
    },
    {
        "fold": "fold",
        "encoder": "digest of the encoder's weights",
        "metric": "cosine or euclidean",
        "inertia": "sum of squared distances to the centres, per side and level",
        "vectors": "size of each corpus",
    },
)

PSEUDOLABELS = Spec(
    "pseudolabels",
    1,
    "pseudolabels",
    "One shard of pseudo-label maps of a fold at three levels (A, Eq. 3): fg 0…K−1, bg K…2K−1, 255 ignored.",
    {
        "id": Field("T", TEXT, "-", "image id"),
        "row": Field("T", "int32", "-", "row in the image shard"),
        "height": Field("T", "int32", "px", "height"),
        "width": Field("T", "int32", "px", "width"),
        **ragged_fields("labels", "T", "uint8", "-", "levels 1, 2, 3, each row by row at image resolution"),
    },
    {"fold": "fold", "encoder": "digest of the encoder's weights", "clusters": "K of levels 1, 2, 3"},
)

EXAMPLES = Spec(
    "examples",
    1,
    "evaluate",
    "Predictions of a few episodes for the report, with the query pixels that refined the classifier.",
    {
        "query": Field("E", TEXT, "-", "query image id"),
        "supports": Field("E", TEXT, "-", "support image ids, separated by spaces"),
        "class": Field("E", "int32", "-", "class 1…C"),
        "height": Field("E", "int32", "px", "height of the query"),
        "width": Field("E", "int32", "px", "width of the query"),
        **ragged_fields("predictions", "E", "uint8", "-", "one map per variant, row by row: 1 foreground"),
        **ragged_fields(
            "confident", "E", "uint8", "-", "query cells at stride 8: 0 unused, 1 background, 2 foreground"
        ),
        "cells": Field("E 2", "int32", "cells", "height and width of the confident map"),
    },
    {"fold": "fold", "shot": "supports", "variants": "order of the predictions"},
)

EPISODES = TableSpec(
    "episodes",
    1,
    "episodes",
    "One row per episode of a fold, shot and seed.",
    (
        Column("episode", "int64", "number of the episode"),
        Column("query", "str", "query image id"),
        Column("class", "int64", "class 1…C to segment"),
        Column("supports", "str", "support image ids, separated by spaces"),
    ),
)

RESULTS = TableSpec(
    "episode_results",
    1,
    "evaluate",
    "One row per seed, episode and variant: pixel counts from which every score follows.",
    (
        Column("seed", "int64", "seed of the episode list"),
        Column("episode", "int64", "number of the episode"),
        Column("variant", "str", "what made the prediction"),
        Column("query", "str", "query image id"),
        Column("class", "int64", "class 1…C"),
        Column("fg_intersection", "int64", "pixels that are foreground in truth and prediction"),
        Column("fg_union", "int64", "pixels that are foreground in truth or prediction"),
        Column("bg_intersection", "int64", "the same for background"),
        Column("bg_union", "int64", "the same for background"),
    ),
)

LOG = TableSpec(
    "training_log",
    1,
    "baseline, train",
    "One row per logged iteration: means since the row before.",
    (
        Column("iteration", "int64", "iterations done"),
        Column("learning_rate", "float64", "learning rate"),
        Column("loss", "float64", "whole loss"),
        Column("loss_seg", "float64", "matching loss (A2)"),
        Column("loss_pseudo1", "float64", "pseudo-label loss of level 1; NaN where it is not trained"),
        Column("loss_pseudo2", "float64", "level 2"),
        Column("loss_pseudo3", "float64", "level 3"),
    ),
)

SCORES = TableSpec(
    "results",
    1,
    "report",
    "One row per fold, shot and variant.",
    (
        Column("protocol", "str", "name of the protocol and preset"),
        Column("fold", "str", "fold, or mean over the folds listed"),
        Column("shot", "int64", "supports"),
        Column("variant", "str", "what made the predictions"),
        Column("miou", "float64", "mean IoU over the fold's novel classes, per cent"),
        Column("miou_std", "float64", "standard deviation over seeds, points"),
        Column("miou_low", "float64", "lower end of the 95 % bootstrap interval"),
        Column("miou_high", "float64", "upper end"),
        Column("fb_iou", "float64", "mean of foreground and background IoU, class-agnostic, per cent"),
        Column("fb_iou_std", "float64", "standard deviation over seeds, points"),
        Column("episodes", "int64", "episodes scored, all seeds"),
        Column("seeds", "int64", "number of seeds"),
        Column("parameters", "int64", "parameters of encoder and online classifier"),
    ),
)

CLASS_SCORES = TableSpec(
    "class_results",
    1,
    "report",
    "One row per fold, shot, variant and novel class.",
    (
        Column("fold", "int64", "fold"),
        Column("shot", "int64", "supports"),
        Column("variant", "str", "what made the predictions"),
        Column("class", "str", "class name"),
        Column("iou", "float64", "IoU over all episodes of all seeds, per cent"),
        Column("episodes", "int64", "episodes of the class"),
    ),
)

HDF5_SPECS = (IMAGES, INDEX, HIERARCHIES, REGIONS, FEATURES, PROTOTYPES, PSEUDOLABELS, EXAMPLES)
TABLE_SPECS = (EPISODES, RESULTS, LOG, SCORES, CLASS_SCORES)
