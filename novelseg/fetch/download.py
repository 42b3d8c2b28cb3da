"""Files from the network: gone on with after an interruption, checked before anybody sees them."""

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
from novelseg.core.progress import MB, say, track_bytes
from novelseg.core.writing import DISK_FULL

CHUNK = 1 << 20
PIECE = 1 << 16  # from the network; a connection that is reset loses what is in memory
TRIES = 5  # in a row that bring nothing further than any before
PAUSE_S = 1.0  # doubles with each try
TIMEOUT_S = (20, 60)  # to connect; between two pieces
WHOLE, PARTIAL, OUT_OF_RANGE = 200, 206, 416
PASSING = {408, 429, 500, 502, 503, 504}  # answers after which it is worth to try again
CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)$", re.IGNORECASE)


class _CutError(Exception):
    """The connection ended early; what has come is kept."""


# What a network does for a while.
FLEETING = (
    *(_CutError, requests.ConnectionError, requests.Timeout),
    *(urllib3.exceptions.ProtocolError, urllib3.exceptions.TimeoutError),
)


def digest_fits(path: Path, check: str) -> str | None:
    """Compare a file with ``md5:…`` or ``sha256:…``, whole or its beginning; None if it fits, else what was found."""
    kind, _, wanted = check.partition(":")
    found = hashlib.new(kind)
    with path.open("rb") as file:
        pieces = iter(lambda: file.read(CHUNK), b"")
        for piece in track_bytes(pieces, path.stat().st_size, f"checking {path.name}"):
            found.update(piece)
    return None if found.hexdigest().startswith(wanted) else f"{kind}:{found.hexdigest()}"


def download(url: str, target: Path, check: str) -> None:
    """Bring a file here whole and checked, or not at all; what has come of it stays in ``TARGET.part``.

    The caller sees to it that no other process does the same.

    Parameters
    ----------
    url
        Its address.
    target
        Where it is put.
    check
        ``md5:…`` or ``sha256:…`` that it must have, or the beginning of one.

    Raises
    ------
    InputError
        If the server cannot be reached, refuses, or sends other bytes; if the disk is full.
    """
    part = target.with_name(f"{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    with _disk_full_as_input_error(part), part.open("ab") as file:
        resumed = file.tell() > 0
        _fill(url, file, part, anew=False)
        found = digest_fits(part, check)
        if found and resumed:
            say(f"{part.name}: the whole has other bytes than it should; what an earlier run had brought is given up")
            _fill(url, file, part, anew=True)
            found = digest_fits(part, check)
        if found:
            part.unlink()
            raise InputError(
                f"{url}: the server sent other bytes ({found}, expected {check}); nothing was kept; try again later, "
                "or get the file elsewhere and give its folder as --archives"
            )
        part.replace(target)


def _fill(url: str, file: IO[bytes], part: Path, *, anew: bool) -> None:
    """Append what is missing, trying again as long as it gets further; ``anew`` replaces what is here."""
    tries, furthest = 0, 0 if anew else file.seek(0, 2)
    while True:
        before = file.seek(0, 2)
        try:
            _append(url, file, part, anew=anew)
            return
        except requests.exceptions.SSLError:
            raise _elsewhere(url, "the server's certificate is not accepted") from None
        except FLEETING as error:
            size = file.seek(0, 2)
            anew = anew and size == before  # nothing of the new one has come
            tries = 0 if size > furthest and not anew else tries + 1
            furthest = max(size, furthest)
            if tries == TRIES:
                raise InputError(
                    f"{urlsplit(url).netloc} cannot be reached ({_reason(error)}); connect and run the same command "
                    f"again, which goes on after {size / MB:.1f} MB, or get {url} elsewhere and give its folder as "
                    "--archives"
                ) from None
            say(f"{_final(part)}: {_reason(error)} after {size / MB:.1f} MB; trying again")
            time.sleep(PAUSE_S * 2**tries)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise _elsewhere(url, str(error)) from None
        except OSError as error:
            if error.errno is None:  # requests' own way to say that its certificates are not where they should be
                raise _elsewhere(url, str(error)) from None
            raise


def _final(part: Path) -> str:
    """Name of the file that a partial one will be."""
    return part.name.removesuffix(".part")


def _elsewhere(url: str, why: str) -> InputError:
    return InputError(f"{url}: {why}; get the file elsewhere and give its folder as --archives")


def _reason(error: Exception) -> str:
    """Return why an attempt failed, in a few words; the libraries wrap the original error several times."""
    if isinstance(error, _CutError):
        return str(error)
    if isinstance(error, (requests.Timeout, urllib3.exceptions.TimeoutError)):
        return "no answer in time"
    found = re.search(r"\[Errno -?\d+\] ([\w ]+)", str(error))
    return found[1] if found else "the connection ended early"


def _append(url: str, file: IO[bytes], part: Path, *, anew: bool) -> None:
    start = 0 if anew else file.seek(0, 2)
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as reply:
        if reply.status_code == OUT_OF_RANGE and start:
            return  # nothing comes after what is here; whether it is the file, its digest tells
        if reply.status_code in PASSING:
            raise _CutError(f"the server answers {reply.status_code} {reply.reason}")
        if reply.status_code not in (WHOLE, PARTIAL):
            raise _elsewhere(url, f"the server answers {reply.status_code} {reply.reason}")
        if reply.headers.get("Content-Type", "").lower().startswith("text/html"):
            raise InputError(
                f"{url}: the server sent a web page instead of the file, as networks do before one logs in; log in "
                f"and run the same command again, which goes on after {start / MB:.1f} MB"
            )
        told = reply.headers.get("Content-Length", "")
        length = int(told) if told.isdigit() else None
        if reply.status_code == PARTIAL:
            total = _total(reply.headers.get("Content-Range", ""), start, length, part)
        elif start and start == length:
            return  # all of it is here; its digest tells whether it is the file
        else:
            total = length
            _begin_again(file, part, start, length)
            start = 0
        _room(part, total, start)
        # The bytes as they are sent: a server may call a .tgz an encoding of a .tar.
        for piece in track_bytes(reply.raw.stream(PIECE, decode_content=False), total, _final(part), start):
            file.write(piece)
        file.flush()
        if total is not None and file.tell() < total:
            raise _CutError("the connection ended early")


def _total(told: str, start: int, length: int | None, part: Path) -> int | None:
    """Size of the whole file from the ``Content-Range`` of a part, if it tells.

    Raises
    ------
    InputError
        If it is another part than the one asked for.
    """
    found = CONTENT_RANGE.match(told)
    if found is None or int(found[1]) != start:
        raise InputError(
            f"{part}: the server sent another part ('{told}') than the one from byte {start}; try again later, or "
            "delete the file to begin anew"
        )
    if found[2] != "*":
        return int(found[2])
    return None if length is None else start + length


def _begin_again(file: IO[bytes], part: Path, start: int, length: int | None) -> None:
    """Make room for the whole file where the server does not go on within it; not for anything shorter."""
    if start and (length is None or length < start):
        size = "does not tell its size" if length is None else f"has {length / MB:.1f}"
        raise InputError(
            f"{part}: {start / MB:.1f} MB are here, the server's file {size}, and it does not go on within it; delete "
            "the one here to begin anew"
        )
    if start:
        say(f"{_final(part)}: the server does not go on within a file; from the beginning")
    file.truncate(0)
    file.seek(0)


def _room(part: Path, total: int | None, start: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - start > free:
        raise InputError(
            f"{part.parent}: {(total - start) / MB:.0f} MB are missing of {_final(part)}, and {free / MB:.0f} MB are "
            "free; make room and run the same command again"
        )


@contextmanager
def _disk_full_as_input_error(part: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) or any(text in str(error) for text in DISK_FULL):
            raise InputError(
                f"{part}: no space left on device; make room and run the same command again, which goes on from here"
            ) from None
        raise
