"""Programs of ``benchmarks/`` beside what they measure: the same features, the same constants, the same network."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from benchmarks.camclassifier.parts import replace_rows
from benchmarks.encoders import fastest
from benchmarks.features import FolderBank
from benchmarks.instant import gain
from benchmarks.precision import compare, fold_norms
from benchmarks.presence import COUNTS, FACTS, judged, read
from benchmarks.similar import Sample, draw, side_by_side
from benchmarks.tables import read_rows, write_rows
from benchmarks.untrained import Pictures
from novelseg.backbones.extraction import FeatureExtractor
from novelseg.backbones.registry import new_backbone
from novelseg.backbones.resnet import FrozenBatchNorm, ResNetBackbone
from novelseg.formats.record import BackboneSpec
from novelseg.inference.predictors import CALIBRATION_ONE, CALIBRATION_SEVERAL
from novelseg.methods.bank import SupportBank
from novelseg.methods.closed_form.presence import MEASURES, Expectation

IDS = ("one", "two")


def network() -> ResNetBackbone:
    """A narrow ResNet-50 whose BatchNorm changes something."""
    torch.manual_seed(0)
    net = new_backbone(BackboneSpec("resnet50", "msra", width=4)).eval().requires_grad_(False)
    for part in net.modules():
        if isinstance(part, FrozenBatchNorm):
            for values in (part.weight, part.bias, part.running_mean, part.running_var):
                values.data = 0.5 + torch.rand_like(values)
    assert isinstance(net, ResNetBackbone)
    return net


def voc_folder(root: Path) -> Path:
    """A VOC folder of two pictures, with an object of the first class."""
    rng = np.random.default_rng(0)
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for name in IDS:
        Image.fromarray(rng.integers(0, 256, (40, 32, 3), np.uint8)).save(root / f"JPEGImages/{name}.jpg")
        mask = Image.frombytes("P", (32, 40), np.pad(np.ones((16, 16), np.uint8), ((8, 16), (8, 8))).tobytes())
        mask.putpalette([0, 0, 0, 128, 0, 0])
        mask.save(root / f"SegmentationClass/{name}.png")
    (root / "ImageSets/Segmentation/val.txt").write_text("".join(f"{name}\n" for name in IDS))
    return root


def test_the_folders_bank_is_a_bank_that_computes_once(tmp_path: Path) -> None:
    pictures = Pictures(voc_folder(tmp_path / "voc"), "val")
    extract = FeatureExtractor(network(), "fp32", torch.device("cpu"))
    plain = SupportBank(extract, pictures.size, pictures.image, pictures.mask, budget_mb=100)
    plain.load({0, 1})
    for expected in ("computed", "read"):
        bank = FolderBank(pictures, extract, tmp_path / "features")
        bank.load({0, 1})
        for number in (0, 1):
            assert torch.allclose(bank[number], plain[number], atol=1e-5), expected  # of another batch: rounding
            own, other = bank.support(number, 1), plain.support(number, 1)
            assert torch.equal(own.labels, other.labels)
            assert torch.allclose(own.prototypes, other.prototypes, atol=1e-5)
            assert torch.equal(bank.regions(number, 0.3), plain.regions(number, 0.3)), expected
        extract = FeatureExtractor(new_backbone(BackboneSpec("resnet50", "msra", width=4)), "fp32", torch.device("cpu"))
    assert (tmp_path / "features/one-regions-0.3.npy").exists()


def test_a_folded_network_computes_the_same() -> None:
    net = network()
    folded = copy.deepcopy(net)
    fold_norms(folded.resnet)
    assert not any(isinstance(part, FrozenBatchNorm) for part in folded.modules())
    images = torch.rand(2, 3, 40, 33)
    expected = net(images)
    assert torch.allclose(folded(images), expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_what_a_precision_costs_is_relative_to_float32() -> None:
    extractors = {form: FeatureExtractor(network(), form, torch.device("cpu")) for form in ("fp32", "bf16")}
    found = compare(extractors, [np.full((40, 32, 3), value, np.uint8) for value in (0, 99)])
    assert (found["fp32"]["over_fp32"], float(found["fp32"]["error"])) == ("1.00", 0)
    assert 0 < float(found["bf16"]["error"]) < 0.1


def test_actions_take_turns_and_a_slow_one_runs_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds, ran = [0.0], []

    def action(name: str, cost: float) -> None:
        ran.append(name)
        seconds[0] += cost

    monkeypatch.setattr("time.process_time", lambda: seconds[0])
    assert fastest(lambda: action("a", 1), lambda: action("b", 0.5), repeats=2) == [1000, 500]
    assert "".join(ran) == "ababab"
    ran.clear()
    assert fastest(lambda: action("slow", 4)) == [4000]
    assert len(ran) == 2


@pytest.mark.parametrize("shots", [1, 5])
def test_rows_are_judged_as_the_code_does(tmp_path: Path, shots: int) -> None:
    rng = np.random.default_rng(shots)
    measures = torch.from_numpy(rng.normal(size=(12, len(MEASURES)))).float()
    facts = dict.fromkeys(FACTS, 1) | dict.fromkeys(COUNTS, "1 2 3") | {"class": 4, "shots": shots}
    rows = [{**facts, **dict(zip(MEASURES, values, strict=True))} for values in measures.tolist()]
    write_rows(tmp_path / "rows.tsv", (*FACTS, *MEASURES, *COUNTS), rows)
    nothing = torch.zeros(1, len(MEASURES))
    expectation = Expectation(nothing, torch.tensor([float(shots > 1)]), nothing, nothing)
    found = judged(read([tmp_path / "rows.tsv"]), None, adapted=False)
    expected = [float(expectation.logits(values[None])) for values in measures]
    assert found.presence == pytest.approx(expected, rel=1e-4, abs=1e-4)
    calibration = CALIBRATION_ONE if shots == 1 else CALIBRATION_SEVERAL
    assert (found.slope[0], found.offset[0]) == calibration
    if shots > 1:
        compared = expectation.relative_to(measures[:, None])
        expected = [float(compared.logits(values[None])) for values in measures]
        adapted = judged(read([tmp_path / "rows.tsv"]), None, adapted=True)
        assert adapted.presence == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_gains_are_paired() -> None:
    assert gain([0.5, 0.7, 0.9], [0.4, 0.6, 0.8]) == "+10.0 [+10.0, +10.0]"


def test_rows_of_a_table_are_read_again(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "t.tsv") == []
    write_rows(tmp_path / "t.tsv", ("a", "b"), [{"a": 1, "b": ""}])
    assert read_rows(tmp_path / "t.tsv") == [{"a": "1", "b": ""}]


def test_rows_of_the_cam_prior_replace_those_of_the_same_settings(tmp_path: Path) -> None:
    """A share of 0.0 is written as 0, and is the same setting when it is read."""
    path = tmp_path / "rows.tsv"
    for score in (1, 2):
        replace_rows(path, pd.DataFrame({"detach": [0.0, 0.5], "query": ["007", "a"], "score": score}), ["detach"])
    rows = pd.read_csv(path, sep="\t", dtype={"query": str})
    assert rows.to_dict("list") == {"detach": [0.0, 0.5], "query": ["007", "a"], "score": [2, 2]}


def test_pictures_with_both_classes_are_joined_and_drawn(tmp_path: Path) -> None:
    parts = [
        Sample(
            name, np.full((height, 40, 3), 50, np.uint8), np.arange(height, dtype=np.uint8)[:, None].repeat(40, 1) % 3
        )
        for name, height in (("a", 60), ("b", 40))
    ]
    joined = side_by_side(*parts)
    assert (joined.name, joined.image.shape) == ("a | b", (40, 80, 3))
    assert np.array_equal(joined.truth[:, :40], parts[0].truth[10:50])
    assert np.array_equal(joined.truth[:, 40:], parts[1].truth)
    draw([(parts[0], {"one run": parts[0].truth}), (joined, {"one run": joined.truth})], tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (3 * 304, 60 + 40 + 2 * 16)
