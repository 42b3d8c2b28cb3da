"""Server of the local page, which receives pictures and sends masks; it writes nothing to the disk.

Memory is bounded: uploads by number, bytes and time, and pictures by their pixels before one at a time is decoded.
"""

from __future__ import annotations

import base64
import io
import socket
import threading
import time
import unicodedata
import zipfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from pathlib import Path, PurePath
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import numpy as np
from flask import Flask, Request, Response, abort, jsonify, render_template, request
from numpy.typing import NDArray
from PIL import Image
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import ClientDisconnected
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler
from werkzeug.wsgi import get_content_length

from novelseg.core.errors import InputError
from novelseg.inference.inputs import resize_pair
from novelseg.inference.photos import mask_of, photo_of
from novelseg.inference.segmenter import Segmenter
from novelseg.ops.drawing import small_overlay

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

MOST_BYTES = 128 << 20  # per request
MOST_PENDING_BYTES = 256 << 20  # of all requests at once
MOST_UPLOADS = 4  # at once; the page sends one after the other, and waits while the server is busy
MOST_CONNECTIONS = 64
UPLOAD_S, SILENCE_S = 120, 30  # longest time of an upload, and longest wait for its next bytes
MOST_PIXELS = 51_000_000  # of a picture: the largest full-frame cameras have 50 million
MOST_MASKS = 500  # kept for the archive
OVERLAY_PX = 900  # longest side of an overlay


def is_loopback(name: str | None) -> bool:
    """Return whether a host name, as sent by a browser, is a loopback name or address."""
    try:
        return name == "localhost" or ip_address(name or "").is_loopback
    except ValueError:
        return False


def is_bound_to_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server that listens on ``host``."""
    try:
        addresses = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return all(is_loopback(address) for address in addresses)


class InMemory(Request):
    """A request whose files stay in memory; Werkzeug writes files to the disk from half a megabyte on."""

    def _get_file_stream(self, *_: Any, **__: Any) -> IO[bytes]:
        return io.BytesIO()


class Handler(WSGIRequestHandler):
    """Handler of a connection that does not wait without end for the other side."""

    timeout = SILENCE_S


class PageServer(ThreadedWSGIServer):
    """Server with one thread per connection, and a limited number of connections."""

    def __init__(self, host: str, port: int, app: WSGIApplication) -> None:
        self._free = threading.Semaphore(MOST_CONNECTIONS)
        super().__init__(host, port, LimitedUploads(app), Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection, or close it if there are too many."""
        if not self._free.acquire(blocking=False):
            super().shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()


class _TimedInput(io.RawIOBase):
    """Body of a request that must arrive within a time."""

    def __init__(self, stream: Any) -> None:
        super().__init__()
        self._read = getattr(stream, "read1", stream.read)  # read1 returns what has arrived
        self._end = time.monotonic() + UPLOAD_S

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if time.monotonic() > self._end:
            raise TimeoutError
        data = self._read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class LimitedUploads:
    """WSGI middleware that limits the uploads in memory at once by their number, bytes and time."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app, self._lock = app, threading.Lock()
        self._uploads, self._bytes = 0, 0

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        if environ["REQUEST_METHOD"] not in ("POST", "PUT", "PATCH"):
            environ["CONTENT_LENGTH"] = "0"  # a body that no route reads
            return self._app(environ, start_response)
        size = get_content_length(environ)
        if size is None:
            return _refuse(411, "the length of the upload is not stated; send it", environ, start_response)
        if size <= MOST_BYTES and not self._reserve(size):
            return _refuse(503, "the server is busy with other uploads; try again", environ, start_response)
        environ["wsgi.input"] = _TimedInput(environ["wsgi.input"])
        try:
            return self._app(environ, start_response)  # by when the application has read the body
        finally:
            if size <= MOST_BYTES:  # others are refused by the application, unread
                self._reserve(-size)

    def _reserve(self, size: int) -> bool:
        """Count an upload of ``size`` bytes as begun or, if negative, as ended; return whether there was room."""
        one = 1 if size >= 0 else -1
        with self._lock:
            full = self._uploads + one > MOST_UPLOADS or self._bytes + size > MOST_PENDING_BYTES
            if one > 0 and full:
                return False
            self._uploads, self._bytes = self._uploads + one, self._bytes + size
            return True


def _refuse(status: int, text: str, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    response = Response(f'{{"error": "{text}"}}', status, mimetype="application/json")
    return response(environ, start_response)


class Session:
    """State behind the page: one segmenter, the number of its present fit, and the masks of that fit.

    All pictures are decoded and segmented by one thread, so that only one is in memory, and memory that the allocator
    keeps for a thread is kept once.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter, self._worker = segmenter, ThreadPoolExecutor(1, "pictures")
        self.round = 0
        self.masks: dict[str, bytes] = {}

    def fit(self, images: list[FileStorage], masks: list[FileStorage]) -> int:
        """Fit the segmenter and return the number of this round, which requests to segment must carry."""
        return self._worker.submit(self._fit, images, masks).result()

    def read_mask(self, mask: FileStorage) -> dict[str, str]:
        """Read a mask file as the command does, and return it as a picture of two values, with a note about it.

        Raises
        ------
        InputError
            If the mask cannot be used.
        """
        return self._worker.submit(self._read_mask, mask).result()

    def segment(self, picture: FileStorage, number: int) -> dict[str, Any]:
        """Segment a picture and return mask, overlay, area, expected IoU and presence.

        Raises
        ------
        InputError
            If the picture cannot be used, the segmenter was fitted anew meanwhile, or too many masks are kept.
        """
        return self._worker.submit(self._segment, picture, number).result()

    def archive(self) -> bytes:
        """Return all masks as a ZIP archive."""
        return self._worker.submit(self._archive).result()

    def _fit(self, images: list[FileStorage], masks: list[FileStorage]) -> int:
        pairs = []
        for image, mask in zip(images, masks, strict=True):
            name = Path(image.filename or "picture")
            photo = photo_of(image.read(), name, MOST_PIXELS)
            labels, _ = mask_of(mask.read(), name, most_pixels=MOST_PIXELS)  # of two values, from the page
            pairs.append(resize_pair(photo, labels, self._segmenter.side, str(name)))  # an error names the picture
        self._segmenter.fit([image for image, _ in pairs], [mask for _, mask in pairs])
        self.masks.clear()
        self.round += 1
        return self.round

    def _read_mask(self, file: FileStorage) -> dict[str, str]:
        mask, note = mask_of(file.read(), Path(file.filename or "mask"), most_pixels=MOST_PIXELS)
        return {"mask": f"data:image/png;base64,{base64.b64encode(_png(255 * mask)).decode()}", "note": note}

    def _segment(self, picture: FileStorage, number: int) -> dict[str, Any]:
        name = Path(picture.filename or "picture")
        image = photo_of(picture.read(), name, MOST_PIXELS)
        if not self.round or number != self.round:
            raise InputError(f"{name}: the server no longer has its supports; press Segment again")
        if len(self.masks) >= MOST_MASKS:
            raise InputError(
                f"{name}: the server keeps at most {MOST_MASKS} masks; download them, choose the remaining "
                "pictures and press Segment again, or use the command `novelseg segment`"
            )
        finding = next(self._segmenter.findings([image]))
        mask = finding.mask
        quality = float(finding.expected_iou[0]) if mask.any() else None
        presence = None if finding.presence is None else float(finding.presence[0])
        del finding  # it holds the largest array
        key = self._new_name(name.stem)
        self.masks[key] = _png(255 * mask)
        return {
            **{"mask": f"masks/{quote(key)}", "name": key, "share": float(mask.mean())},
            **{"expected_iou": quality, "presence": presence},
            "overlay": f"data:image/jpeg;base64,{_jpeg(small_overlay(image, mask, OVERLAY_PX))}",
        }

    def _new_name(self, stem: str) -> str:
        """Return the first name for a mask that is not in use."""
        stem, number = "".join(char if char.isprintable() else "_" for char in stem), 1
        while (name := f"{stem}.png" if number == 1 else f"{stem} {number}.png") in self.masks:
            number += 1
        return name

    def _archive(self) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as file:
            for name, data in self.masks.items():
                file.writestr(name, data)
        return buffer.getvalue()


def _png(values: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


def _jpeg(picture: Image.Image) -> str:
    """Return a picture as JPEG in base64."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88)
    return base64.b64encode(buffer.getvalue()).decode()


def names_of(host: str) -> set[str]:
    """Return the names under which a browser may open a server that listens on ``host``, beside addresses."""
    own = {socket.gethostname().lower(), socket.getfqdn().lower()}
    return {"localhost", host.lower(), *own, *(f"{name}.local" for name in own)}


def _is_address(name: str | None) -> bool:
    try:
        ip_address(name or "")
    except ValueError:
        return False
    return True


def _guard(app: Flask, host: str) -> None:
    """Refuse requests of other pages, and those under a host name that is not this machine's.

    A name of somebody else that resolves to this machine (DNS rebinding) would make another page one of this server;
    an address cannot be rebound.
    """
    private = is_bound_to_loopback(host)
    names = set() if private else names_of(host)

    @app.before_request
    def _refuse_foreign() -> None:
        try:
            name, sender = urlsplit(f"//{request.host}").hostname, urlsplit(request.headers.get("Origin", "")).netloc
            referrer = urlsplit(request.headers.get("Referer", "")).netloc
        except ValueError:
            abort(403)
        if not (is_loopback(name) if private else _is_address(name) or name in names):
            abort(403)
        if "Origin" in request.headers and sender != request.host:
            abort(403)
        if request.path == "/":  # which a link of another page may open, but not a frame
            return
        site = request.headers.get("Sec-Fetch-Site")
        if site not in (None, "same-origin", "none") or (site is None and referrer not in ("", request.host)):
            abort(403)

    @app.after_request
    def _forbid_embedding(response: Response) -> Response:
        response.headers["X-Frame-Options"] = "DENY"
        response.headers["Content-Security-Policy"] = "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "same-origin"
        response.headers["Cache-Control"] = "no-store"
        return response

    @app.errorhandler(403)
    def _forbidden(_: object) -> tuple[Response, int]:
        text = "refused: the request is of another page or under another name; open the address that the server printed"
        return jsonify(error=text), 403


def new_app(segmenter: Segmenter, host: str) -> Flask:
    """Create the Flask application of the page; it rejects requests from other sites."""
    app = Flask(__name__)
    app.request_class = InMemory
    app.config["MAX_CONTENT_LENGTH"] = MOST_BYTES
    session = Session(segmenter)
    classes = segmenter.bundle_.about["classes"]

    _guard(app, host)

    @app.errorhandler(InputError)
    def _input_error(error: InputError) -> tuple[Response, int]:
        return jsonify(error=str(error)), 422

    @app.errorhandler(ClientDisconnected)
    def _interrupted(_: object) -> tuple[Response, int]:
        return jsonify(error=f"the upload ended early, or took longer than {UPLOAD_S} s; try again"), 400

    @app.errorhandler(413)
    def _too_large(_: object) -> tuple[Response, int]:
        return jsonify(error=f"more than {MOST_BYTES >> 20} MB at once; choose fewer or smaller pictures"), 413

    @app.get("/")
    def _page() -> str:
        return render_template("app.html", classes=classes, variant=segmenter.variant)

    @app.post("/fit")
    def _fit() -> Response:
        images, masks = request.files.getlist("image"), request.files.getlist("mask")
        if not images or len(images) != len(masks):
            raise InputError(f"received {len(images)} pictures and {len(masks)} masks; expected as many of both")
        return jsonify(supports=len(images), round=session.fit(images, masks))

    @app.post("/mask")
    def _read_mask() -> Response:
        mask = request.files.get("mask")
        if mask is None:
            raise InputError("received no mask; choose one")
        return jsonify(session.read_mask(mask))

    @app.post("/segment")
    def _segment() -> Response:
        picture = request.files.get("image")
        if picture is None:
            raise InputError("received no picture; choose one")
        return jsonify(session.segment(picture, request.form.get("round", 0, int)))

    @app.get("/masks/<name>")
    def _mask(name: str) -> Response:
        data = session.masks.get(name)
        return _file(data, name, "image/png") if data else abort(404)

    @app.get("/masks.zip")
    def _archive() -> Response:
        return _file(session.archive(), "masks.zip", "application/zip")

    return app


def _file(data: bytes, name: str, kind: str) -> Response:
    response, name = Response(data, mimetype=kind), PurePath(name).name
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode("ascii")
    # A header is Latin-1; any other name is sent as RFC 5987 says, after one for old browsers.
    exact = {"filename*": f"UTF-8''{quote(name, safe='', errors='replace')}"} if plain != name else {}
    response.headers.set("Content-Disposition", "attachment", filename=plain, **exact)
    return response
