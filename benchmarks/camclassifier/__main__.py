"""What the CAM prior's classifier (method B) has learned, and whether its map depends on the support.

    python -m benchmarks.camclassifier features   --voc $NOVELSEG_DATA/voc-subset --weights PATH --cache FOLDER
    python -m benchmarks.camclassifier classifier --cache FOLDER --out docs/results
    python -m benchmarks.camclassifier joint      --cache FOLDER --out docs/results --fold 0      (and 1, 2, 3)
    python -m benchmarks.camclassifier ablation   --cache FOLDER --out docs/results --fold 0      (and 1, 2, 3)
    python -m benchmarks.camclassifier table      --out docs/results
    python -m benchmarks.camclassifier sheet      --cache FOLDER --picture FILE.png

The encoder is frozen, so that ``features`` computes everything that is read of the images once: the features of all
images at one side (float16), and the pooled features of all masked objects. ``classifier`` trains classification
branches for every fold f on the base classes of the folds f + 2 and f + 3. Their maps are measured on training images
with classes of the fold f + 1 (pseudo-novel, for choosing) and on validation images with classes of the fold f (novel,
for the report). ``joint`` chooses settings of the joint training with the classes of fold f held out; ``ablation``
trains with the map and with its replacements, and scores the novel classes of fold f. Every part writes rows;
``table`` computes the document from them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks.camclassifier.cache import compute_features
from benchmarks.camclassifier.parts import ablation_rows, classifier_rows, joint_rows
from benchmarks.camclassifier.sheet import draw_sheet
from benchmarks.camclassifier.tables import write_tables

PRIORS = ("map", "constant", "shuffled", "other")


def setting(text: str) -> tuple[str, bool, float, int]:
    """Parse ``object,relu,0.5,5000``: pooling, relu or raw, detached share, iterations of the classifier."""
    pooling, activation, detach, classifier = text.split(",")
    return pooling, activation == "relu", float(detach), int(classifier)


def main() -> None:
    """Run one part."""
    parts = {
        "features": compute_features,
        "classifier": classifier_rows,
        "joint": joint_rows,
        "ablation": ablation_rows,
        "table": write_tables,
        "sheet": draw_sheet,
    }
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=parts)
    parser.add_argument("--voc", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--arch", default="resnet18")
    parser.add_argument("--stem", default="torchvision")
    parser.add_argument("--side", type=int, default=225)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--episodes", type=int, default=300)
    parser.add_argument("--joint", type=int, default=400)
    parser.add_argument("--settings", type=setting, nargs="+", default=[("object", True, 0.0, 5000)])
    parser.add_argument("--priors", nargs="+", choices=PRIORS, default=list(PRIORS))
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    parts[options.part](options)


if __name__ == "__main__":
    main()
