"""The decoder of picture and mask files, which every reader of a data set, `segment` and the page share.

Format, bit depth and number of pixels are taken from the file itself before it is decoded, since Pillow's mode hides
them: it reduces 16-bit colours to 8 bits, and multiplies grey of 1, 2 and 4 bits.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from novelseg.core.errors import InputError
from novelseg.core.extras import needs_extras
from novelseg.core.labels import VOID
from novelseg.data.classes import VOC_COLOURS
from novelseg.data.encoded import FORMATS
from novelseg.data.rawfiles import MOST_BYTES

MOST_PIXELS = 90_000_000  # per picture; its mask and logits need memory too
# Endings of pictures; those of formats that are not read are here too, so that such a file is refused, not skipped.
ENDINGS = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".dib"),
        *(".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".heic", ".heif", ".hif", ".jp2", ".jxl", ".psd", ".svg", ".tga"),
        *(".dng", ".arw", ".cr2", ".cr3", ".nef", ".orf", ".raf", ".rw2", ".exr", ".hdr", ".ico"),
    }
)
SIGNATURE_BYTES = 12
SIGNATURES = (
    *(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"BM"),
    *(b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"),
)
AVIF, HEIF = "AVIF", "HEIF"
BRANDS = {b"avif": AVIF, b"avis": AVIF} | dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"), HEIF)
LOSSLESS_TIFF = (1, 2, 3, 4, 5, 8, 32773, 32946, 34925, 50000)  # values of the tag Compression
COMPRESSION, BITS, PHOTOMETRIC, WHITE_IS_ZERO = 259, 258, 262, 0  # tags of TIFF, and a value
ORIENTATION = 0x0112  # tag of EXIF
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
WIDE = ("I;16", "I;16L", "I;16B", "I;16N")  # Pillow's modes with 16 bits
KINDS = {"1": "grey", "L": "grey", "LA": "grey with alpha", "P": "palette", "I": "integer", "F": "floating-point"}
KINDS |= dict.fromkeys(WIDE, "grey") | {"RGBA": "RGB with alpha", "PA": "palette with alpha"}
# What the decoders raise for damaged files and metadata.
DAMAGED = (
    *(OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, RuntimeError, ArithmeticError),
    *(AttributeError, AssertionError, UnboundLocalError, struct.error, zlib.error, Image.DecompressionBombError),
)
BLACK = (0, 0, 0)
LEAST_WIDE = 1 << 14  # a picture of 16 bits whose values are all smaller was recorded with fewer bits
INDEXED, PNG_CHANNELS = 3, {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # colour type of a palette; channels of each colour type
ADAM7 = (  # first column and row, and steps, of the parts of an interlaced PNG
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)
BLOCK = 1 << 20  # bytes
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
CORRUPT = re.compile("corrupt EXIF|Truncated File Read", re.IGNORECASE)  # warnings of Pillow
BAD_ANIMATION = "Invalid APNG"  # likewise
NETPBM = re.compile(rb"P([1-6])" + 3 * rb"(?:\s+|#[^\n]*\n)+(\d+)")  # width, height, largest value
JPEG_SEGMENT = re.compile(rb"\xff+([\xc0-\xfe])(..)", re.DOTALL)
JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers of frame headers, which hold the precision
SCANS, MOST_SCANS = 0xDA, 200  # marker of a scan; progressive JPEGs have about ten


@dataclass(frozen=True)
class Picture:
    """A decoded file.

    Attributes
    ----------
    name
        Its name, for messages.
    image
        The pixels as stored, in Pillow's mode; not turned.
    format
        Pillow's name of the format.
    depth
        Bits per channel in the file.
    orientation
        Orientation tag of EXIF, 1…8; 1 is upright.
    exact
        Whether the format keeps numbers exactly.
    lossy
        Whether the format changes values a little.
    remedy
        What to do about a file that cannot be used, for messages.
    """

    name: str
    image: Image.Image
    format: str
    depth: int
    orientation: int
    exact: bool
    lossy: bool
    remedy: str

    @property
    def kind(self) -> str:
        """Bit depth and channels in words, such as ``16-bit RGB with alpha``."""
        wide_grey = self.format == "PNG" and self.depth > 8 and self.image.mode == "RGBA" and _is_grey(self.image)
        name = KINDS["LA"] if wide_grey else KINDS.get(self.image.mode, self.image.mode)
        return f"{self.depth}-bit {name}"

    @property
    def is_transparent(self) -> bool:
        """Whether the picture has an alpha channel, or a pixel that a palette or a colour key makes transparent."""
        if self.image.mode in ("LA", "PA", "RGBA", "RGBa", "La"):
            return True
        with damage_as_input_error(self.name, self.remedy):
            if not self.image.has_transparency_data:
                return False
            return int(np.asarray(self.image.convert("RGBA").getchannel("A")).min()) < 255

    def upright(self) -> Image.Image:
        """Return the pixels turned by the orientation tag."""
        turn = TURNS.get(self.orientation)
        return self.image if turn is None else self.image.transpose(turn)


def _formats(data: bytes, name: str) -> tuple[str, ...]:
    """Return Pillow's names of the formats in which a file may be; HEIF needs an optional package."""
    if _brand(data[:SIGNATURE_BYTES]) != HEIF:
        return FORMATS
    with needs_extras(f"{name}: a HEIC picture, whose decoder"):
        from pillow_heif import register_heif_opener
    register_heif_opener()
    return (HEIF,)


def has_picture_signature(head: bytes) -> bool:
    """Return whether a file that starts with these twelve bytes may be a picture in a supported format."""
    return head.startswith(SIGNATURES) or (head[:4] == b"RIFF" and head[8:] == b"WEBP") or bool(_brand(head))


def _brand(head: bytes) -> str:
    """Return the format of a file in the container of AVIF and HEIF; empty for other files."""
    return BRANDS.get(head[8:12], "") if head[4:8] == b"ftyp" else ""


def _is_grey(image: Image.Image) -> bool:
    values = np.asarray(image)
    return bool((values[..., 0] == values[..., 1]).all() and (values[..., 0] == values[..., 2]).all())


@contextmanager
def damage_as_input_error(name: str, remedy: str) -> Iterator[None]:
    """Raise one :class:`InputError` for everything that Pillow raises for damaged content."""
    try:
        yield
    except UnidentifiedImageError:
        kinds = ", ".join(FORMATS)
        raise InputError(f"{name}: not a picture in a supported format ({kinds}); {remedy}") from None
    except Image.DecompressionBombError:
        raise InputError(f"{name}: its header gives a size too large to be a picture; {remedy}") from None
    except MemoryError:
        raise InputError(f"{name}: does not decode (it needs more memory than there is); {remedy}") from None
    except DAMAGED as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{name}: does not decode ({reason}); {remedy}") from None


def decode(data: bytes, name: str, remedy: str, most_pixels: int | None = None) -> Picture:
    """Decode a whole file, which is checked first.

    Parameters
    ----------
    data
        Bytes of the file.
    name
        Its name, for messages.
    remedy
        What to do about a file that cannot be used, for messages.
    most_pixels
        Largest number of pixels that are decoded; ``MOST_PIXELS`` if None.

    Raises
    ------
    InputError
        If the file is empty, of another format, damaged anywhere, too large, or holds several pictures.
    """
    if not data:
        raise InputError(f"{name}: does not decode (the file is empty); {remedy}")
    with damage_as_input_error(name, remedy), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if data.startswith(PNG_SIGNATURE):
            _check_png(data)
        if data.startswith(b"\xff\xd8"):
            _check_jpeg(data, name)
        image = Image.open(io.BytesIO(data), formats=_formats(data, name))
        _check_pixels(image, name, most_pixels or MOST_PIXELS)
        if image.format == "PNG":
            _check_png_pixels(data)
        # The first picture in a phone's MPO file is the photograph; the others are derived from it.
        if getattr(image, "is_animated", False) and image.format != "MPO":
            raise InputError(f"{name}: holds several pictures; save the right one as a file of its own")
        depth, exact = _depth(image, data), _is_exact(image)
        image.load()
        orientation = orientation_of(image, name)
    if any(CORRUPT.search(str(warning.message)) for warning in caught):
        raise InputError(f"{name}: has a damaged EXIF block; save it without one")
    if any(BAD_ANIMATION in str(warning.message) for warning in caught):
        raise InputError(f"{name}: is marked as animated, but is not; save it again as a plain PNG")
    return Picture(name, image, str(image.format), depth, orientation, exact, is_lossy(data), remedy)


def _check_pixels(image: Image.Image, name: str, most: int) -> None:
    if image.width * image.height > most:
        raise InputError(
            f"{name}: has {image.width}×{image.height} px; expected at most {most / 1e6:g} million px; make it smaller"
        )


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yield the name and the content of each chunk, to the last; each is checked first."""
    view, at = memoryview(data), len(PNG_SIGNATURE)
    while True:
        if at + 12 > len(data):
            raise ValueError("the file ends early")
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise ValueError("the file ends early")
        if at == len(PNG_SIGNATURE) and (kind, length) != (b"IHDR", 13):
            raise ValueError("the header is missing")
        if zlib.crc32(view[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise ValueError(f"the checksum of its chunk {kind.decode('ascii', 'replace')!a} is wrong")
        yield kind, view[at + 8 : end - 4]
        if kind == b"IEND":
            return
        at = end


def _check_png(data: bytes) -> None:
    """Check structure and checksums of a PNG; Pillow reads the pixels without those of their chunks."""
    palette = False
    for kind, _ in _png_chunks(data):
        palette = palette or kind == b"PLTE"
        if kind == b"IDAT" and data[25] == INDEXED and not palette:
            raise ValueError("the palette is missing")


def _check_png_pixels(data: bytes) -> None:
    """Check length and checksum of the compressed pixels of a PNG, which Pillow does not; a block at a time."""
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    bits = depth * PNG_CHANNELS[colour]
    grids = ADAM7 if interlaced else ((0, 0, 1, 1),)
    sizes = ((len(range(x, width, across)), len(range(y, height, down))) for x, y, across, down in grids)
    left = sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in sizes if columns)
    row = 1 + (width * bits + 7) // 8
    stream = zlib.decompressobj()
    for kind, content in _png_chunks(data):
        rest = bytes(content) if kind == b"IDAT" else b""
        while rest and left > -row:  # less than a row after the pixels is ignored, as by viewers
            left -= len(stream.decompress(rest, BLOCK))
            rest = stream.unconsumed_tail
    if left > 0 or (left == 0 and not stream.eof):
        raise ValueError("the pixels end early")
    if left <= -row:
        raise ValueError("it holds more pixels than its header says")


def _check_jpeg(data: bytes, name: str) -> None:
    """Refuse what Pillow would call no picture, and a picture that would be decoded for hours."""
    bits = _jpeg_precision(data)
    if bits != 8:
        raise InputError(f"{name}: a JPEG of {bits} bits per channel; save it with 8 bits")
    scans = data.count(b"\xff\xda")  # each costs a pass over all pixels
    if scans > MOST_SCANS:
        raise InputError(f"{name}: a JPEG of {scans} scans; expected at most {MOST_SCANS}; save it again")


def _jpeg_precision(data: bytes) -> int:
    """Return the bits per channel in the first frame header; 8 if there is none."""
    at = 2
    while match := JPEG_SEGMENT.match(data, at):
        marker = match[1][0]
        if marker in JPEG_FRAMES:
            return data[match.end()] if match.end() < len(data) else 8
        if marker == SCANS:
            break
        at = match.start(2) + int.from_bytes(match[2], "big")
    return 8


def _depth(image: Image.Image, data: bytes) -> int:
    """Return the bits per channel in an opened file."""
    if image.format == "PNG":
        return data[24]  # of the header, which is the first chunk
    if image.format == "TIFF":
        bits = _tags(image).get(BITS, (1,))
        return int(max(bits)) if isinstance(bits, tuple) else int(bits)
    if image.format == "PPM":
        head = NETPBM.match(data)
        if head and head[1] not in b"14":
            return int(head[4]).bit_length()
        return 32 if image.mode == "F" else 1 if head else 8
    return 8


def _tags(image: Image.Image) -> Any:
    """Return the tags of an opened TIFF file, by number."""
    return getattr(image, "tag_v2", {})


def _is_exact(image: Image.Image) -> bool:
    """Return whether the format of an opened file keeps numbers exactly."""
    if image.format == "TIFF":
        tags = _tags(image)
        return tags.get(COMPRESSION, 1) in LOSSLESS_TIFF and tags.get(PHOTOMETRIC, 1) != WHITE_IS_ZERO
    return image.format in ("PNG", "BMP")


def is_lossy(data: bytes) -> bool:
    """Return whether a file is a JPEG, AVIF, HEIF or lossy WebP, in which the values of a mask are not exact."""
    if data.startswith(b"\xff\xd8") or _brand(data[:SIGNATURE_BYTES]):
        return True
    is_webp = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    return is_webp and (data[12:16] == b"VP8 " or (data[12:16] == b"VP8X" and b"VP8 " in data))


def orientation_of(image: Image.Image, name: str) -> int:
    """Return the orientation tag of a loaded image, 1…8; other values count as 1, as in viewers.

    Raises
    ------
    InputError
        If the EXIF block is damaged.
    """
    try:
        value = image.getexif().get(ORIENTATION, 1)
        if not isinstance(value, int):
            raise ValueError(f"its orientation is {value!r:.40}")
    except (*DAMAGED, MemoryError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{name}: has a damaged EXIF block ({reason}); save it without one") from None
    return value if value in TURNS else 1


def wrap(image: Image.Image, name: str, remedy: str) -> Picture:
    """Take an image that somebody else has opened; a file that is not loaded yet is read and checked like others.

    Raises
    ------
    InputError
        If the image cannot be used.
    """
    with damage_as_input_error(name, remedy):
        if isinstance(image, ImageFile.ImageFile) and image.format is not None:
            if image.format not in (*FORMATS, "MPO", HEIF):
                raise InputError(f"{name}: of the format {image.format}; expected one of {', '.join(FORMATS)}")
            data = _unread_bytes(image)
            if data:
                return decode(data, name, remedy)
        _check_pixels(image, name, MOST_PIXELS)
        image.load()
        orientation = orientation_of(image, name)
    depth = 16 if image.mode in WIDE else 32 if image.mode in ("I", "F") else 1 if image.mode == "1" else 8
    exact = image.format in (None, "PNG", "BMP", "TIFF")
    lossy = image.format in ("JPEG", "MPO", AVIF, HEIF)
    return Picture(name, image, image.format or "", depth, orientation, exact, lossy, remedy)


def _unread_bytes(image: ImageFile.ImageFile) -> bytes:
    """Return the bytes of a file that Pillow has opened but not decoded; empty for others."""
    stream = getattr(image, "fp", None)
    if stream is None or not image.tile or image.tell():
        return b""
    data = b""
    with suppress(OSError, ValueError, AttributeError):  # a stream without a way back is left to Pillow
        position = stream.tell()
        stream.seek(0)
        data = bytes(stream.read(MOST_BYTES))
        stream.seek(position)
    return data


def rgb(picture: Picture) -> NDArray[np.uint8]:
    """Return a picture as viewers show it: upright, transparency on white, 8 bits, (H, W, 3) RGB.

    Raises
    ------
    InputError
        If it has 32 bits per channel, or uses only a part of 16 bits.
    """
    name, image = picture.name, picture.upright()
    if image.mode == "F" or (image.mode == "I" and picture.depth > 16):
        raise InputError(f"{name}: has 32 bits per pixel, of unknown value range; save it with 8 or 16 bits")
    with damage_as_input_error(name, picture.remedy):
        if image.mode in (*WIDE, "I"):
            values = np.asarray(image)
            _check_range(picture, int(values.max()), "")
            return np.repeat((values >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
        if picture.depth > 8 and image.mode not in ("RGB", "RGBA"):
            raise InputError(f"{name}: is {picture.kind}; save it with 8 bits")
        if picture.depth > 8:  # of which Pillow keeps the upper eight
            _check_range(picture, (int(np.asarray(image)[..., :3].max()) << 8) + 255, "at most ")
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return np.array(image.convert("RGB"))


def _check_range(picture: Picture, largest: int, bound: str) -> None:
    """Refuse values of a camera with fewer bits; where the file states the largest value, they are stretched by it."""
    if largest < LEAST_WIDE and (picture.format != "PPM" or picture.depth == 16):
        raise InputError(
            f"{picture.name}: the largest value of its 16 bits is {bound}{largest}, as from a camera with 10 to 14 "
            "bits; stretch its values to 65535, or save it with 8 bits"
        )


def index_numbers(picture: Picture) -> NDArray[Any]:
    """Return the number that each pixel of an index mask has in its file, upright, (H, W).

    Grey gives the stored value, whatever the bit depth, and a palette the index.

    Raises
    ------
    InputError
        If the format is not exact, or the file has colours or transparency.
    """
    name, image = picture.name, picture.upright()
    if not picture.exact:
        raise InputError(
            f"{name}: a {picture.format} file, whose numbers are not exact; save the mask again from its source, as a "
            "palette or grey PNG"
        )
    if image.mode not in ("1", "L", "P", *WIDE):
        raise InputError(
            f"{name}: the mask is {picture.kind}; expected one number per pixel (palette or grey); save it as an index "
            "mask"
        )
    numbers: NDArray[Any] = np.array(image, np.uint8 if image.mode == "1" else None)
    if image.mode == "L" and picture.depth in (2, 4):  # Pillow stretches them to 0…255
        numbers //= 255 // ((1 << picture.depth) - 1)
    return numbers


def check_palette(picture: Picture, *, has_background: bool) -> None:
    """Check that the numbers of an index mask agree with its colours, as far as their meaning is known.

    Image programs sort a palette, or leave out colours without pixels, and give all others new numbers. The colours of
    VOC's colour map tell their numbers; in other colours, black tells the background.

    Parameters
    ----------
    picture
        The mask.
    has_background
        Whether the number 0 is the background.

    Raises
    ------
    InputError
        If the palette has been reordered.
    """
    if picture.image.mode != "P":
        return
    used = np.flatnonzero(np.bincount(np.asarray(picture.image).reshape(-1), minlength=256))
    palette = picture.image.getpalette("RGB") or []
    colours = {int(index): tuple(palette[3 * index : 3 * index + 3]) for index in used}
    if all(colour == (index, index, index) for index, colour in colours.items()):  # a ramp of grey
        return
    numbers = {index: VOC_COLOURS.get(colour) for index, colour in colours.items()}
    wrong = [(index, number) for index, number in numbers.items() if number != index]
    if wrong and None not in numbers.values():
        index, number = wrong[0]
        raise InputError(
            f"{picture.name}: the number {index} has the colour of number {number} in VOC's colour map, so an image "
            "program has reordered the palette; save the mask again from its source, or as grey with one number per "
            "pixel"
        )
    black = [index for index, colour in colours.items() if colour == BLACK and 0 < index < VOID]
    if has_background and black and colours.get(0, BLACK) != BLACK:
        raise InputError(
            f"{picture.name}: the number {black[0]} is black, as the background is, and the number 0 has the colour "
            f"{colours[0]}, so an image program may have reordered the palette; save the mask again from its source, "
            "or as grey with one number per pixel"
        )
