"""SBD's reader, its lists, and what all readers share: known answers, malformed input told in one sentence."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from novelseg.core.errors import InputError
from novelseg.data.encoded import decode_mask
from novelseg.data.mat import read_mat, readable
from novelseg.data.voc import COMPLETE, Voc, generated_list
from novelseg.formats import hdf5
from novelseg.formats.images import IMAGES
from tests.makers import Project, tiny_values, write_values
from tests.miniatures import (
    COCO_LISTS,
    NOVAL,
    TRAINAUG,
    coco_folder,
    name,
    refused,
    sbd_folder,
    sbd_mask,
    voc_folder,
)

NAMES = [str(label) for label in range(20)]


@pytest.fixture
def voc(tmp_path: Path) -> tuple[Path, Path]:
    """Small VOC and SBD folders."""
    return voc_folder(tmp_path / "voc"), sbd_folder(tmp_path / "sbd")


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """A small folder in COCO's layout."""
    return coco_folder(tmp_path / "coco")


def test_lists_are_generated_by_hand(voc: tuple[Path, Path]) -> None:
    assert generated_list(*voc, "trainaug") == [name(number) for number in TRAINAUG]
    assert generated_list(*voc, "voc_sbd_noval") == [name(number) for number in NOVAL]


def test_counts_of_the_whole_data_sets_are_held(voc: tuple[Path, Path]) -> None:
    root, sbd = voc
    train, val, more = COMPLETE
    (root / "ImageSets/Segmentation/train.txt").write_text("".join(f"t{n}\n" for n in range(train)))
    (root / "ImageSets/Segmentation/val.txt").write_text("".join(f"v{n}\n" for n in range(val)))
    # 1,134 of train and 1,103 of val are in SBD; the counts then follow.
    ids = [f"t{n}" for n in range(1134)] + [f"v{n}" for n in range(1103)] + [f"s{n}" for n in range(more - 2237)]
    (sbd / "train.txt").write_text("\n".join(ids[:8498]))
    (sbd / "val.txt").write_text("\n".join(ids[8498:]))
    (root / "ImageSets/Main/train.txt").write_text("\n".join(ids[:1134] + ids[2237 : 2237 + 5623 - 1134]))
    assert len(generated_list(root, sbd, "trainaug")) == 10_582
    assert len(generated_list(root, sbd, "voc_sbd_noval")) == 5_953
    (root / "ImageSets/Main/train.txt").write_text("\n".join(ids[:1134]))
    with pytest.raises(InputError, match="the list voc_sbd_noval has 1464 images; expected 5953"):
        generated_list(root, sbd, "voc_sbd_noval")


def test_voc_s_own_mask_is_preferred_and_sbd_s_has_no_void(voc: tuple[Path, Path]) -> None:
    found = Voc(*voc, ("trainaug", "val"), NAMES)
    pairs = {entry.name: found.read(entry) for entry in found.entries}
    assert pairs[name(1)].void > 0  # in both: VOC's, with a void border
    for number in (5, 6, 7, 8, 9):
        assert decode_mask(pairs[name(number)].mask).tolist() == sbd_mask(number).tolist()
        assert pairs[name(number)].void == 0


@pytest.mark.parametrize("place", ["ImageSets/Segmentation/val.txt", "ImageSets/Main/train.txt"])
def test_lists_with_more_than_ids_are_refused(voc: tuple[Path, Path], place: str) -> None:
    lines = (voc[0] / place).read_text().splitlines()
    (voc[0] / place).write_text("".join(f"{line}  1\n" for line in lines))
    with pytest.raises(InputError, match=r"contains a space; expected one image id per line"):
        generated_list(*voc, "voc_sbd_noval" if "Main" in place else "trainaug")


def test_trainaug_without_sbd_says_where_it_comes_from(voc: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match=r"trainaug\.txt: no such list.*set images\.sbd to SBD's folder"):
        Voc(voc[0], None, ("trainaug", "val"), NAMES)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("truncated", "scene00007.mat: not a readable annotation file"),
        ("empty", "scene00007.mat: not a readable annotation file"),
        ("foreign", "scene00007.mat: not a readable annotation file ('GTcls')"),
        ("nothing", "scene00007.mat: the mask is 0×0 px, its image scene00007.jpg"),
        ("flat", "scene00007.mat: contains float64 of shape (1, 1); expected one class number per pixel"),
        ("size", "scene00007.mat: the mask is 5×4 px, its image scene00007.jpg"),
        ("label", "scene00007.mat: contains the label 21; expected 0…20 and 255"),
        ("missing", "scene00007.mat: no such file; restore the data set"),
        ("no list", "val.txt: no such list; restore it, or download SBD again"),
        ("no folder", "contains no folder cls; set images.sbd"),
    ],
)
def test_malformed_sbd(
    voc: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str, sentence: str
) -> None:
    from scipy.io import savemat

    root, sbd = voc
    path = sbd / f"cls/{name(7)}.mat"
    if fault in ("truncated", "empty"):
        path.write_bytes(path.read_bytes()[: 300 if fault == "truncated" else 0])
    elif fault == "foreign":
        savemat(path, {"groundTruth": 1})
    elif fault == "missing":
        path.unlink()
    elif fault == "no list":
        (sbd / "val.txt").unlink()
    elif fault == "no folder":
        (sbd / "cls").rename(sbd / "classes")
    else:
        masks = {
            "flat": 0.5,
            "nothing": np.zeros((0, 0), np.uint8),
            "size": np.zeros((4, 5), np.uint8),
            "label": np.full_like(sbd_mask(7), 21),
        }
        savemat(path, {"GTcls": {"Segmentation": masks[fault]}})
    told = refused(root, tmp_path, capsys, source="voc", sbd=str(sbd), train_list="trainaug", val_list="val")
    assert sentence in told


def test_own_class_names(voc: tuple[Path, Path], tmp_path: Path) -> None:
    names = [f"kind{label}" for label in range(8)]
    values = tiny_values(images={"source": "voc", "root": str(voc[0]), "classes": names, "shards": 1})
    project = Project(tmp_path, tmp_path / "none")
    write_values(project.params, values)
    out = tmp_path / "0.h5"
    assert project.run("images", "--root", voc[0], "--shard", 0, "--out", out) == 0
    with hdf5.opened(out, IMAGES) as file:
        assert hdf5.attribute(file, "classes") == names
        assert file["pixels"].shape == (5, 9)


@pytest.mark.parametrize("source", ["voc", "coco"])
def test_an_image_that_cannot_be_mended_is_left_out_by_name(
    voc: tuple[Path, Path], coco: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str
) -> None:
    root, lists = (voc[0], ("train", "val")) if source == "voc" else (coco, COCO_LISTS)
    broken = next(iter(sorted((root / ("JPEGImages" if source == "voc" else "train2014")).iterdir())))
    broken.write_bytes(b"broken")
    images = {"source": source, "root": str(root), "train_list": lists[0], "val_list": lists[1], "shards": 2}
    project = Project(tmp_path, tmp_path / "none")
    outs = [tmp_path / f"{shard}.h5" for shard in range(2)]

    def run(exclude: list[str]) -> list[int]:
        write_values(project.params, tiny_values(images={**images, "exclude": exclude}))
        return [project.run("images", "--root", root, "--shard", n, "--out", out) for n, out in enumerate(outs)]

    assert run([]) == [2, 0]
    assert "or list its id in images.exclude, in quotes" in capsys.readouterr().err
    assert run([broken.stem]) == [0, 0]
    assert f"images: 1 left out (images.exclude): {broken.stem}" in capsys.readouterr().err
    ids = []
    for out in outs:
        with hdf5.opened(out, IMAGES) as file:
            ids += hdf5.texts(file, "id")
    assert len(ids) == len(set(ids)) == (4 if source == "voc" else 5)
    assert broken.stem not in ids
    assert run(["nobody"]) == [2, 2]
    assert "images.exclude names 'nobody', which is in neither list" in capsys.readouterr().err


@pytest.mark.parametrize("compressed", [False, True])
def test_matlab_files_are_read_as_scipy_reads_them(tmp_path: Path, compressed: bool) -> None:
    from scipy.io import loadmat, savemat

    path, labels = tmp_path / "a.mat", np.arange(6, dtype=np.uint16).reshape(2, 3)
    cells = np.empty((1, 2), object)
    for number, dtype in enumerate((np.uint16, np.float64)):
        cells[0, number] = {"Boundaries": labels > 1, "Segmentation": labels.astype(dtype)}
    savemat(path, {"other": "text", "groundTruth": cells}, do_compression=compressed)
    expected = [cell["Segmentation"][0, 0] for cell in loadmat(path)["groundTruth"].reshape(-1)]
    arrays = [cell.field("Segmentation").numbers() for cell in read_mat(path, "groundTruth").cells()]
    assert [(array.dtype, array.tolist()) for array in arrays] == [(part.dtype, part.tolist()) for part in expected]
    with pytest.raises(ValueError, match="it has no field Elsewhere"):
        read_mat(path, "groundTruth").cells()[0].field("Elsewhere")
    with pytest.raises(ValueError, match="it holds text where an array of real numbers is expected"):
        read_mat(path, "other").numbers()
    data = path.read_bytes()
    for length in range(0, len(data), 7):  # a part of a file is no file
        path.write_bytes(data[:length])
        with pytest.raises(InputError, match="not a readable annotation file"), readable(path):
            read_mat(path, "groundTruth").cells()


def test_matlab_files_of_the_other_byte_order_are_read(tmp_path: Path) -> None:
    def element(kind: int, content: bytes) -> bytes:
        return struct.pack(">II", kind, len(content)) + content + bytes(-len(content) % 8)

    head = b"MATLAB 5.0".ljust(124) + b"\x01\x00MI"
    numbers = np.array([[1, 2], [300, 4]], ">u2")
    array = element(6, bytes([0, 0, 0, 11, 0, 0, 0, 0])) + element(5, struct.pack(">2i", 2, 2)) + element(1, b"x")
    (tmp_path / "a.mat").write_bytes(head + element(14, array + element(4, numbers.tobytes("F"))))
    assert read_mat(tmp_path / "a.mat", "x").numbers().tolist() == numbers.tolist()
