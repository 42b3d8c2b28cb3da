"""Pictures and masks as people have them."""

from __future__ import annotations

import base64
import io
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from novelseg import Segmenter
from novelseg.core.errors import InputError
from novelseg.data.classes import voc_palette
from novelseg.inference.folders import read_supports
from novelseg.inference.photos import read_mask, read_photo
from novelseg.inference.web import new_app
from tests.pictures import disc


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


def test_pil_pictures_are_read_as_files_are(bundle: Path, tmp_path: Path) -> None:
    image, mask = disc()
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path / "a.png", Image.fromarray(image), exif=exif)
    segmenter = Segmenter.load(bundle).fit([Image.fromarray(image)], [Image.fromarray(255 * mask)])
    with Image.open(path) as opened:
        first, second = segmenter.decision_function([path, opened])
    np.testing.assert_allclose(first, second, atol=1e-4)


def test_a_part_of_16_bits_is_told(tmp_path: Path) -> None:
    grey = np.arange(4096, dtype=np.uint16).reshape(64, 64)  # what a camera of twelve bits gives
    with pytest.raises(InputError, match=r"largest value of its 16 bits is 4095, .* stretch its values to 65535"):
        read_photo(saved(tmp_path / "twelve.png", Image.fromarray(grey)))
    assert read_photo(saved(tmp_path / "full.png", Image.fromarray(grey * 16))).max() == 255


def test_a_film_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "clip.mp4").open("wb") as file:
        file.truncate(5 << 30)  # a hole
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("read"))
    with pytest.raises(InputError, match=r"is 5369 MB long; expected at most 360"):
        read_photo(tmp_path / "clip.mp4")


def test_a_label_is_looked_for_or_not_spoken_of(tmp_path: Path) -> None:
    mask = disc()[1]
    one_bit = saved(tmp_path / "1.png", Image.fromarray(mask > 0))
    np.testing.assert_array_equal(read_mask(one_bit, label=1), mask)
    colours = saved(tmp_path / "rgb.png", Image.fromarray(np.stack([90 * mask, 60 * mask, 0 * mask + 9], 2)))
    np.testing.assert_array_equal(read_mask(colours), mask)
    with pytest.raises(InputError, match=r"the mask has colours; expected one number per pixel$"):
        read_mask(colours, label=5)


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
    np.testing.assert_array_equal(read_mask(saved(tmp_path / "c.png", coloured)), mask)
    np.testing.assert_array_equal(read_mask(saved(tmp_path / "1.png", Image.fromarray(mask > 0))), mask)
    np.testing.assert_array_equal(
        read_mask(saved(tmp_path / "i.png", Image.fromarray(mask.astype(np.uint16) * 900))), mask
    )
    three = np.repeat(255 * mask[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(read_mask(saved(tmp_path / "rgb.png", Image.fromarray(three))), mask)
    several = 5 * mask
    several[0], several[1] = 255, 2
    path = saved(tmp_path / "several.png", Image.fromarray(several))
    with pytest.raises(InputError, match=r"holds 4 values \(0, 2, 5, 255\); expected 0 and one other"):
        read_mask(path)
    expected = mask.copy()
    expected[0] = 255
    np.testing.assert_array_equal(read_mask(path, label=5), expected)


def files_of(mask: Any) -> dict[str, tuple[bytes, str]]:
    """A mask in the ways in which people save it, and a part of the note about each."""

    def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        return buffer.getvalue()

    def coloured(background: tuple[int, int, int]) -> Image.Image:
        return Image.fromarray(np.where(mask[..., None] == 1, (200, 30, 40), background).astype(np.uint8))

    def smoothed(image: Image.Image) -> Image.Image:
        return image.resize((160, 64), Image.Resampling.BILINEAR).resize((64, 64), Image.Resampling.BILINEAR)

    grey = Image.fromarray(255 * mask)
    with Image.open(io.BytesIO(encoded(grey, "JPEG", quality=70))) as image:
        noisy = image.copy()
    return {
        "smoothed": (encoded(smoothed(grey)), "smoothed edges, cut at half"),
        "jpeg": (encoded(grey, "JPEG"), "lossy format, cut at half"),
        "jpeg as png": (encoded(noisy), "smoothed edges, cut at half"),
        "red on black": (encoded(coloured((0, 0, 0))), ""),
        "red on black, jpeg": (encoded(coloured((0, 0, 0)), "JPEG", quality=80), "lossy format"),
        "red on white": (encoded(coloured((255, 255, 255))), "the object is #c81e28, the background #ffffff"),
        "red on white, smoothed": (encoded(smoothed(coloured((255, 255, 255)))), "smoothed edges, cut at half"),
    }


@pytest.mark.parametrize("kind", files_of(disc()[1]))
def test_command_page_and_python_read_a_mask_alike(bundle: Path, tmp_path: Path, kind: str, capfd: Any) -> None:
    image, mask = disc()
    data, note = files_of(mask)[kind]
    path = tmp_path / "s/masks/0.png"
    for folder in ("s/images", "s/masks"):
        (tmp_path / folder).mkdir(parents=True)
    path.write_bytes(data)
    saved(tmp_path / "s/images/0.png", Image.fromarray(image))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        in_python = read_mask(path)
    assert (in_python != mask).mean() < 0.01
    (of_command,) = read_supports(tmp_path / "s", 0, 64, [])
    np.testing.assert_array_equal(of_command.mask, in_python)
    page = new_app(Segmenter.load(bundle), "127.0.0.1").test_client()
    answer: Any = page.post(
        "/mask", data={"mask": (io.BytesIO(data), "0.png")}, content_type="multipart/form-data"
    ).json
    labels = np.frombuffer(zlib.decompress(base64.b64decode(answer["labels"])), np.uint8)
    np.testing.assert_array_equal(labels.reshape(answer["height"], answer["width"]), in_python)
    assert [str(warning.message) for warning in caught] == ([f"{path}: {answer['note']}"] if note else [])
    assert note in answer["note"]
    assert answer["note"] in capfd.readouterr().err


def test_what_needs_a_label_names_what_it_has(tmp_path: Path) -> None:
    values = 15 * disc()[1]
    values[:5, :5], values[60:, 60:] = 12, 255
    picture = Image.fromarray(values)
    picture.putpalette(voc_palette())
    with pytest.raises(InputError, match=r"has the numbers 0, 12 \(dog\), 15 \(person\), 255; .* --label"):
        read_mask(saved(tmp_path / "voc.png", picture))
    three = np.zeros((64, 64, 3), np.uint8)
    three[:20], three[40:] = (200, 0, 0), (0, 0, 200)
    with pytest.raises(InputError, match="the mask has colours; expected two, of background and object"):
        read_mask(saved(tmp_path / "three.png", Image.fromarray(three)))
    grey = np.where(values == 15, 255, 0).astype(np.uint8)
    grey[:12, :12] = 40
    with pytest.raises(InputError, match=r"holds 3 values \(0, 40, 255\); .* lies inside regions of further values"):
        read_mask(saved(tmp_path / "grey.png", Image.fromarray(grey)))


def test_avif_is_read_and_heic_needs_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = disc()[0]
    found = read_photo(saved(tmp_path / "a.avif", Image.fromarray(image), quality=95))
    assert np.abs(found.astype(int) - image).mean() < 20  # colours of noise are lost
    whole = (tmp_path / "a.avif").read_bytes()
    (tmp_path / "cut.avif").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut\.avif: (does not decode|not a picture)"):
        read_photo(tmp_path / "cut.avif")
    (tmp_path / "a.heic").write_bytes(whole[:8] + b"heic" + whole[12:])
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(InputError, match=r"a\.heic: a HEIC picture, whose decoder needs pillow_heif; run `pip install"):
        read_photo(tmp_path / "a.heic")


def test_heic_is_read_with_its_package(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    image = disc()[0]
    pillow_heif.from_pillow(Image.fromarray(image)).save(tmp_path / "a.heic", quality=95)
    assert np.abs(read_photo(tmp_path / "a.heic").astype(int) - image).mean() < 20


def test_the_limit_of_pixels_is_told_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("novelseg.data.pictures.MOST_PIXELS", 4000)
    path = saved(tmp_path / "p.png", Image.fromarray(disc()[0]))
    with pytest.raises(InputError, match="has 64×64 px; expected at most"):
        read_photo(path)
