"""Learn the region hierarchy from BSDS500: textons, networks that score arcs, and the scale of the contour strengths.

This is not a pipeline stage: the result is committed. Run
``python -m stages trainregions --bsds DIR --splits train,val --out weights/…safetensors``.

Reads
    BSDS500's images and human segmentations of the given splits.
Writes
    a weight file (safetensors) for ``hierarchies.weights`` and, beside it, a JSON file with its origin.
"""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

from novelseg.core.compute import use_threads
from novelseg.core.errors import InputError
from novelseg.core.files import digest, whole_file
from novelseg.core.options import Help
from novelseg.core.threads import Workers, one_thread
from novelseg.data.bsds import find
from novelseg.regions.learning import MCG_LENGTH, learn, mcg_length
from novelseg.regions.weights import save_model
from stages.options import Out, Seed
from stages.options import Workers as WorkerCount

LIBRARIES = ("torch", "numpy", "scipy", "higra", "opencv-python-headless", "faiss-cpu")


def run(
    *,
    bsds: Annotated[Path, Help("folder of BSDS500")],
    out: Out,
    splits: Annotated[str, Help("splits to learn from: train, val or train,val")] = "train",
    seed: Seed = 0,
    workers: WorkerCount = 0,
) -> None:
    """Learn from the images of ``splits`` and write the weights."""
    if out.suffix != ".safetensors":
        raise InputError(f"--out is {out}; expected a name that ends in .safetensors")
    names = splits.split(",")
    unknown = [name for name in names if name not in MCG_LENGTH]
    if unknown or len(set(names)) < len(names):
        raise InputError(f"--splits is '{splits}'; expected train, val or train,val; test is for scoring only")
    per_split = [find(bsds, name) for name in names]
    items = [item for part in per_split for item in part]
    use_threads(1)  # the number of threads changes the order of summation, and so the result
    with one_thread(), Workers(workers) as pool:
        model = learn(items, *mcg_length(names, [len(part) for part in per_split]), seed, pool)
    with whole_file(out) as scratch:
        save_model(scratch, model)
    ids_md5 = hashlib.md5("\n".join(item.name for item in items).encode(), usedforsecurity=False).hexdigest()
    about = {
        "made by": f"python -m stages trainregions --bsds BSDS500 --splits {splits} --seed {seed}",
        "learned from": f"BSDS500 {splits}: {len(items)} images and their mirror images, human segmentations",
        "md5 of the image ids": ids_md5,
        "scale": "mean boundary length of MCG at the same level, on the same splits",
        "versions": {name: version(name) for name in LIBRARIES},
        "md5": digest(out),
        "license": "MIT, as the code; BSDS500's images are not included",
    }
    with whole_file(out.with_suffix(".json")) as scratch:
        scratch.write_text(json.dumps(about, indent=1) + "\n", encoding="utf8")
