"""The local page: its server, and the whole way from upload to download in a real browser."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import re
import socket
import tempfile
import threading
import time
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from PIL import Image

from benchmarks.page import serving
from novelseg import Segmenter
from novelseg.cli.main import main
from novelseg.exchange.record import index_mask
from novelseg.exchange.registry import FORMATS, read_labels
from novelseg.inference import session, web
from novelseg.inference.web import PageServer, is_bound_to_loopback, is_loopback, new_app
from novelseg.regions.learned import build_hierarchy
from tests.conftest import WEIGHTS
from tests.pictures import disc

pytestmark = pytest.mark.processes

LOCAL = "127.0.0.1"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of pretrained weights, for which nothing is trained."""
    out = tmp_path_factory.mktemp("bundle") / "pretrained.safetensors"
    assert main(["export", "--weights", str(WEIGHTS), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def segmenter(bundle: Path) -> Segmenter:
    return Segmenter.load(bundle)


@pytest.fixture
def client(segmenter: Segmenter) -> FlaskClient:
    return new_app(segmenter, LOCAL).test_client()


def png(values: Any) -> io.BytesIO:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    buffer.seek(0)
    return buffer


def post(client: FlaskClient, path: str, fields: list[tuple[str, Any, str]], number: int = 1, **headers: Any) -> Any:
    data: dict[str, Any] = {"round": str(number), "class": "object"}
    for field, values, name in fields:
        stream = io.BytesIO(values) if isinstance(values, bytes) else png(values)
        data.setdefault(field, []).append((stream, name))
    return client.post(path, data=data, content_type="multipart/form-data", headers=headers)


def fitted(client: FlaskClient) -> int:
    image, mask = disc()
    answer = post(client, "/fit", [("image", image, "a.png"), ("mask", mask, "mask.png")])
    assert answer.json["supports"] == 1
    return int(answer.json["round"])


def unpacked(text: str, dtype: type, *shape: int) -> Any:
    """An array that the server has packed."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype).reshape(shape)


def test_masks_are_the_segmenters(client: FlaskClient, bundle: Path) -> None:
    fitted(client)
    query = disc(middle=(24, 36))[0]
    found = post(client, "/segment", [("image", query, "../evil/q.png")]).json
    image, mask = disc()
    segmenter = Segmenter.load(bundle).fit([image], [mask], ["object"])
    (finding,) = segmenter.findings([query])
    np.testing.assert_array_equal(unpacked(found["labels"], np.uint8, 64, 64), finding.mask)
    assert (found["width"], found["height"], found["threshold"]) == (64, 64, segmenter.threshold)
    assert found["expected_iou"] == pytest.approx(finding.expected_iou, abs=1e-6)
    assert found["presence"] == pytest.approx(finding.presence, abs=1e-6)
    sent = found["map"]
    logits = unpacked(sent["logits"], np.int8, 1, sent["height"], sent["width"]) / sent["step"]
    np.testing.assert_allclose(logits, finding.logits.clip(-127 / 16, 127 / 16), atol=0.5 / 16 + 1e-6)
    second = fitted(client)  # other supports
    late = post(client, "/segment", [("image", query, "q.png")], number=second - 1)
    assert (late.status_code, "the server no longer has its supports" in late.json["error"]) == (422, True)


def test_regions_and_a_copy_of_a_picture_are_sent(client: FlaskClient) -> None:
    image = disc(side=60)[0]
    data = {"image": (png(image), "a.png"), "view": "1", "regions": "1"}
    answer: Any = client.post("/open", data=data, content_type="multipart/form-data").json
    tree, sent = build_hierarchy(image), answer["regions"]
    assert (answer["width"], answer["height"]) == (60, 60)
    for name, dtype in (("basins", np.uint16), ("parents", np.int32), ("heights", np.float32)):
        np.testing.assert_array_equal(unpacked(sent[name], dtype, -1), getattr(tree, name).reshape(-1))
    copy = Image.open(io.BytesIO(base64.b64decode(answer["view"].partition(",")[2])))
    assert (copy.format, copy.size) == ("JPEG", (60, 60))
    assert "regions" not in post(client, "/open", [("image", image, "a.png")]).json


def exported(client: FlaskClient, form: str, masks: dict[str, Any], classes: list[str]) -> Any:
    scores = [0.5] * len(classes)
    request = {
        "formats": form.split(","),
        "classes": classes,
        "pictures": [{"name": name, "scores": scores, "certainty": 0.25} for name in masks],
    }
    data = {"request": json.dumps(request), "mask": [(png(mask), "m.png") for mask in masks.values()]}
    return client.post("/export", data=data, content_type="multipart/form-data")


@pytest.mark.parametrize("form", list(FORMATS))
def test_masks_are_exported_in_every_format(client: FlaskClient, form: str, tmp_path: Path) -> None:
    masks = {"日本 1.png": disc()[1], "b.png": 2 * disc(middle=(20, 30))[1]}
    sent = exported(client, form, masks, ["cat", "dog"])
    assert sent.status_code == 200
    name = sent.headers["Content-Disposition"].partition("filename=")[2]
    (tmp_path / "images").mkdir()
    for picture in masks:
        Image.fromarray(disc()[0]).save(tmp_path / "images" / picture)
    if name == f"{form}.zip":
        with zipfile.ZipFile(io.BytesIO(sent.data)) as archive:
            archive.extractall(tmp_path)
        source = tmp_path / form
        source = source / "data.yaml" if form == "yolo" else source / "tasks.json" if form == "label-studio" else source
    else:
        source = tmp_path / name
        source.write_bytes(sent.data)
    classes, pictures = read_labels(source, tmp_path / "images")
    table = np.array([0, *(["cat", "dog"].index(one) + 1 for one in classes)], np.uint8)
    found = {one.name: table[index_mask(one)] for one in pictures}
    assert set(found) == set(masks)
    for picture, mask in masks.items():
        assert (found[picture] == mask).mean() > (0.98 if form == "labelme-polygons" else 0.9999), picture


@pytest.mark.parametrize("form", [name for name in FORMATS if name != "voc"])
def test_annotations_of_every_tool_are_read(client: FlaskClient, form: str) -> None:
    """What the page has exported, and chosen again: one file, or several without their folder."""
    masks = {"a.png": 2 * disc()[1], "b ü.png": disc(middle=(20, 30))[1], "c.png": 3 * disc()[1]}
    masks["a.png"][:5, :9] = 3
    sent = exported(client, form, masks, ["cat", "a dog", "猫", "none"])
    name = sent.headers["Content-Disposition"].partition("filename=")[2]
    files = {name: sent.data}
    if name == f"{form}.zip":
        with zipfile.ZipFile(io.BytesIO(sent.data)) as archive:
            files = {Path(one).name: archive.read(one) for one in archive.namelist() if "config" not in one}
    sizes = [{"name": one, "width": 64, "height": 64} for one in [*masks, "other.png"]]
    data = {"pictures": json.dumps(sizes), "labels": [(io.BytesIO(one), name) for name, one in files.items()]}
    answer: Any = client.post("/labels", data=data, content_type="multipart/form-data").json
    assert sorted(answer["classes"]) == ["a dog", "cat", "猫"]
    table = np.zeros(256, np.uint8)
    table[answer["numbers"]] = [["cat", "a dog", "猫"].index(one) + 1 for one in answer["classes"]]
    found = {one["name"]: table[unpacked(one["labels"], np.uint8, 64, 64)] for one in answer["pictures"]}
    assert set(found) == set(masks)
    for picture, mask in masks.items():
        assert (found[picture] == mask).mean() > (0.97 if form == "labelme-polygons" else 0.9999), picture


@pytest.mark.parametrize(
    ("pictures", "names", "told"),
    [
        ("", ["a.json"], "the request is not readable; expected a list of pictures with name, width and height"),
        ("{}", [], "received no annotations; choose a file"),
        ('[{"name": "../a.png", "width": 1, "height": 1}]', ["a.json"], "'../a.png': not the name of a file"),
        ('[{"name": "a.png", "width": 0, "height": 1}]', ["a.json"], "a.png: its size is 0×1; expected whole numbers"),
        ("[]", ["a.json", "a.json"], "a.json: two files have this name; rename one"),
        ("[]", ["a.xml", "a.json"], "a.xml, a.json: expected one file of annotations, or several of labelme"),
        ("[]", ["a.txt"], "a.txt: YOLO's labels without their data.yaml; choose it too"),
        ("[]", ["a.txt", "a.json"], "a.txt: YOLO's labels without their data.yaml; choose it too"),
    ],
)
def test_files_of_annotations_that_do_not_belong_together_are_told(
    client: FlaskClient, pictures: str, names: list[str], told: str
) -> None:
    data = {"pictures": pictures, "labels": [(io.BytesIO(b"{}"), name) for name in names]}
    answer: Any = client.post("/labels", data=data, content_type="multipart/form-data")
    assert (answer.status_code, told in answer.json["error"]) == (422, True), answer.json


def test_annotations_cannot_look_at_files_of_the_server(client: FlaskClient, tmp_path: Path) -> None:
    Image.fromarray(disc()[0]).save(tmp_path / "a.png")
    content = {"imagePath": str(tmp_path / "a.png"), "imageWidth": 64, "imageHeight": 64, "shapes": []}
    shape = {"label": "cat", "points": [[1, 1], [9, 1], [9, 9]]}
    for path in (content["imagePath"], f"../../../../../../../../..{content['imagePath']}"):
        text = json.dumps({**content, "imagePath": path, "shapes": [shape]}).encode()
        answer: Any = client.post("/labels", data={"pictures": "[]", "labels": (io.BytesIO(text), "a.json")}).json
        told = "a.json: no picture a.png in the chosen files; put it there, or remove its annotations"
        assert answer["error"] == told


def test_plain_masks_are_those_of_the_command(client: FlaskClient) -> None:
    sent = exported(client, "masks", {"a.jpg": disc()[1], "a.png": disc()[1]}, ["cat"])
    with zipfile.ZipFile(io.BytesIO(sent.data)) as archive:
        assert archive.namelist() == ["masks/a.jpg.png", "masks/a.png.png"]
        mask = np.array(Image.open(io.BytesIO(archive.read("masks/a.jpg.png"))))
    np.testing.assert_array_equal(mask, 255 * disc()[1])


def test_separate_objects_are_exported(client: FlaskClient, tmp_path: Path) -> None:
    image, mask = disc()
    mask[2:4, 50:52] = 2  # a small part
    data = {"image": (png(image), "a.png"), "mask": (png(mask), "m.png"), "classes": "2", "exact": "1"}
    found: Any = client.post("/objects", data=data, content_type="multipart/form-data").json
    numbers = unpacked(found["numbers"], np.uint16, 64, 64)
    assert (found["labels"], found["dropped"]) == ([1, 2], 0)
    np.testing.assert_array_equal(np.array([0, 1, 2])[numbers], mask)
    entry = {"name": "a.png", "scores": [0.5, 0.75], "certainty": 0.25, "labels": found["labels"]}
    request = {"formats": ["coco"], "classes": ["cat", "dog"], "pictures": [entry]}
    sent = client.post("/export", data={"request": json.dumps(request), "mask": [(png(numbers), "m.png")]})
    scores = [one["score"] for one in json.loads(sent.data)["annotations"]]
    assert scores == [0.5, 0.75]
    entry["labels"] = [1]
    told: Any = client.post("/export", data={"request": json.dumps(request), "mask": [(png(numbers), "m.png")]})
    assert told.json["error"] == "a.png: its mask does not contain the objects that the request lists; export again"


@pytest.mark.parametrize(
    ("form", "names", "classes", "told"),
    [
        ("coco", ["../a.png"], ["cat"], "'../a.png': not the name of a file; rename the picture"),
        ("coco", [".."], ["cat"], "'..': not the name of a file"),
        ("coco", ["a\nb.png"], ["cat"], "its name holds a line separator; rename it"),
        ("voc", ["a.png", "a.jpg"], ["cat"], "a.png and a.jpg: --format voc names files without the ending"),
        ("voc", ["a.png"], ["a:b"], "the class 'a:b' cannot stand in labelmap.txt"),
        ("cocoa", ["a.png"], ["cat"], "--format cocoa: no such format"),
        ("coco", ["a.png"], ["cat", "cat"], "classes names 'cat' twice"),
        ("coco", [], ["cat"], "0 pictures, 0 masks; expected the same number of both, and at least one format"),
    ],
)
def test_what_cannot_be_exported_is_told(
    client: FlaskClient, form: str, names: list[str], classes: list[str], told: str
) -> None:
    answer = exported(client, form, dict.fromkeys(names, disc()[1]), classes)
    assert (answer.status_code, told in answer.json["error"]) == (422, True), answer.json


@pytest.mark.parametrize("text", ["", "[]", "{", '{"formats": 1}', '{"formats": [], "classes": [], "pictures": [1]}'])
def test_an_export_that_cannot_be_read_is_told(client: FlaskClient, text: str) -> None:
    answer: Any = client.post("/export", data={"request": text})
    assert (answer.status_code, "the request is not readable" in answer.json["error"]) == (422, True)


@pytest.mark.parametrize(
    ("path", "fields", "told"),
    [
        ("/segment", [("image", b"no", "no.jpg")], "no.jpg: not a picture"),
        ("/segment", [], "received no picture"),
        ("/fit", [("image", disc()[0], "a.png")], "received 1 pictures and 0 masks"),
        ("/fit", [("image", disc()[0], "a.png"), ("mask", 0 * disc()[1], "m.png")], "no mask has class 1"),
        ("/fit", [("image", disc()[0], "a.png"), ("mask", disc(40)[1], "m.png")], "the mask is 40×40 px, its picture"),
        ("/mask", [], "received no mask; choose one"),
        ("/open", [("image", b"no", "no.jpg")], "no.jpg: not a picture"),
    ],
)
def test_what_cannot_be_used_is_told(client: FlaskClient, path: str, fields: Any, told: str) -> None:
    answer = post(client, path, fields)
    assert answer.status_code == 422
    assert told in answer.json["error"]


def test_before_painting_there_is_nothing_to_find(client: FlaskClient) -> None:
    for number in (0, 1):  # 1: a page that was open while the server began anew
        found = post(client, "/segment", [("image", disc()[0], "a.png")], number=number)
        assert "the server no longer has its supports; press Segment again" in found.json["error"]


def test_too_much_at_once_is_told(client: FlaskClient) -> None:
    client.application.config["MAX_CONTENT_LENGTH"] = 100
    found = post(client, "/segment", [("image", disc()[0], "a.png")])
    assert (found.status_code, "MB at once; choose fewer" in found.json["error"]) == (413, True)


def test_uploads_stay_in_memory(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a file on disk")

    for name in ("TemporaryFile", "SpooledTemporaryFile", "NamedTemporaryFile"):
        monkeypatch.setattr(tempfile, name, refuse)
    monkeypatch.setattr("werkzeug.test.TemporaryFile", lambda _: io.BytesIO())  # the test's own side
    fitted(client)
    noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), np.uint8)
    assert len(png(noise).getvalue()) > 1_000_000
    assert post(client, "/segment", [("image", noise, "large.png")]).status_code == 200


def test_other_pages_are_refused(client: FlaskClient, bundle: Path) -> None:
    fields = [("image", disc()[0], "a.png")]
    assert post(client, "/segment", fields, Origin="http://elsewhere.example").status_code == 403
    assert client.get("/", headers={"Host": "rebound.example"}).status_code == 403
    assert client.get("/", headers={"Host": "localhost:8765"}).status_code == 200
    assert post(client, "/segment", fields, Origin="http://[").status_code == 403
    assert post(client, "/segment", fields, Origin="null").status_code == 403
    assert all(map(is_loopback, ("127.0.0.2", "::1", "localhost")))
    assert not any(map(is_loopback, ("10.0.0.1", "localhost.example", "", None)))
    assert all(map(is_bound_to_loopback, ("127.0.0.1", "127.1", "LOCALHOST", "::1")))
    assert not any(map(is_bound_to_loopback, ("0.0.0.0", "::", "10.0.0.1", "")))
    for host in ("127.1", "LOCALHOST"):
        here = new_app(Segmenter.load(bundle), host).test_client()
        assert here.get("/", headers={"Host": "rebound.example"}).status_code == 403
    everywhere = new_app(Segmenter.load(bundle), "0.0.0.0").test_client()
    for host, status in {
        **{"rebound.example": 403, "10.0.0.1:8765": 200, "[fe80::1]:8765": 200, "localhost": 200},
        **{socket.gethostname(): 200, f"{socket.gethostname()}.local:8765": 200},
    }.items():
        assert everywhere.get("/", headers={"Host": host}).status_code == status, host
    assert (
        post(everywhere, "/segment", fields, Host="rebound.example", Origin="http://rebound.example").status_code == 403
    )
    assert everywhere.get("/static/app.js", headers={"Host": "rebound.example"}).status_code == 403
    named = new_app(Segmenter.load(bundle), "10.0.0.1").test_client()
    assert named.get("/", headers={"Host": "rebound.example"}).status_code == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Referer": "http://elsewhere.example/page"}, 403),
        ({"Referer": "http://localhost/"}, 200),
    ],
)
def test_the_page_is_for_itself_alone(client: FlaskClient, headers: dict[str, Any], status: int) -> None:
    for path in ("/static/app.js", "/static/app.css"):
        with client.get(path, headers=headers) as answer:
            assert answer.status_code == status
    assert post(client, "/open", [("image", disc()[0], "a.png")], **headers).status_code == status
    page = client.get("/", headers=headers)  # a link of another page may open it, in a window of its own
    assert page.status_code == 200
    assert page.headers["X-Frame-Options"] == "DENY"
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'self'; ")
    assert "frame-ancestors 'none'" in policy
    assert not re.search(r"https?://|//[a-z]", page.text)


NAMES = ["日本.png", "Łódź.png", "Ünï.png", "a 'b\".png", "ſ.png"]


def test_names_of_any_script_arrive(served: str) -> None:
    """Only a real server decodes its requests."""
    host = served.removeprefix("http://").rstrip("/")
    for name in NAMES:
        status, found = upload(host, "/open", [("image", name, io.BytesIO(b"no"))])
        assert (status, found["error"].startswith(f"{name}: not a picture")) == (422, True), found


def upload(host: str, path: str, fields: list[tuple[str, str, io.BytesIO]]) -> tuple[int, Any]:
    """Post a form as browsers do, with names in UTF-8."""
    body = b""
    for field, name, content in fields:
        quoted = name.replace('"', "%22")
        head = f'--x\r\nContent-Disposition: form-data; name="{field}"' + (f'; filename="{quoted}"' if name else "")
        body += f"{head}\r\n\r\n".encode() + content.getvalue() + b"\r\n"
    connection = http.client.HTTPConnection(host, timeout=60)
    connection.request("POST", path, body + b"--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"})
    reply = connection.getresponse()
    content = json.loads(reply.read())
    connection.close()
    return reply.status, content


def begun(host: str, size: int) -> socket.socket:
    """A connection whose upload has begun and does not go on."""
    name, port = host.split(":")
    opened = socket.create_connection((name, int(port)), timeout=30)
    head = f"POST /segment HTTP/1.1\r\nHost: {host}\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    opened.sendall(f"{head}Content-Length: {size}\r\n\r\n--x\r\n".encode())
    return opened


class CountedInput(web._TimedInput):
    """Body of an upload that tells when the server has counted the upload."""

    def __init__(self, counted: threading.Semaphore, stream: Any) -> None:
        super().__init__(stream)
        counted.release()


def test_uploads_are_limited_by_number_bytes_and_time(served: str, monkeypatch: pytest.MonkeyPatch) -> None:
    host = served.removeprefix("http://").rstrip("/")
    picture = [("image", "a.png", png(disc()[0]))]
    for limits in ({"MOST_UPLOADS": 2}, {"MOST_PENDING_BYTES": 3000}):
        with monkeypatch.context() as limited, contextlib.ExitStack() as connections:
            counted = threading.Semaphore(0)
            limited.setattr(web, "_TimedInput", partial(CountedInput, counted))
            for _ in range(2):
                connections.enter_context(begun(host, 1400))
            for _ in range(2):  # an upload before that could take the place of one of the two
                assert counted.acquire(timeout=90)
            for name, value in limits.items():
                limited.setattr(web, name, value)
            assert upload(host, "/segment", picture) == (503, BUSY)
        wait(lambda: upload(host, "/segment", picture)[0] == 422)  # the others have gone: there is room again
    monkeypatch.setattr(web, "UPLOAD_S", -1)
    with begun(host, 1000) as slow:
        assert b"400 BAD REQUEST" in slow.recv(1000)
    monkeypatch.undo()
    with begun(host, web.MOST_BYTES + 1) as large:
        assert b"413 REQUEST ENTITY TOO LARGE" in large.recv(1000)


BUSY = {"error": "the server is busy with other uploads; try again"}


def wait(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_connections_are_limited(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "MOST_CONNECTIONS", 1)
    with serving(Segmenter.load(bundle)) as address:
        host = address.removeprefix("http://").rstrip("/")
        with begun(host, 10):
            name, port = host.split(":")
            with socket.create_connection((name, int(port)), timeout=30) as second:
                assert second.recv(10) == b""  # closed at once
        wait(lambda: answers(address))


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address) as page:
            return bool(page.status == 200)
    except OSError:
        return False


def test_a_picture_of_too_many_pixels_is_not_decoded(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "MOST_PIXELS", 4000)
    found = post(client, "/segment", [("image", disc()[0], "a.png")])
    assert "a.png: has 64×64 px; expected at most 0.004 million px" in found.json["error"]


def test_a_port_in_use_is_told(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server = PageServer(LOCAL, 0, new_app(Segmenter.load(bundle), LOCAL))
    try:
        assert main(["app", "--bundle", str(bundle), "--port", str(server.server_port)]) == 2
    finally:
        server.server_close()
    assert f"{LOCAL}:{server.server_port} cannot be opened" in capsys.readouterr().err
    assert main(["app", "--bundle", str(bundle), "--port", "70000"]) == 2
    assert "--port is 70000; expected 0 (any free port) to 65535" in capsys.readouterr().err


@pytest.fixture
def served(bundle: Path) -> Iterator[str]:
    with serving(Segmenter.load(bundle)) as address:
        yield address
