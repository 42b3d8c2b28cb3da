"""The local page's server: pictures come in, masks go out, nothing is written."""

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
from novelseg.inference.inputs import shown_pair
from novelseg.inference.photos import mask_of, photo_of
from novelseg.inference.segmenter import Segmenter, probability
from novelseg.ops.drawing import small_overlay

MOST_BYTES = 400 << 20  # of one request
MOST_MASKS = 500  # that are kept for the archive
OVERLAY_PX = 900


def is_loopback(name: str | None) -> bool:
    """Whether a host's name, as a browser sends it, means this machine and nobody else."""
    try:
        return name == "localhost" or ip_address(name or "").is_loopback
    except ValueError:
        return False


def is_bound_to_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches what listens there."""
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return all(is_loopback(address) for address in found)


class InMemory(Request):
    """A request whose files stay in memory: Werkzeug's own go to disk from half a megabyte on."""

    def _get_file_stream(self, *_: Any, **__: Any) -> IO[bytes]:
        return io.BytesIO()


class Desk:
    """What the page works on: one fitted segmenter, and the masks that it has made."""

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter, self._lock = segmenter, threading.Lock()
        self.round = 0
        self.masks: dict[str, bytes] = {}

    def fit(self, images: list[FileStorage], masks: list[FileStorage]) -> int:
        """Learn from pictures and their masks; the number of this round, which pictures are sent with."""
        pairs = []
        for image, mask in zip(images, masks, strict=True):
            name = Path(image.filename or "picture")
            pair = photo_of(image.read(), name), mask_of(mask.read(), name)
            shown_pair(*pair, self._segmenter.side, str(name))
            pairs.append(pair)
        with self._lock:
            self._segmenter.fit([image for image, _ in pairs], [mask for _, mask in pairs])
            self.masks.clear()
            self.round += 1
            return self.round

    def segment(self, picture: FileStorage, number: int) -> dict[str, Any]:
        """Mask, overlay, area and confidence of a picture.

        Raises
        ------
        InputError
            If the picture cannot be used, other supports have come meanwhile, or too many masks are held.
        """
        name = Path(picture.filename or "picture")
        image = photo_of(picture.read(), name)
        with self._lock:
            if not self.round or number != self.round:
                raise InputError(f"{name}: its supports are not held, or no longer; press Segment again")
            if len(self.masks) >= MOST_MASKS:
                raise InputError(
                    f"{name}: {MOST_MASKS} masks are held, and no more; download them and begin again, or use the "
                    "command `segment`"
                )
            logits = self._segmenter.decision_function([image])[0]
            mask = (logits > 0).astype(np.uint8)
            key = self._free(name.stem)
            self.masks[key] = _png(255 * mask)
        inside = float(probability(logits)[mask > 0].mean()) if mask.any() else None
        return {
            **{"mask": f"masks/{quote(key)}", "name": key, "share": float(mask.mean()), "confidence": inside},
            "overlay": f"data:image/jpeg;base64,{_jpeg(small_overlay(image, mask, OVERLAY_PX))}",
        }

    def _free(self, stem: str) -> str:
        number = 1
        while (name := f"{stem}.png" if number == 1 else f"{stem} {number}.png") in self.masks:
            number += 1
        return name

    def archive(self) -> bytes:
        """All masks."""
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
    """As base64."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88)
    return base64.b64encode(buffer.getvalue()).decode()


def _guard(app: Flask, host: str) -> None:
    """Refuse what other pages send and, where nobody but this machine reaches the page, what asks by another name."""
    private = is_bound_to_loopback(host)

    @app.before_request
    def _only_ours() -> None:
        try:
            name, sender = urlsplit(f"//{request.host}").hostname, urlsplit(request.headers.get("Origin", "")).netloc
        except ValueError:
            abort(403)
        if private and not is_loopback(name):  # another name that was made to point here
            abort(403)
        if "Origin" in request.headers and sender != request.host:
            abort(403)


def new_app(segmenter: Segmenter, host: str) -> Flask:
    """The page's application; on a loopback address, requests that other pages send are refused."""
    app = Flask(__name__)
    app.request_class = InMemory
    app.config["MAX_CONTENT_LENGTH"] = MOST_BYTES
    desk = Desk(segmenter)
    classes = segmenter.bundle_.about["classes"]

    _guard(app, host)

    @app.errorhandler(InputError)
    def _told(error: InputError) -> tuple[Response, int]:
        return jsonify(error=str(error)), 422

    @app.errorhandler(413)
    def _too_much(_: object) -> tuple[Response, int]:
        return jsonify(error=f"more than {MOST_BYTES >> 20} MB at once; give fewer or smaller pictures"), 413

    @app.get("/")
    def _page() -> str:
        return render_template("app.html", classes=classes, variant=segmenter.variant)

    @app.post("/fit")
    def _fit() -> Response:
        images, masks = request.files.getlist("image"), request.files.getlist("mask")
        if not images or len(images) != len(masks):
            raise InputError(f"{len(images)} pictures and {len(masks)} masks came; expected as many of both")
        return jsonify(supports=len(images), round=desk.fit(images, masks))

    @app.post("/segment")
    def _segment() -> Response:
        picture = request.files.get("image")
        if picture is None:
            raise InputError("no picture came; choose one")
        return jsonify(desk.segment(picture, request.form.get("round", 0, int)))

    @app.get("/masks/<name>")
    def _mask(name: str) -> Response:
        data = desk.masks.get(name)
        return _file(data, name, "image/png") if data else abort(404)

    @app.get("/masks.zip")
    def _archive() -> Response:
        return _file(desk.archive(), "masks.zip", "application/zip")

    return app


def _file(data: bytes, name: str, kind: str) -> Response:
    found = Response(data, mimetype=kind)
    found.headers.set("Content-Disposition", "attachment", filename=PurePath(name).name)
    return found
