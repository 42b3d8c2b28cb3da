"""The one decoder of pictures and masks: what a file holds, exactly, or one sentence."""

from __future__ import annotations

import io
import os
import socket
import stat
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from novelseg.core.errors import InputError
from novelseg.data.classes import voc_palette
from novelseg.data.encoded import decode_mask
from novelseg.data.jsonstream import elements
from novelseg.data.labelmaps import read_label_map
from novelseg.data.pairs import Entry, ImageFile, pair_from_file, read_ids, read_image
from novelseg.data.pictures import ADAM7, decode, index_numbers
from novelseg.inference.photos import mask_of, photo_of, read_photo, rgb_values
from tests.fuzzing.files import chunk, png
from tests.pictures import disc

LABELS = np.arange(12, dtype=np.uint8).reshape(3, 4) % 4
SIZE = ImageFile(Path("image.jpg"), np.zeros(0, np.uint8), 3, 4)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def with_palette(labels: np.ndarray, palette: list[int]) -> Image.Image:
    image = Image.fromarray(labels)
    image.putpalette(palette)
    return image


def labels_of(data: bytes, folder: Path, classes: int = 20) -> list[list[int]]:
    """What a data set's reader takes a mask for, after it went through a shard."""
    path = folder / "mask.png"
    path.write_bytes(data)
    pair = pair_from_file(Entry("a", 0, 0), SIZE, path, classes)
    assert pair.pixels.sum() + pair.void == LABELS.size
    labels: list[list[int]] = decode_mask(pair.mask).tolist()
    return labels


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_grey_of_any_depth_gives_its_own_numbers(depth: int, tmp_path: Path) -> None:
    labels = np.minimum(LABELS, (1 << depth) - 1).astype(np.uint8)
    data = png(labels, depth, 0)
    assert labels_of(data, tmp_path) == labels.tolist()
    assert labels_of(png(labels, depth, 3), tmp_path) == labels.tolist()
    assert read_label_map(tmp_path, "mask", labels.shape).tolist() == labels.tolist()
    (tmp_path / "mask.png").write_bytes(data)
    assert read_label_map(tmp_path, "mask", labels.shape).tolist() == labels.tolist()
    assert mask_of(data, Path("m"), label=1)[0].tolist() == (labels == 1).astype(int).tolist()


def test_a_label_map_may_have_16_bits(tmp_path: Path) -> None:
    wide = LABELS.astype(np.uint16) * 9000
    (tmp_path / "m.png").write_bytes(png(wide, 16, 0))
    assert read_label_map(tmp_path, "m", wide.shape).tolist() == wide.tolist()


REORDERED = with_palette(1 - LABELS % 2, [128, 0, 0, 0, 0, 0])  # black, VOC's background, is number 1


RED_AND_BLACK = with_palette(1 - LABELS % 2, [255, 0, 0, 0, 0, 0])


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (encoded(Image.fromarray(LABELS), "JPEG"), "a JPEG file, whose numbers are not exact"),
        (encoded(Image.fromarray(LABELS), "GIF"), "a GIF file, whose numbers are not exact"),
        (encoded(Image.fromarray(LABELS), "WEBP", lossless=True), "a WEBP file, whose numbers are not exact"),
        (png(np.dstack([LABELS, LABELS]), 8, 4), "the mask is 8-bit grey with alpha; expected one number per pixel"),
        (png(np.dstack([LABELS] * 3), 8, 2), "the mask is 8-bit RGB; expected one number per pixel"),
        (png(LABELS.astype(np.uint16), 16, 0), "the mask is 16-bit grey; expected one class number per pixel"),
        (
            encoded(RED_AND_BLACK),
            "1 is black, as the background is, and the number 0 has the colour (255, 0, 0)",
        ),
        (encoded(REORDERED), "the number 0 has the colour of number 1 in VOC's colour map"),
        (encoded(Image.fromarray(255 * (LABELS % 2))), "contains only 0 and 255, and 255 is void, so it has no object"),
        (encoded(Image.fromarray(LABELS), exif=b"Exif\0\0nonsense"), "has a damaged EXIF block"),
        (encoded(Image.fromarray(LABELS))[:-4], "does not decode (the file ends early)"),
        (
            encoded(Image.fromarray(LABELS), save_all=True, append_images=[Image.fromarray(LABELS + 1)]),
            "holds several pictures",
        ),
    ],
)
def test_masks_whose_numbers_are_uncertain_are_refused(data: bytes, told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"mask\.png: ") as error:
        labels_of(data, tmp_path)
    assert told in str(error.value)


def test_palettes_of_other_data_sets_are_no_reason_to_refuse(tmp_path: Path) -> None:
    ramp = [value for number in range(256) for value in 3 * [number]]
    own = [0, 0, 0, 9, 9, 200, 128, 0, 0, 0, 128, 0]  # some of VOC's colours, at other numbers, and one of its own
    for palette in (voc_palette(), ramp, own):
        assert labels_of(encoded(with_palette(LABELS, palette)), tmp_path) == LABELS.tolist()
    void = np.where(LABELS == 3, 255, LABELS).astype(np.uint8)  # programs fill the rest of a palette with black
    coloured = with_palette(void, [9, 9, 200, 9, 200, 9, 200, 9, 9] + 759 * [0])
    assert labels_of(encoded(coloured), tmp_path) == void.tolist()
    wide = np.where(LABELS == 3, 128, LABELS).astype(np.uint8)  # the ramp's grey 128 is VOC's colour of number 7
    assert labels_of(encoded(with_palette(wide, ramp)), tmp_path, classes=200) == wide.tolist()


FULL = np.linspace(0, 65535, 3 * 4 * 4).astype(np.uint16).reshape(3, 4, 4)
GREY_PPM = b"P5 4 3 4095\n" + (FULL[:, :, 0] >> 4).astype(">u2").tobytes()


@pytest.mark.parametrize(
    ("values", "colour", "kind"),
    [
        (FULL[:, :, 0], 0, "16-bit grey"),
        (FULL[:, :, :3], 2, "16-bit RGB"),
        (np.dstack([FULL[:, :, 0], np.full_like(FULL[:, :, 0], 65535)]), 4, "16-bit grey with alpha"),
        (np.dstack([FULL[:, :, :3], np.full_like(FULL[:, :, 0], 65535)]), 6, "16-bit RGB with alpha"),
    ],
)
def test_sixteen_bits_are_one_thing_in_all_modes(values: np.ndarray, colour: int, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "p.jpg"
    path.write_bytes(png(values, 16, colour))
    with pytest.raises(InputError, match=f"the image is {kind}; expected 8-bit"):
        read_image(path)
    channels = values if colour < 4 and values.ndim == 3 else values[..., :1] if values.ndim == 3 else values[..., None]
    channels = values[..., :3] if colour == 6 else channels
    assert photo_of(path.read_bytes(), path).tolist() == np.broadcast_to(channels >> 8, (3, 4, 3)).tolist()
    few = (values >> 4) if colour < 4 else np.dstack([values[..., :-1] >> 4, values[..., -1:]])  # a camera of 12 bits
    with pytest.raises(InputError, match=r"the largest value of its 16 bits is (at most )?(38|40)\d\d"):
        photo_of(png(few, 16, colour), path)


def test_a_largest_value_in_the_file_is_believed(tmp_path: Path) -> None:
    grey = photo_of(GREY_PPM, Path("p.pgm"))[:, :, 0]
    assert np.abs(grey.astype(int) - (FULL[:, :, 0] >> 8)).max() <= 1
    (tmp_path / "p.jpg").write_bytes(GREY_PPM)
    with pytest.raises(InputError, match="the image is 12-bit integer; expected 8-bit"):
        read_image(tmp_path / "p.jpg")


def test_a_jpeg_of_twelve_bits_is_told_as_such() -> None:
    data = bytearray(encoded(Image.fromarray(disc()[0]), "JPEG"))
    data[data.index(b"\xff\xc0") + 4] = 12
    with pytest.raises(InputError, match=r"x: a JPEG of 12 bits per channel; save it with 8 bits"):
        photo_of(bytes(data), Path("x"))


def test_transparency_is_refused_where_a_pixel_is_transparent(tmp_path: Path) -> None:
    path = tmp_path / "p.png"
    image = with_palette(LABELS, voc_palette())
    path.write_bytes(encoded(image, transparency=99))  # no pixel has this number
    assert read_image(path).height == 3
    path.write_bytes(encoded(image, transparency=0))
    with pytest.raises(InputError, match="the image is 8-bit palette with transparent pixels; expected"):
        read_image(path)


def with_pixels(data: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """A PNG with one chunk of pixels, changed, and the right checksum."""
    at = data.index(b"IDAT") - 4
    (length,) = struct.unpack_from(">I", data, at)
    return data[:at] + chunk(b"IDAT", change(data[at + 8 : at + 8 + length])) + data[at + 12 + length :]


def interlaced(labels: np.ndarray) -> bytes:
    """The labels as an interlaced PNG of 8-bit grey."""
    rows = b""
    for x, y, across, down in ADAM7:
        part = labels[y::down, x::across]
        rows += b"".join(b"\0" + row.tobytes() for row in part) if part.size else b""
    head = struct.pack(">IIBBBBB", labels.shape[1], labels.shape[0], 8, 0, 0, 0, 1)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def test_interlaced_pictures_are_read() -> None:
    for shape in ((1, 1), (3, 4), (9, 2), (17, 33)):
        labels = np.arange(np.prod(shape), dtype=np.uint16).astype(np.uint8).reshape(shape)
        data = interlaced(labels)
        assert index_numbers(decode(data, "x", "mend it")).tolist() == labels.tolist()
        with pytest.raises(InputError, match="the pixels end early"):
            decode(with_pixels(data, lambda pixels: zlib.compress(zlib.decompress(pixels)[:-1])), "x", "mend it")


def test_damage_of_metadata_and_checksums_is_told() -> None:
    data = encoded(Image.fromarray(disc()[0]))
    at = data.index(b"IDAT") - 4
    profile = chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(80_000_000)))
    damages = {
        "checksum": data[: at + 30] + bytes([data[at + 30] ^ 1]) + data[at + 31 :],
        "header is missing": data[:8] + data[33:],
        "ends early": data[:-12],
        "Decompressed data too large": data[:at] + profile + data[at:],
        "incorrect data check": with_pixels(data, lambda pixels: pixels[:-4] + b"\0\0\0\0"),
        "the pixels end early": with_pixels(data, lambda pixels: zlib.compress(zlib.decompress(pixels)[:-9])),
    }
    for told, damaged in damages.items():
        with pytest.raises(InputError, match=told):
            decode(damaged, "x", "mend it")
    assert decode(data + b"appended", "x", "mend it").image.size == (64, 64)


@pytest.mark.processes
def test_no_program_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    path = tmp_path / "p.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 30\n%%EndComments\nshowpage\n%%EOF\n")
    for read in (read_image, lambda path: pair_from_file(Entry("a", 0, 0), SIZE, path, 2)):
        with pytest.raises(InputError, match="not a picture in a supported format"):
            read(path)
    assert not (tmp_path / "started").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and sockets in folders")
def test_pipes_and_sockets_are_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # since the path of a socket is short
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        assert stat.S_ISSOCK(Path("socket").stat().st_mode)
        for name in ("pipe", "socket"):
            for read in (read_image, read_ids, read_photo, lambda path: list(elements(path, "images"))):
                with pytest.raises(InputError, match="it is a pipe, socket or device, not a file"):
                    read(Path(name))


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("ü\n".encode("latin-1"), r"not a text file in UTF-8 \(byte 0xfc at position 0\)"),
        ("a\nb\n".encode("utf-16"), "not a text file in UTF-8, but UTF-16"),
        ("a\nb\n".encode("utf-16-le"), "not a text file in UTF-8, but UTF-16"),
        (b"a\x00b\n", "not a text file in UTF-8, but UTF-16 or binary"),
        ("a\u2028b\n".encode(), r"the id 'a\\u2028b' contains a character that cannot be printed"),
        ("a\u0085\n".encode(), r"the id 'a\\x85' contains a character that cannot be printed"),
        (b"a b\n", "the id 'a b' contains a space"),
    ],
)
def test_lists_in_other_encodings_are_told(data: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_bytes(data)
    with pytest.raises(InputError, match=told):
        read_ids(tmp_path / "l.txt")


def test_lists_of_any_system_are_read(tmp_path: Path) -> None:
    for data in (b"a\nb\n", b"a\r\nb\r\n", b"\xef\xbb\xbfa\rb", b"a \n\n\tb"):
        (tmp_path / "l.txt").write_bytes(data)
        assert read_ids(tmp_path / "l.txt") == ["a", "b"]


def test_lossy_masks_are_cut_at_half() -> None:
    mask = disc()[1]
    for kind in ("JPEG", "WEBP", "AVIF"):
        found, note = mask_of(encoded(Image.fromarray(255 * mask), kind, quality=80), Path("m"))
        assert (found != mask).mean() < 0.01
        assert note.startswith("a mask in a lossy format, cut at half")
    with pytest.raises(InputError, match=r"a mask in a lossy format; .* but its largest value is"):
        mask_of(encoded(Image.fromarray(mask), "JPEG"), Path("m"))
    with pytest.raises(InputError, match=r"a mask in a lossy format; .* of it is neither"):
        mask_of(encoded(Image.fromarray(np.where(mask, 255, 120).astype(np.uint8)), "JPEG"), Path("m"))
    with pytest.raises(InputError, match="m: a JPEG file, whose numbers are not exact"):
        mask_of(encoded(Image.fromarray(mask), "JPEG"), Path("m"), label=1)


def test_pil_pictures_that_are_not_decoded_yet_are_checked_like_files(tmp_path: Path) -> None:
    few = (FULL[:, :, :3] >> 4).astype(np.uint16)
    with (
        Image.open(io.BytesIO(png(few, 16, 2))) as image,
        pytest.raises(InputError, match="the largest value of its 16 bits is at most"),
    ):
        rgb_values(image, "a picture")
    path = tmp_path / "p.eps"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 30\n%%EndComments\nshowpage\n%%EOF\n")
    with Image.open(path) as image, pytest.raises(InputError, match="a picture: of the format EPS; expected one of"):
        rgb_values(image, "a picture")


def test_a_jpeg_of_very_many_scans_is_not_decoded() -> None:
    data = encoded(Image.fromarray(disc()[0]), "JPEG", progressive=True)
    assert photo_of(data, Path("x")).shape == (64, 64, 3)
    start = data.index(b"\xff\xda")
    with pytest.raises(InputError, match="x: a JPEG of 201 scans; expected at most 200"):
        photo_of(data[:start] + 201 * data[start : data.index(b"\xff", start + 2)] + b"\xff\xd9", Path("x"))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1"])
def test_annotations_in_other_encodings_are_told(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes('{"images": ["ü"]}'.encode(encoding))
    with pytest.raises(InputError, match=r"not a text file in UTF-8.*; expected COCO's annotations; save it as UTF-8"):
        list(elements(path, "images"))
