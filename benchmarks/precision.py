"""A ResNet in float32, bfloat16 and int8 on a CPU: milliseconds of the features, and what the masks lose.

    python -m benchmarks.precision --voc $NOVELSEG_DATA/voc-subset --weights R50 --stem msra --features DIR --out FILE

The int8 network has BatchNorm folded into its convolutions, weights quantised per channel and activations per tensor
(PyTorch's FX quantisation, oneDNN's kernels); their ranges are those of a few training images. The same episodes are
predicted from the features of each form, with prototypes and with the closed-form head, in float32. A row of the table
gives the median CPU seconds of a picture's features and of their ratio to float32, the median relative error of the
features, mIoU (mean over classes of summed intersections over summed unions), and the difference from float32 with its
95 % interval over queries, paired. The forms take turns on each timed picture, so that a busy machine slows all of
them.
"""

from __future__ import annotations

import argparse
import copy
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.features import FolderBank
from benchmarks.heads import RememberingClosedForm, count_pixels, episodes
from benchmarks.headscores import Scores
from benchmarks.headsettings import Rows
from benchmarks.tables import markdown, write, write_below
from benchmarks.untrained import Pictures, source_parser
from novelseg.backbones.contract import Backbone
from novelseg.backbones.extraction import FeatureExtractor
from novelseg.backbones.resnet import FrozenBatchNorm, ResNetBackbone
from novelseg.core.progress import track
from novelseg.inference.bundle import Bundle, pretrained_bundle
from novelseg.methods.contract import Case, RefinementTask
from novelseg.methods.matching.prototypes import match_many
from novelseg.methods.variants import CLOSED_FORM, MATCHING

COLUMNS = ("form", "seconds", "over_fp32", "error", "shots", "head", "episodes", "miou", "minus_fp32")
MARK = "<!-- written by `python -m benchmarks.precision --page` -->"
FORMS = FP32, BF16, INT8 = "fp32", "bf16", "int8"
CPU = torch.device("cpu")


def fold_norms(module: nn.Module) -> None:
    """Fold each BatchNorm of a ResNet into the convolution before it, in place."""
    before: tuple[nn.Module, str, nn.Conv2d] | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Conv2d):
            before = module, name, child
        elif isinstance(child, FrozenBatchNorm) and before is not None:
            owner, place, conv = before
            factor = child.weight / (child.running_var + child.eps).sqrt()
            folded = copy.deepcopy(conv)
            folded.weight = nn.Parameter(conv.weight * factor[:, None, None, None])
            folded.bias = nn.Parameter(child.bias - child.running_mean * factor)
            setattr(owner, place, folded)
            setattr(module, name, nn.Identity())
        else:
            fold_norms(child)


def quantised(encoder: ResNetBackbone, images: list[Any]) -> Backbone:
    """Return an int8 copy of a ResNet, whose ranges are those of its activations on some images."""
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    net: Any = copy.deepcopy(encoder).eval()
    fold_norms(net.resnet)
    example = (torch.zeros(1, 3, 64, 64),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prepared = prepare_fx(net.resnet, get_default_qconfig_mapping("x86"), example)
        net.resnet = prepared
        extract = FeatureExtractor(net, "fp32", CPU)
        for image in images:
            extract([image])
        net.resnet = convert_fx(prepared)
    quick: Backbone = net
    return quick


def extractor(form: str, bundle: Bundle, images: list[Any]) -> FeatureExtractor:
    """Return the extractor of a form; ``images`` set the ranges of int8."""
    if form != INT8:
        return FeatureExtractor(bundle.encoder, form, CPU)
    if not isinstance(bundle.encoder, ResNetBackbone):
        raise SystemExit("int8 is measured for ResNets only")
    return FeatureExtractor(quantised(bundle.encoder, images), FP32, CPU)


def compare(extractors: Mapping[str, FeatureExtractor], images: list[Any]) -> dict[str, dict[str, str]]:
    """Return what the features of some images cost in each form, and how far they are from those in float32."""
    spent: dict[str, list[float]] = {form: [] for form in extractors}
    errors: dict[str, list[float]] = {form: [] for form in extractors}
    for extract in extractors.values():
        extract([images[0]])  # the first call prepares the kernels
    for image in images:
        exact: Tensor | None = None
        for form, extract in extractors.items():
            start = time.process_time()
            features = extract([image])[0]
            spent[form].append(time.process_time() - start)
            exact = features if exact is None else exact
            errors[form].append(float((features - exact).norm() / exact.norm()))
    return {
        form: {
            "seconds": f"{np.median(spent[form]):.3f}",
            "over_fp32": f"{np.median(np.divide(spent[form], spent[FP32])):.2f}",
            "error": f"{np.median(errors[form]):.1e}",
        }
        for form in extractors
    }


def predict(
    bank: FolderBank, pictures: Pictures, scale: float, options: argparse.Namespace
) -> dict[tuple[int, str], Rows]:
    """Return the rows of all episodes, by number of supports and head."""
    rows: dict[tuple[int, str], Rows] = {}
    remembering = RememberingClosedForm(options.closed_form)
    drawn = list(episodes(pictures, options))
    for number, label, query, supports in track(drawn, len(drawn), "precision", "episode"):
        bank.load({query, *supports})
        shown = tuple(bank.support(image, label) for image in supports)
        rough = match_many(bank[query], torch.stack([one.prototypes for one in shown]).mean(0)[None], scale)[0]
        case = Case(options.seed, number, query, label, tuple(supports))
        logits = torch.stack(
            [
                rough[1] - rough[0],
                remembering.refine(RefinementTask(case, shown, bank[query], rough, scale)).logits,
            ]
        )
        facts = {"class": str(label), "query": pictures.ids[query]}
        for head, own in zip(
            (MATCHING, CLOSED_FORM), count_pixels(bank.grid, logits, pictures.mask(query), label), strict=True
        ):
            counts = {name: str(count) for name, count in own.items()}
            rows.setdefault((len(supports), head), []).append({**facts, **counts})
    return rows


def main() -> None:
    """Measure all forms, write the table and print it."""
    parser = source_parser(__doc__.splitlines()[0])
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS)
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--episodes", type=int, default=10, help="episodes per class")
    parser.add_argument("--timed", type=int, default=8, help="pictures whose features are timed")
    parser.add_argument("--ranges", type=int, default=16, help="training images that set the ranges of int8")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--features", type=Path, required=True, help="scratch folder: a folder of features per form")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--page", type=Path, help="page that gets the table too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    bundle = pretrained_bundle(options.weights, options.stem)
    options.closed_form = bundle.refiners.closed_form
    pictures, train = Pictures(options.voc, options.list), Pictures(options.voc, "train", options.ranges)
    ranges = [train.image(number) for number in range(options.ranges)]
    images = [pictures.image(number) for number in range(options.timed)]
    forms = tuple(dict.fromkeys((FP32, *options.forms)))
    extractors = {form: extractor(form, bundle, ranges) for form in forms}
    costs = compare(extractors, images)
    found = {
        form: predict(FolderBank(pictures, extract, options.features / form), pictures, bundle.record.scale, options)
        for form, extract in extractors.items()
    }
    rows = []
    for form, groups in found.items():
        for (shots, head), own in groups.items():
            scores = Scores({form: own, FP32: found[FP32][shots, head]})
            rows.append(
                {
                    **{"form": form, **costs[form]},
                    **{"shots": shots, "head": head, "episodes": len(own), "miou": f"{scores.miou(form)[0]:.2f}"},
                    "minus_fp32": "" if form == FP32 else scores.gain(form, FP32, 2),
                }
            )
    write(options.out, COLUMNS, rows)
    if options.page:
        write_below(options.page, MARK, markdown(COLUMNS, rows))


if __name__ == "__main__":
    main()
