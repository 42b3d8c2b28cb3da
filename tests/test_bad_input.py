"""Bad input: one clear sentence, an exit code that is not 0, and nothing written."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from novelseg.core.compute import pick_device
from novelseg.core.errors import InputError
from novelseg.data.index import read_index
from novelseg.data.scenes import SceneSettings, write_voc
from novelseg.data.store import ImageStore
from stages.__main__ import main
from tests.makers import ENCODER, Project, tiny_values, write_values

SCENES = SceneSettings(seed=0, train=4, val=2, size=48)


class Raw:
    """A VOC folder to break, and the stage that reads it."""

    def __init__(self, root: Path) -> None:
        self.root, self.out = root / "raw", root / "out" / "0.h5"
        write_voc(self.root, SCENES, range(6))
        values = tiny_values(images={"source": "voc", "root": str(self.root), "shards": 1})
        self.project = Project(root, root / "none")
        write_values(self.project.params, values)

    def image(self, number: int) -> Path:
        """An image file."""
        return self.root / f"JPEGImages/scene{number:05d}.jpg"

    def mask(self, number: int) -> Path:
        """A mask file."""
        return self.root / f"SegmentationClass/scene{number:05d}.png"

    def list(self, name: str) -> Path:
        """A list file."""
        return self.root / f"ImageSets/Segmentation/{name}.txt"

    def run(self) -> int:
        """Run the stage."""
        return self.project.run("images", "--root", self.root, "--shard", 0, "--out", self.out)


@pytest.fixture
def raw(tmp_path: Path) -> Raw:
    """A sound folder."""
    return Raw(tmp_path)


def refused(raw: Raw, capsys: pytest.CaptureFixture[str], *phrases: str) -> None:
    """The stage ends with one sentence that holds the phrases, and writes nothing."""
    assert raw.run() == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    for phrase in phrases:
        assert phrase in last
    assert not raw.out.exists()
    assert not raw.out.parent.exists() or not list(raw.out.parent.iterdir())


def test_a_sound_folder_is_taken(raw: Raw) -> None:
    assert raw.run() == 0


def test_missing_mask(raw: Raw, capsys: pytest.CaptureFixture[str]) -> None:
    raw.mask(2).unlink()
    refused(raw, capsys, "SegmentationClass/scene00002.png", "no such file", "list the id in images.exclude, in quotes")


def test_missing_image(raw: Raw, capsys: pytest.CaptureFixture[str]) -> None:
    raw.image(3).unlink()
    refused(raw, capsys, "JPEGImages/scene00003.jpg", "no such file")


def test_mask_of_another_size(raw: Raw, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.zeros((5, 7), np.uint8)).save(raw.mask(1))
    refused(raw, capsys, "scene00001.png", "the mask is 7×5 px, its image")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_corrupt_jpeg(raw: Raw, capsys: pytest.CaptureFixture[str], share: float) -> None:
    data = raw.image(0).read_bytes()
    raw.image(0).write_bytes(data[: int(len(data) * share)])
    refused(raw, capsys, "scene00000.jpg", "does not decode")


def test_rgb_mask(raw: Raw, capsys: pytest.CaptureFixture[str]) -> None:
    with Image.open(raw.mask(4)) as mask:
        rgb = mask.convert("RGB")
    rgb.save(raw.mask(4))
    refused(raw, capsys, "scene00004.png", "the mask is 8-bit RGB; expected one number per pixel")


def test_label_out_of_range(raw: Raw, capsys: pytest.CaptureFixture[str]) -> None:
    with Image.open(raw.image(0)) as image:
        size = (image.height, image.width)
    Image.fromarray(np.full(size, 21, np.uint8)).save(raw.mask(0))
    refused(raw, capsys, "contains the label 21; expected 0…20 and 255")


def test_several_faults_are_counted(raw: Raw, capsys: pytest.CaptureFixture[str]) -> None:
    raw.mask(0).unlink()
    raw.image(1).unlink()
    refused(raw, capsys, "scene00000.png", "1 more of the shard's 6 images are faulty too")


def test_an_id_in_both_lists(raw: Raw, capsys: pytest.CaptureFixture[str]) -> None:
    raw.list("val").write_text("scene00000\n")
    refused(raw, capsys, "val.txt", "'scene00000' is listed twice")


def test_an_empty_list(raw: Raw, capsys: pytest.CaptureFixture[str]) -> None:
    raw.list("train").write_text("")
    refused(raw, capsys, "train.txt", "the list is empty")


def test_a_missing_folder(raw: Raw, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(raw.root)
    refused(raw, capsys, "no such folder; set images.root")


def ends(project: Project, capsys: pytest.CaptureFixture[str], out: Path, stage: str, *words: object) -> str:
    """Run a stage that must refuse; give its sentence."""
    capsys.readouterr()
    assert project.run(stage, *words, "--out", out) == 2
    assert not out.exists()
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    return last


def test_more_clusters_than_the_corpus(project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params = write_values(tmp_path / "params.yaml", tiny_values(prototypes={"clusters": [120, 3, 2]}))
    features = [project.path(f"features/fold0/{shard}.h5") for shard in range(2)]
    here = Project(params.parent, project.weights)
    told = ends(here, capsys, tmp_path / "p.h5", "prototypes", "--features", *features, "--fold", 0)
    assert "starts with 120 clusters, but the foreground-object corpus has" in told


def test_a_class_with_too_few_images(images_only: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = images_only.path("index/index.h5")
    words = ["--index", index, "--fold", 0, "--shot", 20, "--seed", 0]
    told = ends(images_only, capsys, tmp_path / "e.tsv", "episodes", *words)
    assert "class 'melon' has" in told
    assert "20-shot episodes need 21" in told


def test_a_fold_that_does_not_exist(images_only: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = images_only.path("index/index.h5")
    words = ["--index", index, "--fold", 4, "--shot", 1, "--seed", 0]
    told = ends(images_only, capsys, tmp_path / "e.tsv", "episodes", *words)
    assert "fold 4 does not exist; this data set has folds 0…3" in told


def test_an_unknown_class_to_exclude(images_only: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_values(images_only.params, tiny_values(episodes={"exclude_classes": ["melom"]}))
    index = images_only.path("index/index.h5")
    words = ["--index", index, "--fold", 0, "--shot", 1, "--seed", 0]
    told = ends(images_only, capsys, tmp_path / "e.tsv", "episodes", *words)
    assert "names 'melom', which is not a class; did you mean 'melon'" in told


def test_weights_of_another_architecture(
    images_only: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_values(images_only.params, tiny_values(encoder={"width": 8}))
    words = [*images_only.data(), "--weights", images_only.weights, "--fold", 0, "--shot", 1]
    told = ends(images_only, capsys, tmp_path / "run", "baseline", *words)
    assert "the weights do not fit encoder.arch, encoder.stem and encoder.width" in told
    assert "bn1.weight is (16,), not (8,); and 71 more" in told


def test_a_missing_weight_file(images_only: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*images_only.data(), "--weights", tmp_path / "none.pth", "--fold", 0, "--shot", 1]
    told = ends(images_only, capsys, tmp_path / "run", "baseline", *words)
    assert "none.pth: no such weight file" in told


def test_prototypes_of_another_encoder(project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other"
    write_values(tmp_path / "params.yaml", tiny_values(baseline={"iterations": 2}))
    words = ["--weights", project.weights, "--fold", 0, "--shot", 1, "--out", other]
    assert Project(tmp_path, project.weights).run("baseline", *project.data(), *words) == 0
    from stages.__main__ import main

    out = tmp_path / "p.h5"
    told = [
        "pseudolabels",
        *("--index", str(project.path("index/index.h5")), "--images", project.images()[0]),
        *("--encoder", str(other / "weights.safetensors"), "--prototypes", str(project.path("prototypes/fold0.h5"))),
        *("--fold", "0", "--out", str(out)),
    ]
    assert main(told) == 2
    assert "computed with an encoder that is not the given one" in capsys.readouterr().err
    assert not out.exists()


def test_too_few_shards(project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--index", project.path("index/index.h5"), "--images", project.images()[0]]
    told = ends(
        project,
        capsys,
        tmp_path / "run",
        "baseline",
        *words,
        "--weights",
        project.weights,
        *"--fold 0 --shot 1".split(),
    )
    assert "got 1 shards, but the index was made from 2" in told


def test_an_unknown_stage_and_an_unknown_device(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from stages.__main__ import main

    assert main(["feature"]) == 2
    assert "there is no command 'feature'; did you mean 'features'" in capsys.readouterr().err
    words = [*project.data(), "--weights", project.weights, "--fold", 0, "--shot", 1, "--device", "tpu"]
    with pytest.raises(SystemExit, match="2"):
        project.run("baseline", *words, "--out", tmp_path / "run")
    assert "--device: invalid choice: 'tpu' (choose from 'auto', 'cpu', 'cuda')" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="expected auto, cpu or cuda"):
        pick_device("tpu")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("16-bit", "the image is 16-bit grey; expected 8-bit"),
        ("alpha", "the image is 8-bit RGB with alpha"),
        ("rotated", "has an EXIF rotation tag"),
    ],
)
def test_images_that_would_be_misread(raw: Raw, capsys: pytest.CaptureFixture[str], change: str, sentence: str) -> None:
    with Image.open(raw.image(0)) as image:
        rgb = image.convert("RGB")
    if change == "16-bit":
        Image.fromarray(np.full((rgb.height, rgb.width), 30000, np.uint16)).save(raw.image(0), "PNG")
    elif change == "alpha":
        rgb.convert("RGBA").save(raw.image(0), "PNG")
    else:
        exif = Image.Exif()
        exif[0x0112] = 6
        rgb.save(raw.image(0), exif=exif)
    refused(raw, capsys, "scene00000.jpg", sentence)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_images_are_taken(raw: Raw, mode: str) -> None:
    with Image.open(raw.image(0)) as image:
        converted = image.convert(mode)
    converted.save(raw.image(0))
    assert raw.run() == 0


def test_an_id_with_a_space(raw: Raw, capsys: pytest.CaptureFixture[str]) -> None:
    raw.list("val").write_text("my photo\n")
    refused(raw, capsys, "the id 'my photo' contains a space")


def test_the_order_of_shards_does_not_matter_and_doubles_are_refused(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = read_index(project.path("index/index.h5"))
    images = [Path(path) for path in project.images()]
    with ImageStore(images, index) as store, ImageStore(images[::-1], index) as reversed_store:
        assert all(np.array_equal(store.mask(n), reversed_store.mask(n)) for n in range(len(index.ids)))
    words = ["--index", project.path("index/index.h5"), "--images", images[0], images[0]]
    words += ["--weights", str(project.weights), *"--fold 0 --shot 1".split()]
    told = ends(project, capsys, tmp_path / "run", "baseline", *words)
    assert "shard 1 of the index is missing, and another is given twice; give all, each once" in told


@pytest.mark.parametrize("stage", ["features", "prototypes", "train", "evaluate"])
def test_files_of_another_fold(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    features = [project.path(f"features/fold0/{shard}.h5") for shard in range(2)]
    one = ["--index", project.path("index/index.h5"), "--images", project.images()[0]]
    words: dict[str, list[object]] = {
        "features": [*one, "--regions", project.path("regions/0.h5"), "--encoder", project.path(ENCODER), "--fold", 1],
        "prototypes": ["--features", *features, "--fold", 1],
        "train": [1 if before == "--fold" else word for before, word in pairs(project.train_words(tmp_path))],
        "evaluate": [1 if before == "--fold" else word for before, word in pairs(project.evaluate_words(tmp_path))],
    }
    chosen = words[stage][:-2] if stage in ("train", "evaluate") else words[stage]
    told = ends(project, capsys, tmp_path / "out", stage, *chosen)
    assert any(said in told for said in ("made with fold 0, not 1", "trained for fold 0, not 1", "not novel in fold 1"))


def pairs(words: list[object]) -> list[tuple[object, object]]:
    """Each word with the one before it."""
    return list(zip([None, *words], words, strict=False))


@pytest.mark.parametrize("stage", ["baseline", "features", "pseudolabels", "hierarchies"])
def test_a_damaged_image_in_a_shard_is_named(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    broken = tmp_path / "0.h5"
    shutil.copy(project.images()[0], broken)
    with h5py.File(broken, "r+") as file:
        file["image"][:] = np.zeros(len(file["image"]), np.uint8)
    given = ["--index", project.path("index/index.h5"), "--fold", 0, "--encoder", project.path(ENCODER)]
    training = ["--index", project.path("index/index.h5"), "--weights", project.weights, "--fold", 0, "--shot", 1]
    words: dict[str, list[object]] = {
        "baseline": [*training, "--images", broken, project.images()[1]],
        "features": [*given, "--regions", project.path("regions/0.h5"), "--images", broken],
        "pseudolabels": [*given, "--prototypes", project.path("prototypes/fold0.h5"), "--images", broken],
        "hierarchies": [*project.hierarchies_words(0, tmp_path)[2:-2], "--images", broken],
    }
    flags = [] if stage == "pseudolabels" else ["--params", str(project.params)]
    assert main([stage, *flags, *map(str, words[stage]), "--out", str(tmp_path / "out")]) == 2
    assert re.search(rf"error: {broken}: the image of '.*' does not decode .*; delete", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()
