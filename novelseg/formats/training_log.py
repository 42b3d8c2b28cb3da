"""Format ``training_log``: a table of the losses in the course of a training."""

from __future__ import annotations

from novelseg.formats.tables import Column, TableSpec

LOG = TableSpec(
    "training_log",
    3,
    "baseline, train, cam",
    "One row per logged iteration: means since the previous row.",
    (
        Column("iteration", "int64", "number of iterations done", low=1),
        Column("learning_rate", "float64", "learning rate", low=0),
        Column("loss", "float64", "total loss"),
        Column("loss_seg", "float64", "segmentation loss (A, Eq. 6; B)"),
        Column("loss_pseudo1", "float64", "pseudo-label loss of level 1; NaN where it is not trained"),
        Column("loss_pseudo2", "float64", "pseudo-label loss of level 2"),
        Column("loss_pseudo3", "float64", "pseudo-label loss of level 3"),
        Column("loss_class", "float64", "classification loss (B, Eq. 1); NaN where it is not trained"),
    ),
    ("iteration",),
)
