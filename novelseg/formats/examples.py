"""Format ``examples``: predictions for the report."""

from __future__ import annotations

from novelseg.formats.hdf5 import TEXT, Field, Spec, ragged_fields

EXAMPLES = Spec(
    "examples",
    3,
    "evaluate",
    "Predictions of a few episodes for the report, with the query cells that refined the classifier, and CAM priors.",
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
        "cells": Field("E 2", "int32", "cells", "height and width of `confident`; 0 where no query cell was used"),
        **ragged_fields("prior", "E", "uint8", "1/255", "activation map of the class (B, Eq. 3)"),
        "prior_cells": Field("E 2", "int32", "cells", "height and width of `prior`; 0 where there is none"),
    },
    {"fold": "fold", "shot": "number of supports", "variants": "variants in the order of the predictions"},
)
