"""The local page: its server, and the whole way from upload to download in a real browser."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import socket
import tempfile
import threading
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from flask.testing import FlaskClient
from PIL import Image

from novelseg import Segmenter
from novelseg.cli.main import main
from novelseg.inference import web
from novelseg.inference.web import PageServer, is_bound_to_loopback, is_loopback, new_app
from tests.browser import browsed
from tests.makers import disc

pytestmark = pytest.mark.processes

LOCAL = "127.0.0.1"


@pytest.fixture
def client(bundle: Path) -> FlaskClient:
    return new_app(Segmenter.load(bundle), LOCAL).test_client()


def png(values: Any) -> io.BytesIO:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    buffer.seek(0)
    return buffer


def post(client: FlaskClient, path: str, fields: list[tuple[str, Any, str]], number: int = 1, **headers: str) -> Any:
    data: dict[str, Any] = {"round": str(number)}
    for field, values, name in fields:
        stream = io.BytesIO(values) if isinstance(values, bytes) else png(values)
        data.setdefault(field, []).append((stream, name))
    return client.post(path, data=data, content_type="multipart/form-data", headers=headers)


def fitted(client: FlaskClient) -> int:
    image, mask = disc()
    answer = post(client, "/fit", [("image", image, "a.png"), ("mask", 255 * mask, "mask.png")])
    assert answer.json["supports"] == 1
    return int(answer.json["round"])


def test_masks_are_the_segmenters(client: FlaskClient, bundle: Path) -> None:
    fitted(client)
    query = disc(middle=(24, 36))[0]
    found = post(client, "/segment", [("image", query, "../evil/q.png")]).json
    image, mask = disc()
    expected = Segmenter.load(bundle).fit([image], [mask]).predict([query])[0]
    assert found["share"] == pytest.approx(expected.mean())
    assert found["name"] == "q.png"
    sent = client.get(f"/{found['mask']}")
    assert sent.headers["Content-Disposition"] == "attachment; filename=q.png"
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(sent.data))), 255 * expected)
    again = post(client, "/segment", [("image", query, "q.png")]).json
    assert again["name"] == "q 2.png"
    with zipfile.ZipFile(io.BytesIO(client.get("/masks.zip").data)) as archive:
        assert archive.namelist() == ["q.png", "q 2.png"]
    second = fitted(client)  # other supports: the old masks are not theirs
    assert client.get(f"/{found['mask']}").status_code == 404
    late = post(client, "/segment", [("image", query, "q.png")], number=second - 1)
    assert (late.status_code, "the server no longer has its supports" in late.json["error"]) == (422, True)
    for name in ("q#9.png", "what?.png", "100%25.png", "日本 'q\".png"):
        odd = post(client, "/segment", [("image", query, name)], number=second).json
        assert client.get(f"/{odd['mask']}").status_code == 200, name


@pytest.mark.parametrize(
    ("path", "fields", "told"),
    [
        ("/segment", [("image", b"no", "no.jpg")], "no.jpg: not a picture"),
        ("/segment", [], "received no picture"),
        ("/fit", [("image", disc()[0], "a.png")], "received 1 pictures and 0 masks"),
        ("/fit", [("image", disc()[0], "a.png"), ("mask", 0 * disc()[1], "m.png")], "no mask has an object"),
        ("/fit", [("image", disc()[0], "a.png"), ("mask", disc(40)[1], "m.png")], "the mask is 40×40 px, its picture"),
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


def test_masks_beyond_what_is_held_are_refused(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("novelseg.inference.web.MOST_MASKS", 1)
    fitted(client)
    assert post(client, "/segment", [("image", disc()[0], "a.png")]).status_code == 200
    assert "the server keeps at most 1 masks" in post(client, "/segment", [("image", disc()[0], "b.png")]).json["error"]


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
    assert everywhere.get("/masks.zip", headers={"Host": "rebound.example"}).status_code == 403
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
def test_masks_are_for_this_page_alone(client: FlaskClient, headers: dict[str, str], status: int) -> None:
    fitted(client)
    found = post(client, "/segment", [("image", disc()[0], "a.png")]).json
    for path in (f"/{found['mask']}", "/masks.zip"):
        assert client.get(path, headers=headers).status_code == status
    page = client.get("/", headers=headers)  # a link of another page may open it, in a window of its own
    assert page.status_code == 200
    assert page.headers["X-Frame-Options"] == "DENY"
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]


NAMES = ["日本.png", "Łódź.png", "Ünï.png", "a 'b\".png", "ſ\u2028.png"]


def test_masks_of_any_name_arrive(served: str) -> None:
    """Only a real server encodes its headers."""
    image, mask = disc()
    host, path = served.removeprefix("http://").rstrip("/"), "/fit"
    assert upload(host, path, [("image", "a.png", png(image)), ("mask", "m.png", png(255 * mask))])[0] == 200
    for name in NAMES:
        status, found = upload(host, "/segment", [("image", name, png(image)), ("round", "", io.BytesIO(b"1"))])
        assert status == 200, name
        with urllib.request.urlopen(f"{served}{found['mask']}") as sent:
            header, content = sent.headers["Content-Disposition"], sent.read()
        assert Image.open(io.BytesIO(content)).size == (64, 64)
        expected = name.replace("\u2028", "_")
        saved = (
            rfc5987(header)
            if "filename*=" in header
            else header.partition("filename=")[2].strip('"').replace('\\"', '"')
        )
        assert saved == expected
    with urllib.request.urlopen(f"{served}masks.zip") as sent:
        names = zipfile.ZipFile(io.BytesIO(sent.read())).namelist()
    assert names == [name.replace("\u2028", "_") for name in NAMES]


def rfc5987(header: str) -> str:
    return unquote(header.partition("filename*=UTF-8''")[2])


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


def test_uploads_are_limited_by_number_bytes_and_time(served: str, monkeypatch: pytest.MonkeyPatch) -> None:
    host = served.removeprefix("http://").rstrip("/")
    picture = [("image", "a.png", png(disc()[0]))]
    for limits in ({"MOST_UPLOADS": 2}, {"MOST_PENDING_BYTES": 3000}):
        with monkeypatch.context() as limited, contextlib.ExitStack() as connections:
            for name, value in limits.items():
                limited.setattr(web, name, value)
            for _ in range(2):
                connections.enter_context(begun(host, 1400))
            wait(lambda: upload(host, "/segment", picture) == (503, BUSY))
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
    with serving(bundle) as address:
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
    monkeypatch.setattr(web, "MOST_PIXELS", 4000)
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


@contextlib.contextmanager
def serving(bundle: Path) -> Iterator[str]:
    server = PageServer(LOCAL, 0, new_app(Segmenter.load(bundle), LOCAL))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://{LOCAL}:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def served(bundle: Path) -> Iterator[str]:
    with serving(bundle) as address:
        yield address


def test_from_upload_to_download_in_a_browser(served: str, tmp_path: Path) -> None:
    image, mask = disc(side=120, middle=(60, 60))
    Image.fromarray(image).save(tmp_path / "support.png")
    names = ["first.png", "second.png"]
    queries = [disc(side=90, middle=(40, 30 + 15 * number)) for number in range(2)]
    for name, (query, _) in zip(names, queries, strict=True):
        Image.fromarray(query).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with browsed(served) as page:
        assert page.locator("#go").is_disabled()
        page.locator("#supports").set_input_files(tmp_path / "support.png")
        page.locator("#painter").wait_for()
        box = page.locator("#paint").bounding_box()
        page.locator("#size").fill("30")
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.down()
        for turn in np.linspace(0, 12, 40):  # a spiral over the disc
            radius = box["width"] / 4 * 0.8 * turn / 12
            x, y = radius * np.cos(turn), radius * np.sin(turn)
            page.mouse.move(box["x"] + box["width"] / 2 + x, box["y"] + box["height"] / 2 + y)
        page.mouse.up()
        share = float(page.locator("#painted").inner_text().split()[0])
        assert 100 * mask.mean() * 0.6 < share < 100 * mask.mean() * 1.5
        page.locator("#queries").set_input_files([*(tmp_path / name for name in names), tmp_path / "broken.png"])
        page.locator("#go").click()
        page.locator("#state", has_text="broken.png: not a picture").wait_for()
        assert page.locator("#results figure").count() == 2
        for name, (query, truth) in zip(names, queries, strict=True):
            with page.expect_download() as event:
                page.locator(f"#results a[download='{name}']").click()
            event.value.save_as(tmp_path / "got" / name)
            found = np.array(Image.open(tmp_path / "got" / name)) == 255
            assert found.shape == query.shape[:2]
            assert (found & (truth == 1)).sum() / (found | (truth == 1)).sum() > 0.5
        with page.expect_download() as event:
            page.locator("#all").click()
        with zipfile.ZipFile(event.value.path()) as archive:
            assert sorted(archive.namelist()) == names
        assert [note for note in page.noted if not note.startswith((served, "data:", "blob:"))] == [
            note for note in page.noted if "422" in note
        ]


def test_a_mask_may_come_from_a_file(served: str, tmp_path: Path) -> None:
    image, mask = disc(side=120, middle=(60, 60))
    Image.fromarray(image).save(tmp_path / "support.png")
    Image.fromarray(mask).save(tmp_path / "ones.png")
    Image.fromarray(mask[:50]).save(tmp_path / "small.png")
    Image.fromarray(disc(side=90, middle=(40, 45))[0]).save(tmp_path / "query.png")
    with browsed(served) as page:
        page.locator("#supports").set_input_files(tmp_path / "support.png")
        page.locator("#painter").wait_for()
        page.locator("#mask").set_input_files(tmp_path / "small.png")
        page.locator("#state", has_text="small.png: is 120×50 px, its picture 120×120").wait_for()
        page.locator("#mask").set_input_files(tmp_path / "ones.png")
        page.locator("#state", has_text="ones.png is the mask of support.png").wait_for()
        assert page.locator("#painted").inner_text() == f"{100 * mask.mean():.1f} % painted"
        page.set_viewport_size({"width": 320, "height": 700})
        page.wait_for_function("document.documentElement.scrollWidth <= 320")
        page.locator("#queries").set_input_files(tmp_path / "query.png")
        page.locator("#go").click()
        page.locator("#results figure").wait_for()
