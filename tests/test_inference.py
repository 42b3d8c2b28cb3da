"""Segmenter, bundle and command `segment` on one's own pictures."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from stages.__main__ import main
from stages.core.errors import InputError
from stages.data.index import Index, read_index
from stages.data.store import ImageStore
from stages.evaluation.bank import SupportBank
from stages.evaluation.cases import Case
from stages.evaluation.lists import read_cases
from stages.evaluation.predictor import REFINED, REFINEMENTS, Predictor, Refinement
from stages.inference import Segmenter
from stages.inference.bundle import load_bundle
from stages.inference.photos import mask_of, photo_of, read_mask, read_photo
from stages.inference.segmenter import MATCHING, VARIANTS
from stages.models.extraction import FeatureExtractor
from stages.ops.counts import object_iou
from stages.ops.matching import upsample
from tests.makers import SPFL, Project, disc

RGB = NDArray[np.uint8]


@pytest.fixture(scope="module")
def index(project: Project) -> Index:
    return read_index(project.path("index/index.h5"))


@pytest.fixture(scope="module")
def cases(project: Project, index: Index) -> list[Case]:
    return read_cases([project.path("episodes/fold0/1shot/seed1.tsv")], index)


@pytest.fixture(scope="module")
def decoded(project: Project, index: Index) -> dict[int, tuple[RGB, RGB]]:
    """Image and mask of every image of the index."""
    with ImageStore([Path(path) for path in project.images()], index) as store:
        return {number: (store.image(number), store.mask(number)) for number in range(len(index.ids))}


def folders(root: Path, supports: int = 2, queries: int = 3) -> tuple[Path, Path]:
    """Folders of supports with masks and of queries."""
    for name in ("s/images", "s/masks", "q"):
        (root / name).mkdir(parents=True)
    for number in range(supports):
        image, mask = disc(middle=(28 + 4 * number, 32))
        Image.fromarray(image).save(root / f"s/images/{number}.png")
        Image.fromarray(255 * mask).save(root / f"s/masks/{number}.png")
    for number in range(queries):
        Image.fromarray(disc(middle=(24, 26 + 3 * number))[0]).save(root / f"q/picture {number}.png")
    return root / "s", root / "q"


def segment(bundle: Path, support: Path, query: Path, out: Path, *more: object) -> int:
    words = ["--bundle", bundle, "--support", support, "--query", query, "--out", out, "--threads", 1, *more]
    return main(["segment", *map(str, words)])


def table(out: Path) -> list[dict[str, str]]:
    with (out / "results.tsv").open(encoding="utf8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


# The pipeline's own predictions


@pytest.mark.parametrize("variant", VARIANTS)
def test_masks_are_those_of_the_pipelines_evaluation(
    bundle: Path, project: Project, index: Index, cases: list[Case], decoded: dict[int, tuple[RGB, RGB]], variant: str
) -> None:
    read = load_bundle(bundle)
    bank = SupportBank(
        FeatureExtractor(read.encoder, "fp32", torch.device("cpu")),
        *(index.size, lambda n: decoded[n][0], lambda n: decoded[n][1], 0),
    )
    ways = [Refinement(name, with_query, read.srofb) for name, with_query in REFINEMENTS.items()]
    predictor = Predictor(bank, read.about["encoder"]["scale"], ways)
    for case in cases[:3]:
        logits = next(one.logits for one in predictor([case], MATCHING) if one.variant == variant)
        expected = upsample(logits[None, None], index.size(case.query))[0, 0].numpy()
        segmenter = Segmenter.load(bundle, variant=variant, seed=case.seed, episode=case.episode)
        pairs = [decoded[number] for number in case.supports]
        masks = [np.where(mask == 255, 255, mask == case.label).astype(np.uint8) for _, mask in pairs]
        found = segmenter.fit([image for image, _ in pairs], masks).decision_function([decoded[case.query][0]])
        np.testing.assert_allclose(found[0], expected, atol=1e-4)
        assert ((found[0] > 0) == (expected > 0))[np.abs(expected) > 1e-4].all()


def test_a_query_is_segmented_alike_in_any_company(bundle: Path) -> None:
    segmenter = Segmenter.load(bundle).fit(*[[part] for part in disc()])
    queries = [disc(middle=(20 + 3 * n, 30))[0] for n in range(6)] + [disc(side=40, middle=(20, 20))[0]]
    together = segmenter.decision_function(queries)
    for query, expected in zip(queries, together, strict=True):
        np.testing.assert_allclose(segmenter.decision_function([query])[0], expected, atol=1e-4)


def test_features_of_queries_are_let_go(bundle: Path) -> None:
    segmenter = Segmenter.load(bundle).fit(*[[part] for part in disc()])
    for _ in segmenter.each(disc(middle=(20 + n, 30))[0] for n in range(9)):
        assert len(segmenter._bank._kept) <= 1 + segmenter._extract.batch
    assert set(segmenter._bank._kept) == {0}


# scikit-learn's conventions


def test_it_is_an_estimator(bundle: Path) -> None:
    from sklearn.base import clone

    first = Segmenter(bundle, variant=MATCHING, side=64, episode=3)
    image, mask = disc()
    assert first.fit([image], [mask]) is first
    assert first.n_supports_ == 1
    copy = clone(first)
    assert copy.get_params() == first.get_params()
    assert not hasattr(copy, "n_supports_")
    with pytest.raises(InputError, match=r"not fitted; call fit"):
        copy.predict([image])
    with pytest.raises(InputError, match=r"no parameter 'sides'; expected one of bundle, variant"):
        copy.set_params(sides=3)
    assert copy.set_params(side=32).side == 32


def test_predict_proba_and_score_follow_from_the_logits(bundle: Path) -> None:
    image, mask = disc()
    segmenter = Segmenter.load(bundle, variant=MATCHING).fit([image], [mask])
    query, truth = disc(middle=(30, 26))
    logits = segmenter.decision_function([query])[0]
    predicted, shares = segmenter.predict([query])[0], segmenter.predict_proba([query])[0]
    assert logits.shape == predicted.shape == shares.shape == query.shape[:2]
    assert [array.dtype for array in (logits, predicted, shares)] == [np.float32, np.uint8, np.float32]
    np.testing.assert_array_equal(predicted, logits > 0)
    np.testing.assert_allclose(shares, 1 / (1 + np.exp(-logits)), rtol=1e-5)
    expected = (predicted & truth).sum() / (predicted | truth).sum()
    assert segmenter.score([query], [truth]) == pytest.approx(expected)


def test_iou_leaves_void_out_and_agrees_on_nothing() -> None:
    truth = np.array([[1, 1, 0, 255]], np.uint8)
    assert object_iou(np.array([[1, 0, 1, 1]]), truth) == pytest.approx(1 / 3)
    assert object_iou(np.zeros((1, 4), np.uint8), np.zeros((1, 4), np.uint8)) is None


def test_a_disc_is_found_by_its_colour(bundle: Path) -> None:
    image, mask = disc()
    query, truth = disc(middle=(24, 36))
    assert Segmenter.load(bundle).fit([image], [mask]).score([query], [truth]) > 0.5
    assert Segmenter.load(bundle).fit([image], [1 - mask]).score([query], [truth]) < 0.2


def test_large_pictures_are_seen_smaller_and_answered_at_their_size(bundle: Path) -> None:
    image, mask = disc(side=200, middle=(100, 100))
    small = Segmenter.load(bundle, side=64).fit([image], [mask])
    assert small._images[0].shape == (64, 64, 3)
    assert small.predict([image])[0].shape == (200, 200)
    assert small.predict([image[:1, :1], image[:, :3]])[0].shape == (1, 1)


@pytest.mark.parametrize(
    ("images", "masks", "told"),
    [
        ([np.zeros((4, 4, 3), np.uint8)], [], "1 images, 0 masks; expected as many of both"),
        ([], [], "0 images, 0 masks"),
        (np.zeros((4, 4, 3), np.uint8), [np.eye(4)], "images is a single one; expected a list"),
        ([np.zeros((4, 4, 3))], [np.eye(4, dtype=int)], "a picture is float64 of shape"),
        ([np.zeros((4, 4, 3), np.uint8)], [np.full((4, 4), 7)], "a mask is int64 of shape"),
        ([np.zeros((4, 4, 3), np.uint8)], [np.eye(3, dtype=int)], "mask 0: the mask is 3×3 px, its picture 4×4"),
        ([np.zeros((4, 4, 3), np.uint8)], [np.zeros((4, 4), int)], "mask 0: the mask has no object"),
        ([np.zeros((4, 4, 3), np.uint8)], [np.ones((4, 4), bool)], "mask 0: the mask has no background"),
        ([np.zeros((0, 4, 3), np.uint8)], [np.zeros((0, 4), int)], "has no pixels"),
        ([None], [np.eye(4, dtype=int)], "a picture is a NoneType"),
        ([np.zeros((4, 4, 3), np.uint8)], [255 * np.eye(4, dtype=int)], "mask 0 holds 0 and 255"),
    ],
)
def test_what_cannot_be_learned_from_is_told(bundle: Path, images: Any, masks: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        Segmenter(bundle).fit(images, masks)


def test_a_score_asks_for_masks_that_fit(bundle: Path) -> None:
    image, mask = disc()
    segmenter = Segmenter.load(bundle).fit([image], [mask])
    for images, masks, told in (
        ([image], [], "1 images, 0 masks"),
        ([image], [mask[:9]], r"mask 0: of shape \(9, 64\), its picture \(64, 64\)"),
        ([image], [255 * mask], "holds 0 and 255"),
    ):
        with pytest.raises(InputError, match=told):
            segmenter.score(images, masks)


def test_pil_pictures_are_read_as_files_are(bundle: Path, tmp_path: Path) -> None:
    image, mask = disc()
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path / "a.png", Image.fromarray(image), exif=exif)
    segmenter = Segmenter.load(bundle).fit([Image.fromarray(image)], [Image.fromarray(255 * mask)])
    with Image.open(path) as opened:
        first, second = segmenter.decision_function([path, opened])
    np.testing.assert_allclose(first, second, atol=1e-4)


def test_an_object_that_vanishes_when_shrunk_is_told(bundle: Path) -> None:
    image, mask = np.zeros((500, 500, 3), np.uint8), np.zeros((500, 500), np.uint8)
    mask[3, 3] = 1
    with pytest.raises(InputError, match="at 32 px nothing is left of the object; raise side"):
        Segmenter(bundle, side=32).fit([image], [mask])


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"variant": "srofb"}, "variant is 'srofb'; expected one of spfl, spfl"),
        ({"side": 0}, "side is 0; expected at least 1 px"),
        ({"device": "tpu"}, "--device is 'tpu'"),
    ],
)
def test_wrong_parameters_are_told(bundle: Path, params: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        Segmenter.load(bundle, **params)


# The bundle


def test_a_bundle_tells_where_it_comes_from(bundle: Path, project: Project, index: Index) -> None:
    read = load_bundle(bundle)
    assert read.about["classes"] == index.names(index.base(0))
    assert read.about["encoder"]["stage"] == "train"
    assert set(read.about["sources"]) == {"encoder", "index", "prototypes"}
    assert read.prototypes["bg/level1/centres"].shape[0] == 4
    trained = load_file(project.path(SPFL))
    assert all(torch.equal(value, read.encoder.state_dict()[name]) for name, value in trained.items())


def test_the_same_bundle_has_the_same_bytes(bundle: Path, project: Project, tmp_path: Path) -> None:
    words = ["--encoder", project.path(SPFL), "--index", project.path("index/index.h5")]
    words += ["--prototypes", project.path("prototypes/fold0.h5"), "--out", tmp_path / "again.safetensors"]
    assert project.run("export", *words) == 0
    assert (tmp_path / "again.safetensors").read_bytes() == bundle.read_bytes()


def test_records_of_everything_that_led_to_a_bundle_are_packed(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project.root)
    for shard in range(2):
        words = ["--shard", shard, "--out", f"artifacts/images/{shard}.h5"]
        assert project.run("images", *words, "--record", tmp_path / f"records/images/{shard}.json") == 0
    index = ["--images", "artifacts/images/0.h5", "artifacts/images/1.h5", "--out", "artifacts/index/index.h5"]
    assert project.run("index", *index, "--record", tmp_path / "records/index.json") == 0
    export = ["--index", "artifacts/index/index.h5", "--provenance", tmp_path / "records"]
    encoder = project.path("baseline/fold0/1shot/weights.safetensors")
    capsys.readouterr()
    assert project.run("export", "--encoder", encoder, *export, "--out", tmp_path / "b.safetensors") == 2
    assert "no record there has made the file with MD5" in capsys.readouterr().err
    made = json.loads((tmp_path / "records/index.json").read_text())
    made["stage"], made["inputs"] = "baseline", {"artifacts/images/0.h5": next(iter(made["inputs"].values()))}
    index_md5 = made["outputs"].pop("artifacts/index/index.h5")
    made["outputs"]["encoder"] = hashlib.md5(encoder.read_bytes()).hexdigest()
    (tmp_path / "records/baseline.json").write_text(json.dumps(made))
    assert project.run("export", "--encoder", encoder, *export, "--out", tmp_path / "b.safetensors") == 2
    assert "not the index that" in capsys.readouterr().err
    made["inputs"]["artifacts/index/index.h5"] = index_md5
    (tmp_path / "records/baseline.json").write_text(json.dumps(made))
    assert project.run("export", "--encoder", encoder, *export, "--out", tmp_path / "b.safetensors") == 0
    records = load_bundle(tmp_path / "b.safetensors").about["provenance"]
    assert [record["stage"] for record in records] == ["baseline", "index", "images", "images"]


def _damaged(bundle: Path, path: Path, change: str) -> None:
    with safe_open(bundle, framework="pt") as file:
        about = json.loads(file.metadata()["novelseg-bundle"])
    tensors = load_file(bundle)
    if change == "version":
        about["version"] = 99
    elif change == "tensor":
        tensors.pop("encoder.resnet.conv1.weight")
    elif change == "precision":
        about["encoder"]["precision"] = "fp7"
    elif change == "head":
        about.pop("classes")
    elif change == "arch":
        about["encoder"]["arch"] = "resnet7"
    else:
        about["srofb"]["hidden"] = -1
    save_file(tensors, path, {"novelseg-bundle": json.dumps(about)})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("version", "is of another version, this code reads 1"),
        ("tensor", "not a whole bundle"),
        ("arch", "not a whole bundle"),
        ("precision", "not a whole bundle"),
        ("head", "not a whole bundle"),
        ("srofb", "not a whole bundle"),
    ],
)
def test_a_bundle_that_is_not_whole_is_refused(bundle: Path, tmp_path: Path, change: str, told: str) -> None:
    _damaged(bundle, tmp_path / "bad.safetensors", change)
    with pytest.raises(InputError, match=told):
        Segmenter.load(tmp_path / "bad.safetensors")


def test_other_files_are_no_bundles(bundle: Path, project: Project, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a 'novelseg-bundle' file; make it with"):
        Segmenter.load(project.path(SPFL))
    with pytest.raises(InputError, match="no such file; make it with"):
        Segmenter.load(tmp_path / "none.safetensors")
    for head in ("{", "[]", "{}"):
        save_file({"a": torch.zeros(1)}, tmp_path / "head.safetensors", {"novelseg-bundle": head})
        with pytest.raises(InputError, match=r"head is not that of|of another version"):
            Segmenter.load(tmp_path / "head.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(bundle.read_bytes()[:900])
    with pytest.raises(InputError, match="not a readable novelseg-bundle file"):
        Segmenter.load(tmp_path / "cut.safetensors")


ALLOWED = {"torch", "torchgen", "functorch", "numpy", "PIL", "safetensors", "tqdm", "yaml", "_yaml"}
ALLOWED |= {"pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"}
ALLOWED |= {"sympy", "mpmath", "networkx", "filelock", "fsspec", "jinja2", "markupsafe", "setuptools"}  # torch's own
ALLOWED |= {"pydot", "pynvml"}  # what torch takes where it is there


def test_it_needs_few_packages(bundle: Path, tmp_path: Path) -> None:
    """Torch and a few small packages are all that a process loads that segments pictures."""
    support, query = folders(tmp_path)
    code = f"""
import sys
before = set(sys.modules)
from stages.__main__ import main
code = main(["segment", "--bundle", {str(bundle)!r}, "--support", {str(support)!r}, "--query", {str(query)!r},
             "--out", {str(tmp_path / "out")!r}, "--threads", "1"])
for name in set(sys.modules) - before:
    if "site-packages" in (getattr(sys.modules[name], "__file__", None) or ""):
        print(name.split(".")[0])
sys.exit(code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(table(tmp_path / "out")) == 3
    loaded = set(done.stdout.split())
    assert {"torch", "numpy", "PIL"} <= loaded
    assert loaded <= ALLOWED, loaded - ALLOWED


# Pictures as people have them


def saved(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def test_pictures_are_read_as_they_are_looked_at(tmp_path: Path) -> None:
    image = Image.fromarray(disc()[0])
    truth = np.array(image)
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter turn
    assert read_photo(
        saved(tmp_path / "turned.png", image.transpose(Image.Transpose.ROTATE_90), exif=turned)
    ).tolist() == (truth.tolist())
    assert read_photo(saved(tmp_path / "p.png", image.convert("P"))).shape == truth.shape
    grey = np.array(image.convert("L"))
    np.testing.assert_array_equal(read_photo(saved(tmp_path / "g.png", image.convert("L")))[:, :, 1], grey)
    wide = Image.fromarray(grey.astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_photo(saved(tmp_path / "w.png", wide))[:, :, 2], grey)
    clear = image.convert("RGBA")
    clear.putalpha(0)
    assert (read_photo(saved(tmp_path / "a.png", clear)) == 255).all()
    cmyk = read_photo(saved(tmp_path / "c.jpg", image.convert("CMYK"), quality=98))
    assert np.abs(cmyk.astype(int) - truth).mean() < 12
    assert read_photo(saved(tmp_path / "b.png", image.convert("1"))).shape == truth.shape


def test_masks_hold_two_values_or_name_theirs(tmp_path: Path) -> None:
    mask = disc()[1]
    for name, values in (("ones", mask), ("bytes", 255 * mask), ("sevens", 7 * mask)):
        np.testing.assert_array_equal(read_mask(saved(tmp_path / f"{name}.png", Image.fromarray(values))), mask)
    palette = Image.fromarray(3 * mask)
    palette.putpalette([0, 0, 0] * 3 + [9, 200, 30])
    np.testing.assert_array_equal(read_mask(saved(tmp_path / "p.png", palette)), mask)
    turned = Image.fromarray(1 - mask)  # white is number 0, as some programs save it
    turned.putpalette([255, 255, 255, 0, 0, 0])
    np.testing.assert_array_equal(read_mask(saved(tmp_path / "t.png", turned)), mask)
    keyed = saved(tmp_path / "k.png", Image.fromarray(255 * mask), transparency=7)  # a key that no pixel has
    np.testing.assert_array_equal(read_mask(keyed), mask)
    coloured = Image.fromarray(mask)
    coloured.putpalette([0, 90, 0, 90, 0, 0])
    with pytest.raises(InputError, match="the mask has colours; expected black and another"):
        read_mask(saved(tmp_path / "c.png", coloured))
    np.testing.assert_array_equal(read_mask(saved(tmp_path / "1.png", Image.fromarray(mask > 0))), mask)
    np.testing.assert_array_equal(
        read_mask(saved(tmp_path / "i.png", Image.fromarray(mask.astype(np.uint16) * 900))), mask
    )
    three = np.repeat(255 * mask[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(read_mask(saved(tmp_path / "rgb.png", Image.fromarray(three))), mask)
    several = 5 * mask
    several[0], several[1] = 255, 2
    path = saved(tmp_path / "several.png", Image.fromarray(several))
    with pytest.raises(InputError, match=r"holds 4 values \(0, 2, 5, 255\); expected 0 and another"):
        read_mask(path)
    expected = mask.copy()
    expected[0] = 255
    np.testing.assert_array_equal(read_mask(path, label=5), expected)


def damaged() -> dict[str, tuple[bytes, str]]:
    """Files that cannot be used, and what is said of them."""
    image = Image.fromarray(disc()[0])

    def encoded(kind: str, picture: Image.Image = image, **options: Any) -> bytes:
        buffer = io.BytesIO()
        picture.save(buffer, kind, **options)
        return buffer.getvalue()

    png, jpg = encoded("png"), encoded("jpeg")
    huge = bytearray(encoded("png", Image.new("1", (8, 8))))
    huge[16:24] = (12000).to_bytes(4, "big") * 2
    huge[29:33] = zlib.crc32(huge[12:29]).to_bytes(4, "big")
    absurd = huge.copy()
    absurd[16:24] = (90000).to_bytes(4, "big") * 2
    absurd[29:33] = zlib.crc32(absurd[12:29]).to_bytes(4, "big")
    many = encoded("gif", image, save_all=True, append_images=[image.rotate(90)])
    frames = encoded("tiff", image, save_all=True, append_images=[image])
    return {
        "truncated.png": (png[: len(png) // 2], "does not decode"),
        "truncated.jpg": (jpg[: len(jpg) // 2], "does not decode"),
        "zero.jpg": (b"", "the file is empty"),
        "text.jpg": (b"not a picture at all", "not a picture"),
        "noise.png": (png[:8] + b"\xff" * 300, "picture|decode"),
        "huge.png": (bytes(huge), "has 12000×12000 px; expected at most 90 million"),
        "absurd.png": (bytes(absurd), "too large to be a picture"),
        "animated.gif": (many, "holds 2 pictures"),
        "pages.tiff": (frames, "holds 2 pictures"),
        "float.tiff": (encoded("tiff", Image.fromarray(np.ones((5, 5), np.float32))), "32 bits a pixel"),
        "long.tiff": (encoded("tiff", Image.fromarray(np.ones((5, 5), np.int32))), "32 bits a pixel"),
    }


def odd(folder: Path) -> list[str]:
    """Pictures that are out of the ordinary and can be used."""
    image = Image.fromarray(disc()[0])
    image.resize((1, 1)).save(folder / "1×1.png")
    image.resize((1, 90)).save(folder / "line.png")
    image.convert("CMYK").save(folder / "print.jpg")
    image.convert("LA").save(folder / "grey alpha.png")
    image.convert("P").save(folder / "palette.gif")
    Image.fromarray(np.full((30, 40), 40000, np.uint16)).save(folder / "sixteen.png")
    image.save(folder / "Übung – 日本 🙂.webp")
    image.save(folder / "a\tb.png")
    image.resize((1500, 40)).save(folder / "wide.bmp")
    image.save(folder / "noending", "png")
    return sorted(path.name for path in folder.iterdir())


def test_the_worst_folder_of_pictures_stops_nothing(bundle: Path, tmp_path: Path, capfd: Any) -> None:
    support, query = folders(tmp_path)
    usable = odd(query)
    bad = damaged()
    for name, (data, _) in bad.items():
        (query / name).write_bytes(data)
    (query / "folder.png").mkdir()
    assert segment(bundle, support, query, tmp_path / "out") == 2
    told = capfd.readouterr().err
    assert f"{len(bad)} of the files given could not be used; the others' masks are in {tmp_path / 'out'}" in told
    for name, (_, said) in bad.items():
        lines = [line for line in told.splitlines() if f"{query / name}:" in line]
        assert len(lines) == 1, name
        assert any(part in lines[0] for part in said.split("|")), lines
    assert [row["file"] for row in table(tmp_path / "out")] == sorted(usable)
    for row in table(tmp_path / "out"):
        with Image.open(tmp_path / "out/masks" / row["mask"]) as mask:
            assert mask.size == (int(row["width_px"]), int(row["height_px"]))
            assert set(np.unique(np.array(mask))) <= {0, 255}
            assert int(row["object_px"]) == (np.array(mask) == 255).sum()
    assert not list(tmp_path.rglob(".*")), "something half-written"


def test_a_picture_longer_than_jpeg_allows_has_a_small_overlay(bundle: Path, tmp_path: Path) -> None:
    support, query = folders(tmp_path, queries=1)
    Image.new("L", (70000, 8), 90).save(query / "strip.png")
    assert segment(bundle, support, query, tmp_path / "out") == 0
    with (
        Image.open(tmp_path / "out/masks/strip.png.png") as mask,
        Image.open(tmp_path / "out/overlays/strip.png.jpg") as shown,
    ):
        assert (mask.size, shown.width) == ((70000, 8), 2000)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(["png", "jpeg", "webp", "tiff", "bmp", "gif"]), places=st.data())
def test_damage_anywhere_is_one_sentence_or_a_picture(kind: str, places: st.DataObject) -> None:
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(disc(24, (12, 12))[0]).save(buffer, kind, **({} if kind in ("bmp", "gif") else {"exif": exif}))
    data = bytearray(buffer.getvalue())
    for place, value in places.draw(
        st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), max_size=6)
    ):
        data[place] = value
    data = data[: places.draw(st.integers(0, len(data)))] if places.draw(st.booleans()) else data
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow tells of what it gets over
        for read in (photo_of, mask_of):
            try:
                assert read(bytes(data), Path("x")).dtype == np.uint8
            except InputError as error:
                assert str(error).startswith("x: ")


def test_the_limit_of_pixels_is_told_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.inference.photos.MOST_PIXELS", 4000)
    path = saved(tmp_path / "p.png", Image.fromarray(disc()[0]))
    with pytest.raises(InputError, match="has 64×64 px; expected at most"):
        read_photo(path)


def test_supports_that_cannot_be_used_are_told_and_the_others_are(bundle: Path, tmp_path: Path, capfd: Any) -> None:
    support, query = folders(tmp_path)
    image, mask = disc()
    for name in ("nomask", "blank", "small", "smooth", "twice"):
        Image.fromarray(image).save(support / f"images/{name}.png")
    Image.fromarray(0 * mask).save(support / "masks/blank.png")
    Image.fromarray(mask[:9]).save(support / "masks/small.png")
    Image.fromarray(255 * mask).resize((70, 64)).resize((64, 64)).save(support / "masks/smooth.jpg")
    for ending in ("png", "bmp"):
        Image.fromarray(mask).save(support / f"masks/twice.{ending}")
    Image.fromarray(mask).save(support / "masks/alone.png")
    (support / "images/text.jpg").write_bytes(b"no")
    Image.fromarray(mask).save(support / "masks/text.png")
    assert segment(bundle, support, query, tmp_path / "out") == 2
    told = capfd.readouterr().err
    for said in (
        "images/nomask.png: no mask of this name",
        "masks/blank.png: the mask has no object",
        "masks/small.png: the mask is 64×9 px, its picture 64×64",
        "masks/smooth.jpg: holds",
        "images/twice.png: has 2 masks (twice.bmp, twice.png); keep one",
        "masks/alone.png: no picture in",
        "images/text.jpg: not a picture",
        "error: 7 of the files given could not be used",
    ):
        assert said in told, said
    assert sorted(json.loads((tmp_path / "out/settings.json").read_text())["supports"]) == ["0.png", "1.png"]
    assert len(table(tmp_path / "out")) == 3


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        ("s/images", "--support expects one with pictures"),
        ("s/masks/0.png s/masks/1.png", "holds no file; --support expects"),
        ("s/images/0.png s/images/1.png", "holds no file; --support expects"),
        ("q", "--query expects one with pictures"),
    ],
)
def test_without_supports_or_queries_nothing_is_written(
    bundle: Path, tmp_path: Path, capfd: Any, gone: str, told: str
) -> None:
    support, query = folders(tmp_path)
    for name in gone.split():
        path = tmp_path / name
        path.rename(tmp_path / "elsewhere") if path.is_dir() else path.unlink()
    assert segment(bundle, support, query, tmp_path / "out") == 2
    assert told in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_file_is_no_place_for_results(bundle: Path, tmp_path: Path, capfd: Any) -> None:
    support, query = folders(tmp_path)
    (tmp_path / "out").write_text("mine")
    assert segment(bundle, support, query, tmp_path / "out") == 2
    assert f"{tmp_path / 'out'}: cannot be made (" in capfd.readouterr().err
    assert (tmp_path / "out").read_text() == "mine"


def test_a_full_disk_is_told_and_nothing_is_torn(bundle: Path, tmp_path: Path, small_disk: Path, capfd: Any) -> None:
    support, query = folders(tmp_path, queries=1)
    big = np.random.default_rng(0).integers(0, 256, (2600, 2400, 3), np.uint8)
    for number in range(3):
        Image.fromarray(big).save(query / f"big {number}.png")
    assert segment(bundle, support, query, small_disk / "out") == 2
    assert "no space left on device" in capfd.readouterr().err
    rows = table(small_disk / "out")
    assert len(rows) < 4
    assert all((small_disk / "out/overlays" / f"{row['file']}.jpg").exists() for row in rows)
    assert not list(small_disk.rglob("*.tmp"))


# Going on


def test_a_second_run_does_what_is_new_and_no_more(bundle: Path, tmp_path: Path, capfd: Any) -> None:
    support, query = folders(tmp_path)
    assert segment(bundle, support, query, tmp_path / "out") == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/masks").iterdir()}
    Image.fromarray(disc(middle=(40, 40))[0]).save(query / "more.png")
    Image.fromarray(disc(middle=(40, 20))[0]).save(query / "picture 1.png")  # another picture of the same name
    assert segment(bundle, support, query, tmp_path / "out") == 0
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/masks").iterdir()}
    changed = sorted(path.name for path in after if after[path] != before.get(path))
    assert changed == ["more.png.png", "picture 1.png.png"]
    assert [row["file"] for row in table(tmp_path / "out")] == [
        "more.png",
        "picture 0.png",
        "picture 1.png",
        "picture 2.png",
    ]
    capfd.readouterr()
    assert segment(bundle, support, query, tmp_path / "out", "--variant", MATCHING) == 2
    assert "holds results of other pictures, supports or settings" in capfd.readouterr().err


def test_a_killed_run_goes_on_where_it_was(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    support, query = folders(tmp_path)
    assert segment(bundle, support, query, tmp_path / "whole") == 0
    from stages.inference.folders import Query, Results

    add = Results.add

    def stop(self: Results, query: Query, *rest: Any) -> None:
        if query.path.name == "picture 2.png":
            raise KeyboardInterrupt
        add(self, query, *rest)

    monkeypatch.setattr(Results, "add", stop)
    assert segment(bundle, support, query, tmp_path / "out") == 130
    assert [row["file"] for row in table(tmp_path / "out")] == ["picture 0.png", "picture 1.png"]
    whole = (tmp_path / "out/results.tsv").read_text()
    (tmp_path / "out/results.tsv").write_text(whole[:-3])  # torn in the last number of the last line
    monkeypatch.setattr(Results, "add", add)
    assert segment(bundle, support, query, tmp_path / "out") == 0
    files = sorted(path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*.*"))
    assert files == sorted(path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.*"))
    for name in files:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "out" / name).read_bytes(), name


def test_pictures_of_one_name_have_their_own_masks(bundle: Path, tmp_path: Path) -> None:
    support, query = folders(tmp_path, queries=1)
    Image.fromarray(disc()[0]).save(query / "picture 0.webp")
    Image.fromarray(disc()[0]).save(query / "picture 0.png.png")
    assert segment(bundle, support, query, tmp_path / "out") == 0
    made = sorted(path.name for path in (tmp_path / "out/masks").iterdir())
    assert made == ["picture 0.png.png", "picture 0.png.png.png", "picture 0.webp.png"]
    assert segment(bundle, support, query / "picture 0.webp", tmp_path / "one", "--side", 32) == 0
    assert [path.name for path in (tmp_path / "one/masks").iterdir()] == ["picture 0.webp.png"]
    assert REFINED in (tmp_path / "one/settings.json").read_text()


def test_what_lies_there_is_never_written_over(bundle: Path, tmp_path: Path, capfd: Any) -> None:
    support, query = folders(tmp_path)
    painted = {path: path.read_bytes() for path in (support / "masks").iterdir()}
    for out in (support, query, support / "masks"):
        assert segment(bundle, support, query, out) == 2
        assert f"{out}: holds what is read; give another folder" in capfd.readouterr().err
    (tmp_path / "mine/masks").mkdir(parents=True)
    assert segment(bundle, support, query, tmp_path / "mine") == 2
    assert "holds other files; give a folder for --out that is new or empty" in capfd.readouterr().err
    assert {path: path.read_bytes() for path in (support / "masks").iterdir()} == painted
    assert segment(bundle, support, query, tmp_path / "out") == 0
    shutil.copytree(query, tmp_path / "others")
    assert segment(bundle, support, tmp_path / "others", tmp_path / "out") == 2
    assert "holds results of other pictures, supports or settings" in capfd.readouterr().err
    (tmp_path / "out/results.tsv").write_text("a\tb\n1\t2\n")
    assert segment(bundle, support, query, tmp_path / "out") == 2
    assert "not a table of this command" in capfd.readouterr().err


def test_a_picture_that_went_bad_loses_its_row(bundle: Path, tmp_path: Path, capfd: Any) -> None:
    support, query = folders(tmp_path)
    assert segment(bundle, support, query, tmp_path / "out") == 0
    (query / "picture 1.png").write_bytes(b"gone")
    (tmp_path / "out/overlays/picture 0.png.jpg").unlink()
    assert segment(bundle, support, query, tmp_path / "out") == 2
    assert [row["file"] for row in table(tmp_path / "out")] == ["picture 0.png", "picture 2.png"]
    assert (tmp_path / "out/overlays/picture 0.png.jpg").exists()


def test_a_name_that_is_not_utf8_is_told(bundle: Path, tmp_path: Path, capfd: Any) -> None:
    support, query = folders(tmp_path, queries=1)
    bad = os.fsencode(query) + b"/caf\xe9.png"
    Path(os.fsdecode(bad)).write_bytes((query / "picture 0.png").read_bytes())
    assert segment(bundle, support, query, tmp_path / "out") == 2
    assert "its name is not UTF-8; rename it" in capfd.readouterr().err
    assert [row["file"] for row in table(tmp_path / "out")] == ["picture 0.png"]
