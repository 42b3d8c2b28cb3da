"""Server of the local page: its routes, and the limits and rules of requests.

Memory is bounded: uploads by number, bytes and time, and pictures by their pixels before one at a time is decoded.
"""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Iterable
from ipaddress import ip_address
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flask import Flask, Request, Response, abort, jsonify, render_template, request
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import ClientDisconnected
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler
from werkzeug.wsgi import get_content_length

from novelseg.core.errors import InputError
from novelseg.exchange.registry import FORMATS
from novelseg.inference.fitted import MOST_CLASSES
from novelseg.inference.segmenter import Segmenter
from novelseg.inference.session import MASKS, Session, export_request, picture_sizes
from novelseg.ops.drawing import class_colour

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

MOST_BYTES = 128 << 20  # per request
MOST_PENDING_BYTES = 256 << 20  # of all requests at once
MOST_UPLOADS = 4  # at once; the page sends one after the other, and waits while the server is busy
MOST_CONNECTIONS = 64
POLICY = (  # the page loads nothing from elsewhere
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'self'"
)
UPLOAD_S, SILENCE_S = 120, 30  # longest time of an upload, and longest wait for its next bytes


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
    """Handler of a connection that waits only a limited time for the other side."""

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
    """WSGI middleware that limits the number, total size and duration of the uploads that are in memory at once."""

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
        response.headers["Content-Security-Policy"] = POLICY
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
        settings = {
            "known": segmenter.bundle_.about["classes"],
            "variant": segmenter.variant,
            "formats": [*FORMATS, MASKS],
            "colours": [class_colour(label) for label in range(1, MOST_CLASSES + 1)],
            "threshold": segmenter.threshold,
            "presence": segmenter.presence,
        }
        return render_template("app.html", settings=settings)

    @app.post("/open")
    def _open() -> Response:
        view, regions = (name in request.form for name in ("view", "regions"))
        return jsonify(session.open(_picture(), view=view, regions=regions))

    @app.post("/fit")
    def _fit() -> Response:
        images, masks = request.files.getlist("image"), request.files.getlist("mask")
        if not images or len(images) != len(masks):
            raise InputError(
                f"received {len(images)} pictures and {len(masks)} masks; expected the same number of both"
            )
        classes = request.form.getlist("class")
        return jsonify(supports=len(images), round=session.fit(images, masks, classes))

    @app.post("/mask")
    def _read_mask() -> Response:
        mask = request.files.get("mask")
        if mask is None:
            raise InputError("received no mask; choose one")
        return jsonify(session.read_mask(mask, request.form.get("classes", 0, int)))

    @app.post("/labels")
    def _read_labels() -> Response:
        sizes = picture_sizes(request.form.get("pictures", ""))
        return jsonify(session.read_labels(request.files.getlist("labels"), sizes))

    @app.post("/segment")
    def _segment() -> Response:
        return jsonify(session.segment(_picture(), request.form.get("round", 0, int)))

    @app.post("/objects")
    def _objects() -> Response:
        mask = request.files.get("mask")
        if mask is None:
            raise InputError("received no mask; choose one")
        return jsonify(
            session.objects(_picture(), mask, request.form.get("classes", 1, int), exact="exact" in request.form)
        )

    @app.post("/export")
    def _export() -> Response:
        wanted = export_request(request.form.get("request", ""))
        name, data = session.export(wanted, request.files.getlist("mask"))
        return _file(data, name)

    return app


def _picture() -> FileStorage:
    """Return the picture of the present request."""
    picture = request.files.get("image")
    if picture is None:
        raise InputError("received no picture; choose one")
    return picture


def _file(data: bytes, name: str) -> Response:
    """Return a file to download; its name is plain ASCII."""
    response = Response(data, mimetype="application/octet-stream")
    response.headers.set("Content-Disposition", "attachment", filename=name)
    return response
