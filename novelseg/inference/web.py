"""Server of the local page, which receives pictures and sends masks; it writes nothing to the disk."""

from __future__ import annotations

import base64
import io
import socket
import threading
import zipfile
from ipaddress import ip_address
from pathlib import Path, PurePath
from typing import IO, Any
from urllib.parse import quote, urlsplit

import numpy as np
from flask import Flask, Request, Response, abort, jsonify, render_template, request
from numpy.typing import NDArray
from PIL import Image
from werkzeug.datastructures import FileStorage

from novelseg.core.errors import InputError
from novelseg.inference.inputs import resize_pair
from novelseg.inference.photos import mask_of, photo_of
from novelseg.inference.segmenter import Segmenter, probability
from novelseg.ops.drawing import small_overlay

MOST_BYTES = 400 << 20  # per request
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


class Session:
    """State behind the page: one segmenter, the number of its present fit, and the masks of that fit."""

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter, self._lock = segmenter, threading.Lock()
        self.round = 0
        self.masks: dict[str, bytes] = {}

    def fit(self, images: list[FileStorage], masks: list[FileStorage]) -> int:
        """Fit the segmenter and return the number of this round, which requests to segment must carry."""
        pairs = []
        for image, mask in zip(images, masks, strict=True):
            name = Path(image.filename or "picture")
            pair = photo_of(image.read(), name), mask_of(mask.read(), name)
            resize_pair(*pair, self._segmenter.side, str(name))  # raises an error that names the picture
            pairs.append(pair)
        with self._lock:
            self._segmenter.fit([image for image, _ in pairs], [mask for _, mask in pairs])
            self.masks.clear()
            self.round += 1
            return self.round

    def segment(self, picture: FileStorage, number: int) -> dict[str, Any]:
        """Segment a picture and return mask, overlay, area and confidence.

        Raises
        ------
        InputError
            If the picture cannot be used, the segmenter was fitted anew meanwhile, or too many masks are kept.
        """
        name = Path(picture.filename or "picture")
        image = photo_of(picture.read(), name)
        with self._lock:
            if not self.round or number != self.round:
                raise InputError(f"{name}: the server no longer has its supports; press Segment again")
            if len(self.masks) >= MOST_MASKS:
                raise InputError(
                    f"{name}: the server keeps at most {MOST_MASKS} masks; download them, choose the remaining "
                    "pictures and press Segment again, or use the command `novelseg segment`"
                )
            logits = self._segmenter.decision_function([image])[0]
            mask = (logits > 0).astype(np.uint8)
            key = self._new_name(name.stem)
            self.masks[key] = _png(255 * mask)
        confidence = float(probability(logits)[mask > 0].mean()) if mask.any() else None
        return {
            **{"mask": f"masks/{quote(key)}", "name": key, "share": float(mask.mean()), "confidence": confidence},
            "overlay": f"data:image/jpeg;base64,{_jpeg(small_overlay(image, mask, OVERLAY_PX))}",
        }

    def _new_name(self, stem: str) -> str:
        """Return the first name for a mask that is not in use."""
        number = 1
        while (name := f"{stem}.png" if number == 1 else f"{stem} {number}.png") in self.masks:
            number += 1
        return name

    def archive(self) -> bytes:
        """Return all masks as a ZIP archive."""
        buffer = io.BytesIO()
        with self._lock, zipfile.ZipFile(buffer, "w") as file:
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


def _guard(app: Flask, host: str) -> None:
    """Refuse requests from other pages and, if only this machine can reach the server, for other host names."""
    private = is_bound_to_loopback(host)

    @app.before_request
    def _refuse_foreign() -> None:
        try:
            name, sender = urlsplit(f"//{request.host}").hostname, urlsplit(request.headers.get("Origin", "")).netloc
        except ValueError:
            abort(403)
        if private and not is_loopback(name):  # DNS rebinding: another name that resolves to this machine
            abort(403)
        if "Origin" in request.headers and sender != request.host:
            abort(403)


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
    response = Response(data, mimetype=kind)
    response.headers.set("Content-Disposition", "attachment", filename=PurePath(name).name)
    return response
