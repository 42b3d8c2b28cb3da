"""Downloads that resume after an interruption and are verified by checksum before use."""

from __future__ import annotations

import errno
import hashlib
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import requests
import urllib3

from novelseg.core.errors import InputError
from novelseg.core.files import DISK_FULL
from novelseg.core.progress import MB, say, track_bytes

CHUNK = 1 << 20
PIECE = 1 << 16  # bytes per read from the network; small, because a reset connection loses an unfinished piece
TRIES = 5  # consecutive attempts without progress before giving up
PAUSE_S = 1.0  # before the second attempt; doubles with each further one
TIMEOUT_S = (20, 60)  # to connect, and between two pieces
WHOLE, PARTIAL, OUT_OF_RANGE = 200, 206, 416
RETRY_STATUS = {408, 429, 500, 502, 503, 504}  # temporary errors of a server
CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)$", re.IGNORECASE)


class _IncompleteError(Exception):
    """Incomplete download, caused by a lost connection or a busy server; the received bytes are kept."""


# Errors after which the download is tried again.
TEMPORARY_ERRORS = (
    *(_IncompleteError, requests.ConnectionError, requests.Timeout),
    *(urllib3.exceptions.ProtocolError, urllib3.exceptions.TimeoutError),
)


def wrong_digest(path: Path, check: str) -> str | None:
    """Return the digest of a file if it differs from the expected one, else None.

    Parameters
    ----------
    path
        File to check.
    check
        Expected digest, ``md5:…`` or ``sha256:…``; may be only its first digits, or empty if none is known.
    """
    if not check:
        return None
    kind, _, expected = check.partition(":")
    digest = hashlib.new(kind)
    with path.open("rb") as file:
        pieces = iter(lambda: file.read(CHUNK), b"")
        for piece in track_bytes(pieces, path.stat().st_size, f"checking {path.name}"):
            digest.update(piece)
    return None if digest.hexdigest().startswith(expected) else f"{kind}:{digest.hexdigest()}"


def download(url: str, target: Path, check: str) -> None:
    """Download a file, or resume its download, and verify its checksum.

    The target is written only if it is complete and correct. Until then, the received bytes are kept in
    ``TARGET.part``. The caller ensures that no other process downloads to the same target.

    Parameters
    ----------
    url
        Address of the file.
    target
        File to write.
    check
        Expected digest, ``md5:…`` or ``sha256:…``; may be only its first digits, or empty if none is known.

    Raises
    ------
    InputError
        If the server cannot be reached, refuses the request, or sends a file with another checksum; if the disk is
        full.
    """
    part = target.with_name(f"{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    with _disk_full_as_input_error(part), part.open("ab") as file:
        resumed = file.tell() > 0
        _complete(url, file, part, restart=False)
        digest = wrong_digest(part, check)
        if digest and resumed:
            say(f"{part.name}: wrong checksum after resuming an earlier download; downloading from the beginning")
            _complete(url, file, part, restart=True)
            digest = wrong_digest(part, check)
        if digest:
            part.unlink()
            raise InputError(
                f"{url}: the server sent a file with a wrong checksum ({digest}, expected {check}), which was deleted; "
                "try again later, or download the file elsewhere and give its folder as --archives"
            )
        part.replace(target)


def _complete(url: str, file: IO[bytes], part: Path, *, restart: bool) -> None:
    """Download the missing bytes, with new attempts while they make progress; ``restart`` replaces all bytes."""
    tries, largest = 0, 0 if restart else file.seek(0, 2)
    while True:
        before = file.seek(0, 2)
        try:
            _append(url, file, part, restart=restart)
            return
        except requests.exceptions.SSLError:
            raise _download_error(url, "the server's certificate is not accepted") from None
        except TEMPORARY_ERRORS as error:
            size = file.seek(0, 2)
            restart = restart and size == before  # no byte of the new file has been received
            tries = 0 if size > largest and not restart else tries + 1
            largest = max(size, largest)
            if tries == TRIES:
                raise InputError(
                    f"{urlsplit(url).netloc} cannot be reached ({_reason(error)}); check the connection and run the "
                    f"same command again, which resumes after {size / MB:.1f} MB, or download {url} elsewhere and give "
                    "its folder as --archives"
                ) from None
            say(f"{_final(part)}: {_reason(error)} after {size / MB:.1f} MB; trying again")
            time.sleep(PAUSE_S * 2**tries)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise _download_error(url, str(error)) from None
        except OSError as error:
            if error.errno is None:  # raised by requests if its certificate file is missing
                raise _download_error(url, str(error)) from None
            raise


def _final(part: Path) -> str:
    """Return the name of the complete file."""
    return part.name.removesuffix(".part")


def _download_error(url: str, why: str) -> InputError:
    """Return the error of a download that cannot succeed, with the advice to get the file elsewhere."""
    return InputError(f"{url}: {why}; download the file elsewhere and give its folder as --archives")


def _reason(error: Exception) -> str:
    """Return why an attempt failed, in a few words; the libraries wrap the original error several times."""
    if isinstance(error, _IncompleteError):
        return str(error)
    if isinstance(error, (requests.Timeout, urllib3.exceptions.TimeoutError)):
        return "no answer in time"
    match = re.search(r"\[Errno -?\d+\] ([\w ]+)", str(error))
    return match[1] if match else "the connection ended early"


def _append(url: str, file: IO[bytes], part: Path, *, restart: bool) -> None:
    """Request the missing bytes once and append them; ``restart`` requests the whole file and replaces all bytes."""
    start = 0 if restart else file.seek(0, 2)
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as reply:
        if reply.status_code == OUT_OF_RANGE and start:
            return  # the server has no further bytes; the caller checks the digest
        if reply.status_code in RETRY_STATUS:
            raise _IncompleteError(f"the server answers {reply.status_code} {reply.reason}")
        if reply.status_code not in (WHOLE, PARTIAL):
            raise _download_error(url, f"the server answers {reply.status_code} {reply.reason}")
        if reply.headers.get("Content-Type", "").lower().startswith("text/html"):
            raise InputError(
                f"{url}: the server sent a web page instead of the file; this may be a network's login page: log in "
                f"and run the same command again, which resumes after {start / MB:.1f} MB"
            )
        length_text = reply.headers.get("Content-Length", "")
        length = int(length_text) if length_text.isdigit() else None
        if reply.status_code == PARTIAL:
            total = _total(reply.headers.get("Content-Range", ""), start, length, part)
        elif start and start == length:
            return  # the part is as long as the file; the caller checks the digest
        else:
            total = length
            _truncate(file, part, start, length)
            start = 0
        _require_space(part, total, start)
        # Bytes are not decoded: a server may declare a .tgz as a gzip-encoded .tar.
        for piece in track_bytes(reply.raw.stream(PIECE, decode_content=False), total, _final(part), start):
            file.write(piece)
        file.flush()
        if total is not None and file.tell() < total:
            raise _IncompleteError("the connection ended early")


def _total(content_range: str, start: int, length: int | None, part: Path) -> int | None:
    """Return the size of the whole file from the header ``Content-Range``, or None if the server does not send it.

    Raises
    ------
    InputError
        If the range does not begin at ``start``.
    """
    match = CONTENT_RANGE.match(content_range)
    if match is None or int(match[1]) != start:
        raise InputError(
            f"{part}: the server sent the range '{content_range}'; expected the bytes from {start}; try again later, "
            "or delete the file to download from the beginning"
        )
    if match[2] != "*":
        return int(match[2])
    return None if length is None else start + length


def _truncate(file: IO[bytes], part: Path, start: int, length: int | None) -> None:
    """Empty the partial file, because the server sends the whole file again.

    Raises
    ------
    InputError
        If the partial file is larger than the server's file, or the size of that is unknown.
    """
    if start and (length is None or length < start):
        size = "of unknown size" if length is None else f"of {length / MB:.1f} MB"
        raise InputError(
            f"{part}: is {start / MB:.1f} MB long, but the server cannot resume and sends a file {size}; delete the "
            "partial file to download from the beginning"
        )
    if start:
        say(f"{_final(part)}: the server cannot resume; downloading from the beginning")
    file.truncate(0)
    file.seek(0)


def _require_space(part: Path, total: int | None, start: int) -> None:
    """Raise an :class:`InputError` if the rest of the file does not fit on the disk."""
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - start > free:
        raise InputError(
            f"{part.parent}: {_final(part)} needs {(total - start) / MB:.0f} MB more, but {free / MB:.0f} MB are free; "
            "make room and run the same command again"
        )


@contextmanager
def _disk_full_as_input_error(part: Path) -> Iterator[None]:
    """Raise an :class:`InputError` if the disk is full or the quota is used up; the partial file is kept."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) or any(text in str(error) for text in DISK_FULL):
            raise InputError(
                f"{part}: no space left on device; make room and run the same command again, which resumes the download"
            ) from None
        raise
