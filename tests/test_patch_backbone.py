"""Backbones of other families through the whole pipeline: a minimal one, and a vision transformer with registers."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from novelseg import Segmenter
from novelseg.backbones.encoder import load_encoder
from novelseg.cli.main import main
from novelseg.data.index import read_index
from novelseg.data.store import ImageStore
from novelseg.formats import hdf5, tables
from novelseg.formats.features import FEATURES
from novelseg.formats.prototypes import PROTOTYPES
from novelseg.formats.pseudolabels import PSEUDOLABELS
from novelseg.formats.regions import REGIONS
from novelseg.formats.results import SCORES
from novelseg.inference.web import new_app
from novelseg.ops.pooling import EPSILON
from tests import patch14, tinyvit
from tests.makers import ENCODER, SPFL, Project, tiny_values, write_values
from tests.pictures import disc
from tests.test_app import post, unpacked
from tests.test_grid import slow_upsample

MATCHING = ("pretrained", "baseline", "spfl")
# Names and changes to the tiny experiment: the ViT's features are of two blocks, and its images of 75 px are reduced.
MINIMAL = (
    patch14.register,
    {"encoder": {"arch": patch14.ARCH}, "cam": {"frozen": 1, "size": 56}},
)
VIT = (
    tinyvit.register,
    {
        "scenes": {"size": 75},
        "encoder": {"arch": tinyvit.ARCH, "layers": [1, 2], "side": 60, "train": 1},
        "baseline": {"optimiser": "adamw"},
        "train": {"optimiser": "adamw"},
        "cam": {"frozen": 1, "size": 50, "relu": False},
        "evaluate": {"refinements": ["pretrained+self-support", "pretrained+srofb", "spfl+closed-form", "spfl+srofb"]},
    },
)


@pytest.fixture(scope="module", params=[MINIMAL, VIT], ids=["minimal", "vit"])
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The whole tiny experiment on patches of 14 px."""
    folder, (register, changes) = tmp_path_factory.mktemp("patches"), request.param
    with pytest.MonkeyPatch.context() as patch:
        weights = register(patch, folder / "first.pth")
        values = tiny_values(**changes)
        values["encoder"]["weights"] = str(weights)
        made = Project(folder, weights)
        write_values(made.params, values)
        made.make_all()
        yield made


def test_features_are_means_of_upsampled_patches(project: Project) -> None:
    net, record = load_encoder(project.path(ENCODER))
    assert record.arch in (patch14.ARCH, tinyvit.ARCH)
    data = read_index(project.path("index/index.h5"))
    with (
        hdf5.opened(project.path("features/fold0/0.h5"), FEATURES) as file,
        hdf5.opened(project.path("regions/0.h5"), REGIONS) as cuts,
        ImageStore([Path(path) for path in project.images()], data) as store,
    ):
        assert file["bg/vectors"].shape[1] == net.channels
        names, cut_names = hdf5.texts(file, "bg/image"), hdf5.texts(cuts, "id")
        for row in (0, len(names) // 2, len(names) - 1):
            number, image = data.ids.index(names[row]), names[row]
            pixels = torch.from_numpy(store.image(number)).permute(2, 0, 1)[None].float() / 255
            with torch.no_grad():
                full = slow_upsample(net.grid, net(pixels)[0], data.size(number))
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
            full = slow_upsample(net.grid, net(pixels)[0], size)
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
    table = tables.read(project.root / "report/results.tsv", SCORES).set_index("variant")["resolution"]
    if "pretrained+srofb" in table:  # the ViT: each row says which features it is of
        assert table["cam"].startswith("50 px, resize, tests too, block 1+2 and norm")
        assert table["spfl"] == "49 px, resize; block 1+2 and norm, images of at most 60 px"
    else:
        assert "last block" in table["cam"]


def differ(one: torch.Tensor, other: torch.Tensor) -> bool:
    return not torch.equal(one, other)


def test_only_the_last_parts_have_moved(project: Project) -> None:
    trained = yaml.safe_load(project.params.read_text(encoding="utf8"))["encoder"]["train"]
    for name in (ENCODER, SPFL):
        net, _ = load_encoder(project.path(name))
        before = copy.deepcopy(net)
        before.load_pretrained(project.weights)
        pairs = zip(net.parts(), before.parts(), strict=True)
        moved = [any(map(differ, one.parameters(), other.parameters())) for one, other in pairs]
        assert moved == ([True] * len(moved) if trained == "all" else [False] * (len(moved) - trained) + [True])


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
    segmenter = Segmenter.load(bundle).fit([image], [255 * mask])
    query = disc(101, (40, 60))[0]
    segmenter.save(tmp_path / "fitted.safetensors")
    expected = segmenter.predict([query])[0]
    assert np.array_equal(Segmenter.load(tmp_path / "fitted.safetensors").predict([query])[0], expected)
    client = new_app(Segmenter.load(bundle), "127.0.0.1").test_client()  # the page
    answer = post(client, "/fit", [("image", image, "a.png"), ("mask", mask, "mask.png")])
    found = post(client, "/segment", [("image", query, "b.png")], number=int(answer.json["round"])).json
    assert np.array_equal(unpacked(found["labels"], np.uint8, 101, 101), expected)
