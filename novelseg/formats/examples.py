"""Format ``examples``: predictions of a few episodes, which the report shows."""

from __future__ import annotations

import numpy as np

from novelseg.formats.hdf5 import TEXT, Artifact, Field, Ragged, Spec, ragged_fields


def _rule(file: Artifact) -> str:
    pixels = file["height"][:].astype(np.int64) * file["width"][:]
    expected = {
        "predictions": len(file.attributes["variants"]) * pixels,
        "confident": file["cells"][:].astype(np.int64).prod(1),
        "prior": file["prior_cells"][:].astype(np.int64).prod(1),
    }
    for name, sizes in expected.items():
        if (Ragged.lengths(file, name) != sizes).any():
            return f"the maps in '{name}' do not have their size"
    for name, most in (("predictions", 1), ("confident", 2)):
        if (file[name][:] > most).any():
            return f"dataset '{name}' has values that are not from 0 to {most}"
    return (
        "attribute 'fold' or 'shot' is out of range"
        if file.attributes["fold"] < 0 or file.attributes["shot"] < 1
        else ""
    )


EXAMPLES = Spec(
    "examples",
    4,
    "evaluate",
    "Predictions of a few episodes for the report, with the query cells that refined the classifier, and CAM priors.",
    {
        "query": Field("E", TEXT, "-", "query image id"),
        "supports": Field("E", TEXT, "-", "support image ids, separated by spaces"),
        "class": Field("E", "int32", "-", "class 1…C", low=1),
        "height": Field("E", "int32", "px", "height of the query", low=1),
        "width": Field("E", "int32", "px", "width of the query", low=1),
        **ragged_fields("predictions", "E", "uint8", "-", "one map per variant, row by row: 1 foreground"),
        **ragged_fields(
            "confident", "E", "uint8", "-", "query cells at stride 8: 0 unused, 1 background, 2 foreground"
        ),
        "cells": Field(
            "E 2", "int32", "cells", "height and width of `confident`; 0 where no query cell was used", low=0
        ),
        **ragged_fields("prior", "E", "uint8", "1/255", "activation map of the class (B, Eq. 3)"),
        "prior_cells": Field("E 2", "int32", "cells", "height and width of `prior`; 0 where there is none", low=0),
    },
    {"fold": "fold", "shot": "number of supports", "variants": "variants in the order of the predictions"},
    {"fold": int, "shot": int, "variants": list[str]},
    _rule,
    unchecked_version=3,
)
