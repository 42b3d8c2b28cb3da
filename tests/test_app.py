"""The local page: its server, and the whole way from upload to download in a real browser."""

from __future__ import annotations

import io
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.serving import make_server

from novelseg import Segmenter
from novelseg.cli.main import main
from novelseg.inference.web import is_bound_to_loopback, is_loopback, new_app
from tests.browser import browsed
from tests.makers import disc

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
        ("/fit", [("image", disc()[0], "a.png"), ("mask", 0 * disc()[1], "m.png")], "a.png: the mask has no object"),
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
    assert everywhere.get("/", headers={"Host": "box.example"}).status_code == 200


def test_a_port_in_use_is_told(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server = make_server(LOCAL, 0, new_app(Segmenter.load(bundle), LOCAL))
    try:
        assert main(["app", "--bundle", str(bundle), "--port", str(server.server_port)]) == 2
    finally:
        server.server_close()
    assert f"{LOCAL}:{server.server_port} cannot be opened" in capsys.readouterr().err
    assert main(["app", "--bundle", str(bundle), "--port", "70000"]) == 2
    assert "--port is 70000; expected 0 (any free port) to 65535" in capsys.readouterr().err


@pytest.fixture
def served(bundle: Path) -> Iterator[str]:
    server = make_server(LOCAL, 0, new_app(Segmenter.load(bundle), LOCAL), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://{LOCAL}:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


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
