"""Pictures and masks as people have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from novelseg import Segmenter
from novelseg.core.errors import InputError
from novelseg.inference.photos import read_mask, read_photo
from tests.makers import disc


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
    with pytest.raises(InputError, match=r"has 5369 MB; expected at most 360"):
        read_photo(tmp_path / "clip.mp4")


def test_a_label_is_looked_for_or_not_spoken_of(tmp_path: Path) -> None:
    mask = disc()[1]
    one_bit = saved(tmp_path / "1.png", Image.fromarray(mask > 0))
    np.testing.assert_array_equal(read_mask(one_bit, label=1), mask)
    colours = saved(tmp_path / "rgb.png", Image.fromarray(np.stack([90 * mask, 60 * mask, 0 * mask + 9], 2)))
    for label in (0, 5):
        with pytest.raises(InputError, match=r"the mask has colours; expected black and one other$"):
            read_mask(colours, label)


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
    with pytest.raises(InputError, match="the mask has colours; expected black and one other"):
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
    with pytest.raises(InputError, match=r"holds 4 values \(0, 2, 5, 255\); expected 0 and one other"):
        read_mask(path)
    expected = mask.copy()
    expected[0] = 255
    np.testing.assert_array_equal(read_mask(path, label=5), expected)


def test_the_limit_of_pixels_is_told_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("novelseg.data.pictures.MOST_PIXELS", 4000)
    path = saved(tmp_path / "p.png", Image.fromarray(disc()[0]))
    with pytest.raises(InputError, match="has 64×64 px; expected at most"):
        read_photo(path)
