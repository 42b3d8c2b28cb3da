"""Command `segment` on one's own pictures."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from novelseg.core.errors import InputError
from novelseg.inference.photos import read_mask
from novelseg.inference.results import Results, result_names
from novelseg.methods.variants import CLOSED_FORM, MATCHING
from tests.commands import novelseg
from tests.pictures import disc


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
    return novelseg("segment", *words)


def table(out: Path) -> list[dict[str, str]]:
    with (out / "results.tsv").open(encoding="utf8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


ALLOWED = {"torch", "torchgen", "functorch", "numpy", "PIL", "safetensors", "tqdm"}
ALLOWED |= {"sympy", "mpmath", "networkx", "filelock", "fsspec", "jinja2", "markupsafe", "setuptools"}  # torch's own
ALLOWED |= {"typing_extensions"}
ALLOWED |= {"pydot", "pynvml"}  # what torch takes where it is there


@pytest.mark.processes
def test_it_needs_few_packages(bundle: Path, tmp_path: Path) -> None:
    """Torch and a few small packages are all that a process loads that segments pictures."""
    support, query = folders(tmp_path)
    code = f"""
import sys
before = set(sys.modules)
from novelseg.cli.main import main
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
        "animated.gif": (many, "holds several pictures"),
        "pages.tiff": (frames, "holds several pictures"),
        "float.tiff": (encoded("tiff", Image.fromarray(np.ones((5, 5), np.float32))), "32 bits per pixel"),
        "long.tiff": (encoded("tiff", Image.fromarray(np.ones((5, 5), np.int32))), "32 bits per pixel"),
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
    assert f"{len(bad)} files could not be used, see above; the masks of the others are in {tmp_path / 'out'}" in told
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
        Image.open(tmp_path / "out/masks/strip.png") as mask,
        Image.open(tmp_path / "out/overlays/strip.jpg") as shown,
    ):
        assert (mask.size, shown.width) == ((70000, 8), 2000)


def test_supports_that_cannot_be_used_are_told_and_the_others_are(bundle: Path, tmp_path: Path, capfd: Any) -> None:
    support, query = folders(tmp_path)
    image, mask = disc()
    for name in ("nomask", "blank", "small", "smooth", "twice"):
        Image.fromarray(image).save(support / f"images/{name}.png")
    Image.fromarray(0 * mask).save(support / "masks/blank.png")
    Image.fromarray(mask[:9]).save(support / "masks/small.png")
    Image.fromarray(255 * mask).resize((70, 64)).resize((64, 64)).save(support / "masks/smooth.png")
    for ending in ("png", "bmp"):
        Image.fromarray(mask).save(support / f"masks/twice.{ending}")
    Image.fromarray(mask).save(support / "masks/alone.png")
    (support / "images/text.jpg").write_bytes(b"no")
    Image.fromarray(mask).save(support / "masks/text.png")
    assert segment(bundle, support, query, tmp_path / "out") == 2
    told = capfd.readouterr().err
    for said in (
        "masks has no mask for it",
        "masks/small.png: the mask is 64×9 px, its picture 64×64",
        "images/twice.png: has 2 masks (twice.bmp, twice.png); keep one",
        "masks/alone.png: no picture in",
        "images/text.jpg: not a picture",
        "masks/blank.png: an empty mask, whose picture shows what is not looked for",
        "masks/smooth.png: a mask with smoothed edges, cut at half",
        "error: 5 files could not be used",
    ):
        assert said in told, said
    assert sorted(json.loads((tmp_path / "out/settings.json").read_text())["supports"]) == [
        "0.png",
        "1.png",
        "blank.png",
        "smooth.png",
    ]
    assert len(table(tmp_path / "out")) == 3


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        ("s/images", "--support expects one with pictures"),
        ("s/masks/0.png s/masks/1.png", "contains no file; --support expects"),
        ("s/images/0.png s/images/1.png", "contains no file; --support expects"),
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
    assert f"{tmp_path / 'out'}: cannot be created (" in capfd.readouterr().err
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.processes
def test_a_full_disk_is_told_and_nothing_is_torn(bundle: Path, tmp_path: Path, small_disk: Path, capfd: Any) -> None:
    support, query = folders(tmp_path, queries=1)
    big = np.random.default_rng(0).integers(0, 256, (2600, 2400, 3), np.uint8)
    for number in range(3):
        Image.fromarray(big).save(query / f"big {number}.png")
    assert segment(bundle, support, query, small_disk / "out") == 2
    assert "no space left on device" in capfd.readouterr().err
    rows = table(small_disk / "out")
    assert len(rows) < 4
    assert all((small_disk / "out/overlays" / f"{Path(row['file']).stem}.jpg").exists() for row in rows)
    assert not list(small_disk.rglob("*.tmp"))


# Going on


def test_a_second_run_does_what_is_new_and_no_more(bundle: Path, tmp_path: Path, capfd: Any) -> None:
    support, query = folders(tmp_path)
    assert segment(bundle, support, query, tmp_path / "out") == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/masks").iterdir()}
    Image.fromarray(disc(middle=(40, 40))[0]).save(query / "more.png")
    Image.fromarray(disc(middle=(40, 20))[0]).save(query / "picture 1.png")  # another picture of the same name
    capfd.readouterr()
    assert segment(bundle, support, query, tmp_path / "out") == 0
    assert "segment: 4/4 pictures" in capfd.readouterr().err  # two of them done before
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/masks").iterdir()}
    changed = sorted(path.name for path in after if after[path] != before.get(path))
    assert changed == ["more.png", "picture 1.png"]
    assert [row["file"] for row in table(tmp_path / "out")] == [
        "more.png",
        "picture 0.png",
        "picture 1.png",
        "picture 2.png",
    ]
    assert segment(bundle, support, query, tmp_path / "out", "--variant", MATCHING) == 2
    assert "contains results of other pictures, supports or settings" in capfd.readouterr().err


def test_a_killed_run_goes_on_where_it_was(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    support, query = folders(tmp_path)
    assert segment(bundle, support, query, tmp_path / "whole") == 0
    from novelseg.inference.results import Query, Results

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


def test_what_a_stop_before_the_first_picture_leaves_is_gone_on_with(bundle: Path, tmp_path: Path) -> None:
    support, query = folders(tmp_path)
    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "mkdir", failing(Path.mkdir, at=3))  # after the settings, before the last folder
        assert segment(bundle, support, query, out) == 2
    assert (out / "settings.json").exists()
    (out / ".DS_Store").write_bytes(b"")
    assert segment(bundle, support, query, out) == 0
    assert len(table(out)) == 3
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden/.DS_Store").write_bytes(b"")
    assert segment(bundle, support, query, tmp_path / "hidden") == 0


def failing(work: Any, at: int) -> Any:
    """The same, but the call of that number finds the disk at fault."""
    calls = iter(range(1, 1000))

    def counted(self: Path, *words: Any, **options: Any) -> Any:
        if self.name in ("out", "masks", "overlays") and next(calls) == at:
            raise OSError(5, "Input/output error")
        return work(self, *words, **options)

    return counted


def test_a_table_that_another_program_saved_loses_what_it_garbled(bundle: Path, tmp_path: Path) -> None:
    support, query = folders(tmp_path, queries=1)
    Image.fromarray(disc()[0]).save(query / "Ü.png")
    assert segment(bundle, support, query, tmp_path / "out") == 0
    place = tmp_path / "out/results.tsv"
    place.write_bytes(place.read_text(encoding="utf8").encode("cp1252"))
    assert segment(bundle, support, query, tmp_path / "out") == 0
    assert [row["file"] for row in table(tmp_path / "out")] == ["picture 0.png", "Ü.png"]


def test_a_folder_is_the_same_however_it_is_written(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    support, query = folders(tmp_path)
    assert segment(bundle, support, query, tmp_path / "out") == 0
    capfd.readouterr()
    monkeypatch.chdir(tmp_path)
    (query / "picture 0.png").unlink()
    Image.fromarray(disc(middle=(40, 40))[0]).save(query / "more.png")
    assert segment(bundle, support, Path("q"), tmp_path / "out") == 0
    assert "segment: 3/3 pictures" in capfd.readouterr().err  # what is no longer there does not count


def test_results_can_be_supports(bundle: Path, tmp_path: Path) -> None:
    support, query = folders(tmp_path, queries=2)
    Image.fromarray(disc()[0]).save(query / "picture 0.webp", lossless=True)
    assert segment(bundle, support, query, tmp_path / "out") == 0
    shutil.copytree(query, tmp_path / "next/images")
    shutil.copytree(tmp_path / "out/masks", tmp_path / "next/masks")
    assert segment(bundle, tmp_path / "next", support / "images", tmp_path / "again") == 0
    used = json.loads((tmp_path / "again/settings.json").read_text())["supports"]
    assert sorted(used) == ["picture 0.png", "picture 0.webp", "picture 1.png"]


def test_a_picture_of_the_same_stem_later_renames_its_fellow(bundle: Path, tmp_path: Path) -> None:
    support, query = folders(tmp_path, queries=1)
    assert segment(bundle, support, query, tmp_path / "out") == 0
    assert [path.name for path in (tmp_path / "out/masks").iterdir()] == ["picture 0.png"]
    Image.fromarray(disc()[0]).save(query / "picture 0.webp")
    assert segment(bundle, support, query, tmp_path / "out") == 0
    for folder, ending in (("masks", "png"), ("overlays", "jpg")):
        made = sorted(path.name for path in (tmp_path / "out" / folder).iterdir())
        assert made == [f"picture 0.png.{ending}", f"picture 0.webp.{ending}"]
    assert [row["mask"] for row in table(tmp_path / "out")] == ["picture 0.png.png", "picture 0.webp.png"]


def test_names_of_results() -> None:
    assert result_names(["a.jpg", "b.png", "b"]) == {"a.jpg": "a", "b": "b", "b.png": "b.png"}
    assert result_names(["a.jpg", "A.png"]) == {"a.jpg": "a.jpg", "A.png": "A.png"}
    # The whole name of one is the stem of another.
    names = result_names(["a.jpg", "a.png", "a.jpg.webp", "c.png"])
    assert names == {"a.jpg": "a.jpg", "a.png": "a.png", "a.jpg.webp": "a.jpg.webp", "c.png": "c"}


def test_files_that_are_no_pictures_are_skipped_and_counted(bundle: Path, tmp_path: Path, capfd: Any) -> None:
    support, query = folders(tmp_path, queries=1)
    for folder in (query, support / "images", support / "masks"):
        for name in ("Thumbs.db", "notes.txt"):
            (folder / name).write_bytes(b"\xd0\xcf\x11\xe0 nothing")
    assert segment(bundle, support, query, tmp_path / "out") == 0
    told = capfd.readouterr().err
    for folder in (query, support / "images", support / "masks"):
        assert f"note: {folder}: 2 files skipped, not pictures: Thumbs.db, notes.txt" in told
    (query / "picture 0.png").unlink()
    assert segment(bundle, support, query, tmp_path / "other") == 2
    assert f"{query}: contains no picture but Thumbs.db, notes.txt; --query expects" in capfd.readouterr().err


def test_pictures_of_one_name_have_their_own_masks(bundle: Path, tmp_path: Path, capfd: Any) -> None:
    support, query = folders(tmp_path, queries=1)
    Image.fromarray(disc()[0]).save(query / "picture 0.webp")
    Image.fromarray(disc()[0]).save(query / "picture 0.png.png")
    assert segment(bundle, support, query, tmp_path / "out") == 0
    made = sorted(path.name for path in (tmp_path / "out/masks").iterdir())
    assert made == ["picture 0.png.png", "picture 0.png.png.png", "picture 0.webp.png"]
    assert "note: 3 pictures share their names up to the ending, which their masks keep" in capfd.readouterr().err
    assert segment(bundle, support, query / "picture 0.webp", tmp_path / "one", "--side", 32) == 0
    assert [path.name for path in (tmp_path / "one/masks").iterdir()] == ["picture 0.png"]
    assert CLOSED_FORM in (tmp_path / "one/settings.json").read_text()


def test_what_lies_there_is_never_written_over(bundle: Path, tmp_path: Path, capfd: Any) -> None:
    support, query = folders(tmp_path)
    painted = {path: path.read_bytes() for path in (support / "masks").iterdir()}
    for out in (support, query, support / "masks"):
        assert segment(bundle, support, query, out) == 2
        assert f"{out}: contains the pictures or masks to read; give another folder" in capfd.readouterr().err
    (tmp_path / "mine/masks").mkdir(parents=True)
    assert segment(bundle, support, query, tmp_path / "mine") == 2
    assert "contains other files; give a new or empty folder for --out" in capfd.readouterr().err
    assert {path: path.read_bytes() for path in (support / "masks").iterdir()} == painted
    assert segment(bundle, support, query, tmp_path / "out") == 0
    shutil.copytree(query, tmp_path / "others")
    assert segment(bundle, support, tmp_path / "others", tmp_path / "out") == 2
    assert "contains results of other pictures, supports or settings" in capfd.readouterr().err
    (tmp_path / "out/results.tsv").write_text("a\tb\n1\t2\n")
    assert segment(bundle, support, query, tmp_path / "out") == 2
    assert "not a table of this command" in capfd.readouterr().err


def test_two_runs_with_other_settings_do_not_share_a_new_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, link = tmp_path / "out", os.link

    def second_first(scratch: Path, path: Path) -> None:
        """Begin another run at the very instant at which this one has found the folder new."""
        monkeypatch.setattr(os, "link", link)
        Results(out, {"side": 2}, [])
        link(scratch, path)

    monkeypatch.setattr(os, "link", second_first)
    with pytest.raises(InputError, match="contains results of other pictures, supports or settings"):
        Results(out, {"side": 1}, [])
    assert json.loads((out / "settings.json").read_text()) == {"side": 2}
    assert not list(out.glob(".*"))
    Results(out, {"side": 2}, [])

    def no_links(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)  # as on some network and memory-card file systems
    Results(tmp_path / "other", {"side": 3}, [])
    assert json.loads((tmp_path / "other/settings.json").read_text()) == {"side": 3}


@pytest.mark.skipif(sys.platform == "win32", reason="names and files that Windows does not have")
def test_odd_names_and_files_are_told_in_a_line(bundle: Path, tmp_path: Path, capfd: Any) -> None:
    support, query = folders(tmp_path, queries=1)
    picture = (query / "picture 0.png").read_bytes()
    names = ["a\rb.png", "a\nb.png", "a\u2028b.png", "a\u0085b.png", "a\x0cb.png", "Icon\r"]
    for name in names:
        (query / name).write_bytes(picture)
    os.mkfifo(query / "pipe.png")
    (query / "up").symlink_to("..")
    (query / "loop.png").symlink_to("loop.png")
    (query / "broken.png").symlink_to("none.png")
    assert segment(bundle, support, query, tmp_path / "out") == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("refused: ")]
    assert len(lines) == len(names) + 3
    assert sum("its name holds a line separator; rename it" in line for line in lines) == len(names)
    assert any("pipe.png: cannot be read (it is a pipe, socket or device, not a file)" in line for line in lines)
    assert any("loop.png: cannot be read (Too many levels of symbolic links)" in line for line in lines)
    assert any("broken.png: cannot be read (No such file or directory)" in line for line in lines)
    assert [row["file"] for row in table(tmp_path / "out")] == ["picture 0.png"]


def test_a_lossy_mask_is_cut_and_said_once(bundle: Path, tmp_path: Path, capfd: Any) -> None:
    support, query = folders(tmp_path, queries=1)
    for number in range(2):
        path = support / f"masks/{number}.png"
        with Image.open(path) as mask:
            mask.save(path.with_suffix(".jpg"), quality=85)
        path.unlink()
    assert segment(bundle, support, query, tmp_path / "out") == 0
    told = [line for line in capfd.readouterr().err.splitlines() if "lossy" in line]
    assert len(told) == 1
    assert "0.jpg and 1 more: a mask in a lossy format, cut at half" in told[0]
    with pytest.warns(UserWarning, match=r"0\.jpg: a mask in a lossy format, cut at half"):
        assert (read_mask(support / "masks/0.jpg") != disc(middle=(28, 32))[1]).mean() < 0.01


def test_a_picture_that_went_bad_loses_its_row(bundle: Path, tmp_path: Path, capfd: Any) -> None:
    support, query = folders(tmp_path)
    assert segment(bundle, support, query, tmp_path / "out") == 0
    (query / "picture 1.png").write_bytes(b"gone")
    (tmp_path / "out/overlays/picture 0.jpg").unlink()
    assert segment(bundle, support, query, tmp_path / "out") == 2
    assert [row["file"] for row in table(tmp_path / "out")] == ["picture 0.png", "picture 2.png"]
    assert (tmp_path / "out/overlays/picture 0.jpg").exists()


def test_names_that_cannot_be_borne_are_told(bundle: Path, tmp_path: Path, capfd: Any) -> None:
    support, query = folders(tmp_path, queries=1)
    bad = os.fsencode(query) + b"/caf\xe9.png"
    Path(os.fsdecode(bad)).write_bytes((query / "picture 0.png").read_bytes())
    assert segment(bundle, support, query, tmp_path / "out") == 2
    (query / ("日" * 80 + ".png")).write_bytes((query / "picture 0.png").read_bytes())
    assert segment(bundle, support, query, tmp_path / "out") == 2
    told = capfd.readouterr().err
    assert "its name is not UTF-8; rename it" in told
    assert "日.png: its name has more than 230 bytes; shorten it" in told
    assert [row["file"] for row in table(tmp_path / "out")] == ["picture 0.png"]
