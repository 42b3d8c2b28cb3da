"""`fetch`: a real server that cuts, corrupts and forgets; archives that lie; and the readers on what has come."""

from __future__ import annotations

import hashlib
import io
import socket
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from novelseg.backbones.resnet import ResNet
from novelseg.backbones.weights import load_strictly
from novelseg.cli.fetch import run
from novelseg.core.errors import InputError
from novelseg.data.coco import Coco
from novelseg.data.voc import Voc
from novelseg.fetch import download
from novelseg.fetch.catalogue import CATALOGUE, lacking
from novelseg.fetch.install import _lock
from novelseg.fetch.unpack import unpack
from tests.commands import novelseg
from tests.miniatures import CATEGORIES, archives
from tests.servers import Site, serving

LISTS = ("train2014", "val2014")
VOC_TAR = "VOCtrainval_11-May-2012.tar"


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """All archives in miniature."""
    return archives(tmp_path_factory.mktemp("archives"))


@pytest.fixture
def site(content: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A server of the archives, which the catalogue points to, with their own checksums."""
    monkeypatch.setattr(download, "PAUSE_S", 0.0)
    monkeypatch.setattr(download, "PIECE", 4096)
    with serving(Site(content)) as running:
        for what, entries in CATALOGUE.items():
            local = [entry for entry in entries if entry.name in content]
            moved = [
                replace(entry, url=f"{running.address}/{entry.name}", check=f"md5:{md5(content[entry.name])}")
                for entry in local
            ]
            monkeypatch.setitem(CATALOGUE, what, tuple(moved))
        yield running


def md5(data: bytes) -> str:
    """As the catalogue writes it."""
    return hashlib.md5(data).hexdigest()


def fetch(what: str, out: Path, *more: object) -> int:
    """Run the command."""
    return novelseg("fetch", "--what", what, "--out", out, *more)


def left_in(out: Path) -> list[str]:
    """Every file below a folder; the lock stays, empty."""
    files = (path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    return sorted(name for name in files if name != ".fetch.lock")


def test_everything_comes_and_is_read(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for what in ("voc2012", "sbd", "coco2014", "resnet18"):
        assert fetch(what, tmp_path) == 0
    voc = Voc(tmp_path / "VOC2012", tmp_path / "SBD", ("trainaug", "val"), [str(label) for label in range(20)])
    assert [voc.read(entry).entry.split for entry in voc.entries] == [0] * 8 + [1] * 2
    coco = Coco(tmp_path / "COCO2014", ("train2014", "val2014"), [], 0, 1)
    assert coco.names == list(CATEGORIES.values())
    assert all(coco.read(entry).pixels[1] > 0 for entry in coco.entries)
    net = ResNet(arch="resnet18", stem="torchvision", width=4)
    path = tmp_path / "weights/resnet18-f37072fd.safetensors"
    load_strictly(net, path)
    assert not [key for key in load_file(path) if key.startswith(("layer4", "fc"))]
    assert not (tmp_path / "VOC2012/ImageSets/Main/cat_train.txt").exists()  # only what is read is unpacked
    asked = len(site.asked)
    assert fetch("voc2012", tmp_path) == 0
    assert len(site.asked) == asked
    assert "VOC2012: already exists" in capsys.readouterr().err


def test_a_cut_connection_is_gone_on_with(site: Site, tmp_path: Path, content: dict[str, bytes]) -> None:
    site.cuts = [30_000, 0, 20_000]
    assert fetch("voc2012", tmp_path) == 0
    assert site.asked == [0, 30_000, 30_000, 50_000]
    assert (tmp_path / "archives" / VOC_TAR).read_bytes() == content[VOC_TAR]


def test_an_interrupted_fetch_goes_on_in_the_next_run(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "TRIES", 1)
    site.cuts = [30_000, 0]
    assert fetch("voc2012", tmp_path) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert "cannot be reached" in told
    assert "resumes after 0.0 MB" in told
    assert left_in(tmp_path) == [f"archives/{VOC_TAR}.part"]
    assert fetch("voc2012", tmp_path) == 0
    assert site.asked[-1] == 30_000


def test_a_server_without_ranges_starts_again(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site.cuts, site.ranges = [30_000], False
    assert fetch("voc2012", tmp_path) == 0
    assert site.asked == [0, 30_000]
    assert "the server cannot resume; downloading from the beginning" in capsys.readouterr().err


def test_a_server_that_sends_another_part(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site.cuts, site.ranges = [30_000], "wrong"
    assert fetch("voc2012", tmp_path) == 2
    assert "the server sent the range 'bytes 1-" in capsys.readouterr().err
    assert (tmp_path / "archives" / f"{VOC_TAR}.part").stat().st_size == 30_000


def test_a_server_that_does_not_tell_the_whole_size(site: Site, tmp_path: Path) -> None:
    site.cuts, site.ranges = [30_000, 20_000], "star"
    assert fetch("voc2012", tmp_path) == 0
    assert site.asked == [0, 30_000, 50_000]


def test_wrong_bytes_are_refused_and_not_kept(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right = site.files[VOC_TAR]
    site.files[VOC_TAR] = right[:-1] + b"x"
    assert fetch("voc2012", tmp_path) == 2
    assert "the server sent a file with a wrong checksum (md5:" in capsys.readouterr().err
    assert left_in(tmp_path) == []
    assert len(site.asked) == 1  # a fresh file with wrong bytes is not fetched a second time
    site.files[VOC_TAR] = right
    assert fetch("voc2012", tmp_path) == 0


def test_wrong_bytes_of_an_earlier_run_are_given_up(site: Site, tmp_path: Path) -> None:
    part = tmp_path / "archives" / f"{VOC_TAR}.part"
    part.parent.mkdir()
    part.write_bytes(bytes(5000))
    assert fetch("voc2012", tmp_path) == 0
    assert site.asked == [5000, 0]


@pytest.mark.parametrize("more", [0, 7])
def test_a_part_that_is_whole_or_too_long(site: Site, tmp_path: Path, more: int) -> None:
    part = tmp_path / "archives" / f"{VOC_TAR}.part"
    part.parent.mkdir()
    part.write_bytes(site.files[VOC_TAR] + bytes(more))
    assert fetch("voc2012", tmp_path) == 0
    assert len(site.asked) == (2 if more else 1)


def test_busy_and_absent(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site.answers = [503, 429]
    assert fetch("sbd", tmp_path) == 0
    assert len(site.asked) == 3
    site.answers = [404]
    assert fetch("voc2012", tmp_path) == 2
    assert "the server answers 404 Not Found; download the file elsewhere" in capsys.readouterr().err
    assert len(site.asked) == 4


def test_offline(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    entry = replace(CATALOGUE["voc2012"][0], url=f"http://127.0.0.1:{port}/{VOC_TAR}")
    monkeypatch.setitem(CATALOGUE, "voc2012", (entry,))
    assert fetch("voc2012", tmp_path) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert f"127.0.0.1:{port} cannot be reached (" in told
    assert "refused" in told
    assert "give its folder as --archives" in told


def test_a_full_disk(site: Site, small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = bytes(range(256)) * (5 << 12)  # 5 MB where 3 fit
    site.files[VOC_TAR] = data
    assert fetch("voc2012", small_disk) == 2
    assert "make room and run the same command again" in capsys.readouterr().err
    site.told = False
    assert fetch("voc2012", small_disk) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert f"{VOC_TAR}.part: no space left on device; make room" in told
    kept = (small_disk / "archives" / f"{VOC_TAR}.part").stat().st_size
    assert kept > 1 << 20
    assert fetch("voc2012", small_disk) == 2
    assert site.asked[-1] == kept


def test_a_disk_too_small_to_unpack(site: Site, small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for member in CATALOGUE["voc2012"][0].paths:
            info = tarfile.TarInfo(member + "x" * member.endswith("/"))
            info.size = 2 << 20
            archive.addfile(info, io.BytesIO(bytes(info.size)))
    given = small_disk.parent / "given"
    given.mkdir()
    (given / VOC_TAR).write_bytes(buffer.getvalue())
    CATALOGUE["voc2012"] = (replace(CATALOGUE["voc2012"][0], check=f"md5:{md5(buffer.getvalue())}"),)
    assert fetch("voc2012", small_disk, "--archives", given) == 2
    assert "VOC2012: no space left on device" in capsys.readouterr().err
    assert left_in(small_disk) == []


def test_archives_that_the_user_has(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given, out = tmp_path / "given", tmp_path / "out"
    given.mkdir()
    for file, data in site.files.items():
        (given / file).write_bytes(data)
    assert fetch("coco2014", out, "--archives", given) == 0
    assert site.asked == []
    assert not (out / "archives").exists()
    (given / "benchmark.tgz").write_bytes(b"another")
    assert fetch("sbd", out, "--archives", given) == 2
    assert "benchmark.tgz: has a wrong checksum (md5:" in capsys.readouterr().err
    assert fetch("sbd", out, "--archives", tmp_path / "none") == 2
    assert "which is not a folder" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        fetch("voc2021", out)
    assert "invalid choice: 'voc2021' (choose from 'voc2012', 'sbd'" in capsys.readouterr().err
    with pytest.raises(InputError, match="expected one of voc2012, sbd"):
        run(what="voc2021", out=out)


def test_two_at_once(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with _lock(tmp_path):
        assert fetch("voc2012", tmp_path) == 2
    assert "another process downloads to it" in capsys.readouterr().err
    assert site.asked == []
    assert fetch("voc2012", tmp_path) == 0


def test_a_login_page_does_not_cost_what_has_come(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = tmp_path / "archives" / f"{VOC_TAR}.part"
    part.parent.mkdir()
    part.write_bytes(site.files[VOC_TAR][:50_000])
    site.page = True
    assert fetch("voc2012", tmp_path) == 2
    assert "sent a web page instead of the file" in capsys.readouterr().err
    assert part.stat().st_size == 50_000
    site.page, site.ranges, site.files[VOC_TAR] = False, False, site.files[VOC_TAR][:700]
    assert fetch("voc2012", tmp_path) == 2
    assert "delete the partial file to download from the beginning" in capsys.readouterr().err
    assert part.stat().st_size == 50_000


def test_a_part_that_ends_early_is_gone_on_with(site: Site, tmp_path: Path) -> None:
    site.cuts, site.slice = [30_000], 9_000
    assert fetch("voc2012", tmp_path) == 0
    assert site.asked[:3] == [0, 30_000, 39_000]


def test_bytes_are_kept_as_sent_whatever_their_encoding_is_called(site: Site, tmp_path: Path) -> None:
    site.encoding = "x-gzip"
    assert fetch("sbd", tmp_path) == 0
    assert (tmp_path / "archives/benchmark.tgz").read_bytes() == site.files["benchmark.tgz"]


def test_bad_replies_do_not_cost_what_has_come(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part = tmp_path / "archives" / f"{VOC_TAR}.part"
    part.parent.mkdir()
    part.write_bytes(bytes(50_000))
    site.answers = [416] + [503] * 9  # taken for the end; then it is not the file; then nothing comes any more
    assert fetch("voc2012", tmp_path) == 2
    assert "cannot be reached (the server answers 503" in capsys.readouterr().err
    assert part.stat().st_size == 50_000
    site.answers, site.ranges, site.told = [], False, False
    assert fetch("voc2012", tmp_path) == 2
    assert "the server cannot resume and sends a file of unknown size" in capsys.readouterr().err
    assert part.stat().st_size == 50_000
    site.told = True
    assert fetch("voc2012", tmp_path) == 0


def test_a_whole_part_is_not_fetched_again_from_a_server_without_ranges(site: Site, tmp_path: Path) -> None:
    part = tmp_path / "archives" / f"{VOC_TAR}.part"
    part.parent.mkdir()
    part.write_bytes(site.files[VOC_TAR])
    site.ranges, site.cuts = False, [0]
    assert fetch("voc2012", tmp_path) == 0
    assert len(site.asked) == 1


def test_a_server_that_always_cuts_is_given_up(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site.cuts, site.ranges = [30_000] * 100, False
    assert fetch("voc2012", tmp_path) == 2
    assert "cannot be reached" in capsys.readouterr().err
    assert len(site.asked) < 20


@pytest.mark.parametrize("kind", ["file", "below a file", "folder in the way", "dangling", "unreadable"])
def test_places_that_cannot_be_used(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    out, given = tmp_path / "out", tmp_path / "given"
    given.mkdir()
    more: list[object] = []
    if kind == "file":
        out.write_text("mine")
    elif kind == "below a file":
        out.write_text("mine")
        out = out / "deeper"
    elif kind == "folder in the way":
        (out / "archives" / VOC_TAR).mkdir(parents=True)
    else:
        if kind == "dangling":
            (given / VOC_TAR).symlink_to("nowhere")
        else:
            (given / VOC_TAR).mkdir()
        more = ["--archives", given]
    assert fetch("voc2012", out, *more) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("error: ")
    assert ("cannot be written (" if "file" in kind else "cannot be read (") in told
    assert site.asked == []


def test_what_a_killed_run_left_is_removed(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left = tmp_path / ".VOC2012.4221.tmp" / "JPEGImages"
    left.mkdir(parents=True)
    file = tmp_path / "weights" / ".resnet18-f37072fd.safetensors.4221.tmp"
    file.parent.mkdir()
    file.touch()
    for what, path in (("voc2012", left), ("resnet18", file)):
        assert fetch(what, tmp_path) == 0
        assert not path.exists()
        assert "removed; it was left by a run that was killed" in capsys.readouterr().err


def test_what_is_there_needs_no_right_to_write(site: Site, tmp_path: Path) -> None:
    assert fetch("sbd", tmp_path) == 0
    (tmp_path / ".fetch.lock").unlink()
    assert fetch("sbd", tmp_path) == 0
    assert not (tmp_path / ".fetch.lock").exists()


def test_an_unfinished_folder_is_not_taken_for_the_data(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "VOC2012").mkdir()
    assert fetch("voc2012", tmp_path) == 2
    assert "VOC2012: exists, but is incomplete; move it away first" in capsys.readouterr().err
    assert site.asked == []


def tar_of(path: Path, *members: tuple[str, bytes | None]) -> Path:
    """A tar; None makes a symbolic link to /etc."""
    with tarfile.open(path, "w:gz") as archive:
        for member, data in members:
            info = tarfile.TarInfo(member)
            if data is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc"
            else:
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data or b""))
    return path


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ([("a/x", b"1"), ("a/../../evil", b"2")], "could be written outside"),
        ([("a/x", b"1"), ("/evil", b"2")], "could be written outside"),
        ([("a/x", b"1"), ("a\\..\\evil", b"2")], "could be written outside"),
        ([("a/x", b"1"), ("a/C:/evil", b"2")], "could be written outside"),
        ([("a/x", None)], "is not a regular file"),
        ([("a/x", None), ("a/x/passwd", b"2")], "is not a regular file"),
        ([("a/x", b"1"), ("a/x", b"2")], "contains 'a/x' twice"),
        ([("b/x", b"1")], "does not contain 'a/'"),
        ([("a/x", b"1"), ("a/x/y", b"2")], "both as a file and as a folder"),
    ],
)
def test_archives_that_lie(tmp_path: Path, members: list[tuple[str, bytes | None]], sentence: str) -> None:
    target = tmp_path / "deep" / "target"
    with pytest.raises(InputError, match="archive") as found:
        unpack(tar_of(tmp_path / "archive.tgz", *members), target, {"a/": ""})
    assert sentence in str(found.value)
    assert left_in(tmp_path) == ["archive.tgz"]


def test_a_zip_with_a_link_or_an_escape(tmp_path: Path) -> None:
    for inside, mode in (("a/x", stat.S_IFLNK | 0o777), ("a/../../x", stat.S_IFREG | 0o644)):
        with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
            info = zipfile.ZipInfo(inside)
            info.external_attr = mode << 16
            archive.writestr(info, b"/etc")
        with pytest.raises(InputError, match=r"not a regular file|could be written outside"):
            unpack(tmp_path / "archive.zip", tmp_path / "target", {"a/": ""})
        assert left_in(tmp_path) == ["archive.zip"]


@pytest.mark.parametrize("file", [VOC_TAR, "benchmark.tgz", "train2014.zip"])
@pytest.mark.parametrize("share", [0.0, 0.6])
def test_a_damaged_archive(tmp_path: Path, content: dict[str, bytes], file: str, share: float) -> None:
    entry = next(entry for entries in CATALOGUE.values() for entry in entries if entry.name == file)
    path = tmp_path / file
    path.write_bytes(content[file][: int(share * len(content[file]))])
    with pytest.raises(InputError, match=r"is damaged|does not contain"):
        unpack(path, tmp_path / "target", entry.paths)
    assert left_in(tmp_path) == [file]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "mine").write_text("mine")
    with pytest.raises(InputError, match="already exists and is not overwritten"):
        unpack(tar_of(tmp_path / "archive.tgz", ("a/mine", b"theirs")), target, {"a/": ""})
    assert (target / "mine").read_text() == "mine"


def test_what_is_lacking_is_named_with_its_command(tmp_path: Path) -> None:
    told = lacking(str(tmp_path / "VOC2012"), ("trainaug", "val"))
    assert told == (
        f"VOCtrainval_11-May-2012.tar is missing; `novelseg fetch --what voc2012 --out {tmp_path}` downloads it"
    )
    coco = tmp_path / "COCO2014"
    assert lacking(str(coco), LISTS).startswith("annotations_trainval2014.zip is missing")
    for place in ("annotations", "train2014"):
        (coco / place).mkdir(parents=True)
    (coco / "annotations/instances_train2014.json").touch()
    assert lacking(str(coco), LISTS).startswith("annotations_trainval2014.zip is missing")
    (coco / "annotations/instances_val2014.json").touch()
    assert lacking(str(coco), LISTS).startswith("val2014.zip is missing")
    assert "--what resnet101" in lacking(str(tmp_path / "weights/resnet101-63fe2227.safetensors"), ())
    assert f"--out '{tmp_path}/my data'` downloads it" in lacking(str(tmp_path / "my data/SBD"), ())


def test_folders_of_ones_own_are_left_to_their_readers(tmp_path: Path) -> None:
    for place in ("my-own", "VOC2012/ImageSets/Segmentation", "SBD/benchmark_RELEASE/dataset/cls", "COCO2014/mine"):
        (tmp_path / place).mkdir(parents=True)
        assert lacking(str(tmp_path / place.partition("/")[0]), ("mine", "other")) == ""


def test_the_last_stage_is_kept_where_it_is_asked_for(tmp_path: Path) -> None:
    net = ResNet(arch="resnet50", stem="torchvision", width=4, last="layer4", frozen=False)
    official = tmp_path / "official"
    official.mkdir()
    torch.save({**net.state_dict(), "fc.weight": torch.zeros(2, 3)}, official / "resnet50-0676ba61.pth")
    wanted = {"resnet50": "layer3", "resnet50-layer4": "layer4"}
    with pytest.MonkeyPatch.context() as patch:
        for what in wanted:
            (entry,) = CATALOGUE[what]
            check = f"md5:{md5((official / entry.name).read_bytes())}"
            patch.setitem(CATALOGUE, what, (replace(entry, check=check),))
            assert fetch(what, tmp_path, "--archives", official) == 0
    for what, last in wanted.items():
        path = tmp_path / CATALOGUE[what][0].target
        assert any(name.startswith("layer4") for name in load_file(path)) == (last == "layer4")
        load_strictly(ResNet(arch="resnet50", stem="torchvision", width=4, last=last), path)
    assert "fetch --what resnet50-layer4" in lacking(
        str(tmp_path / "x/weights/resnet50-0676ba61-layer4.safetensors"), []
    )
