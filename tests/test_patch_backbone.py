"""A backbone of another family through the whole pipeline, with no line of it changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from novelseg.backbones.encoder import load_encoder
from novelseg.backbones.grid import PatchGrid
from novelseg.cli.main import main
from novelseg.data.index import read_index
from novelseg.data.store import ImageStore
from novelseg.formats import hdf5
from novelseg.formats.features import FEATURES
from novelseg.formats.prototypes import PROTOTYPES
from novelseg.formats.pseudolabels import PSEUDOLABELS
from novelseg.formats.regions import REGIONS
from novelseg.ops.pooling import EPSILON
from tests.makers import ENCODER, Project, disc, tiny_values, write_values
from tests.patch14 import ARCH, CHANNELS, register
from tests.test_grid import slow_upsample

MATCHING = ("pretrained", "baseline", "spfl")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The whole tiny experiment on patches of 14 px."""
    folder = tmp_path_factory.mktemp("patches")
    with pytest.MonkeyPatch.context() as patch:
        weights = register(patch, folder / "first.safetensors")
        values = tiny_values(encoder={"arch": ARCH, "weights": str(weights)}, cam={"frozen": 1, "size": 56})
        made = Project(folder, weights)
        write_values(made.params, values)
        made.make_all()
    return made


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    register(monkeypatch, tmp_path / "again.safetensors")


def test_features_are_means_of_upsampled_patches(project: Project) -> None:
    net, record = load_encoder(project.path(ENCODER))
    assert record.arch == ARCH
    data = read_index(project.path("index/index.h5"))
    with (
        hdf5.opened(project.path("features/fold0/0.h5"), FEATURES) as file,
        hdf5.opened(project.path("regions/0.h5"), REGIONS) as cuts,
        ImageStore([Path(path) for path in project.images()], data) as store,
    ):
        assert file["bg/vectors"].shape[1] == CHANNELS
        names, cut_names = hdf5.texts(file, "bg/image"), hdf5.texts(cuts, "id")
        for row in (0, len(names) // 2, len(names) - 1):
            number, image = data.ids.index(names[row]), names[row]
            pixels = torch.from_numpy(store.image(number)).permute(2, 0, 1)[None].float() / 255
            with torch.no_grad():
                full = slow_upsample(PatchGrid(14), net(pixels)[0], data.size(number))
            region = hdf5.Ragged.get(cuts, "labels", cut_names.index(image)).reshape(data.size(number))
            inside = (region == int(file["bg/region"][row])) & (data.base_labels(store.mask(number), 0) == 0)
            mean = full[:, torch.from_numpy(inside)].sum(1) / (inside.sum() + EPSILON)
            assert np.allclose(file["bg/vectors"][row], mean.numpy(), atol=1e-4)


def test_pseudo_labels_are_the_nearest_prototypes_of_upsampled_patches(project: Project) -> None:
    net, _ = load_encoder(project.path(ENCODER))
    data = read_index(project.path("index/index.h5"))
    with (
        hdf5.opened(project.path("pseudolabels/fold0/0.h5"), PSEUDOLABELS) as file,
        hdf5.opened(project.path("prototypes/fold0.h5"), PROTOTYPES) as centres,
        ImageStore([Path(path) for path in project.images()], data) as store,
    ):
        number = data.ids.index(hdf5.texts(file, "id")[0])
        size = data.size(number)
        pixels = torch.from_numpy(store.image(number)).permute(2, 0, 1)[None].float() / 255
        with torch.no_grad():
            full = slow_upsample(PatchGrid(14), net(pixels)[0], size)
        background = torch.from_numpy(data.base_labels(store.mask(number), 0) == 0)
        found = torch.from_numpy(hdf5.Ragged.get(file, "labels", 0).reshape(3, *size))
        for level in range(3):
            prototypes = torch.from_numpy(centres[f"bg/level{level + 1}/centres"][:]).double()
            cosine = torch.einsum("chw,kc->khw", full, torch.nn.functional.normalize(prototypes, dim=1))
            expected = cosine.argmax(0) + len(prototypes)
            assert (found[level] != expected)[background].float().mean() < 0.002


def test_every_variant_is_scored(project: Project) -> None:
    rows = pd.read_parquet(project.path("evaluate/fold0/1shot/rows.parquet"))
    assert {"pretrained+self-support", "spfl+srofb", "cam", *MATCHING} <= set(rows["variant"])
    assert len(set(rows.groupby("variant").size())) == 1
    assert "last block" in (project.root / "report/results.tsv").read_text(encoding="utf8")


def test_the_segmenter_segments_with_it(project: Project, tmp_path: Path) -> None:
    bundle, supports, queries = tmp_path / "bundle.safetensors", tmp_path / "supports", tmp_path / "queries"
    words = ["--index", str(project.path("index/index.h5")), "--params", str(project.params), "--out", str(bundle)]
    spfl = project.path("train/fold0/1shot/hierarchical/weights.safetensors")
    assert main(["export", "--encoder", str(spfl), *words]) == 0
    for folder in (supports / "images", supports / "masks", queries):
        folder.mkdir(parents=True)
    image, mask = disc(90)
    Image.fromarray(image).save(supports / "images/a.png")
    Image.fromarray(255 * mask).save(supports / "masks/a.png")
    Image.fromarray(disc(101, (40, 60))[0]).save(queries / "b.png")
    for variant in ("matching", "self-support", "closed-form", "srofb"):
        out = tmp_path / variant
        common = ["--bundle", str(bundle), "--support", str(supports), "--query", str(queries), "--variant", variant]
        assert main(["segment", *common, "--out", str(out)]) == 0
        with Image.open(out / "masks/b.png") as made:
            assert made.size == (101, 101)
