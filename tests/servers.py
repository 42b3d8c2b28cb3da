"""A real HTTP server on this machine that does what bad networks do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Site:
    """Files by name, and how they are served.

    Attributes
    ----------
    files
        Content by name.
    cuts
        Bytes after which each of the next replies is cut off, in order.
    answers
        Status codes that the next requests get instead of the file.
    ranges
        Whether the server goes on within a file; ``wrong`` gives another part than asked for, ``star`` does not tell
        the size of the whole.
    told
        Whether replies say how long they are.
    page
        Whether it sends a login page instead of any file.
    slice
        Bytes that a part holds at most; 0 for all that is left.
    encoding
        What it calls the encoding of the content.
    asked
        Byte positions from which files were asked for, in order.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.address = dict(files), ""
        self.cuts: list[int] = []
        self.answers: list[int] = []
        self.ranges: bool | str = True
        self.told, self.page = True, False
        self.slice, self.encoding = 0, ""
        self.asked: list[int] = []

    def reply(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        start = int(handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        self.asked.append(start)
        if self.answers:
            handler.send_error(self.answers.pop(0))
            return
        if self.page:
            handler.send_response(200)
            handler.send_header("Content-Type", "text/html; charset=utf-8")
            handler.end_headers()
            handler.wfile.write(b"<html>Welcome</html>")
            return
        content = self.files.get(handler.path.rpartition("/")[2])
        if content is None:
            handler.send_error(404)
            return
        size = len(content)
        if self.ranges and start >= size > 0 and start:
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{size}")
            handler.end_headers()
            return
        if self.ranges and start:
            first, whole = 1 if self.ranges == "wrong" else start, "*" if self.ranges == "star" else size
            handler.send_response(206)
            content = content[first : first + self.slice if self.slice else size]
            handler.send_header("Content-Range", f"bytes {first}-{first + len(content) - 1}/{whole}")
        else:
            handler.send_response(200)
        if self.encoding:
            handler.send_header("Content-Encoding", self.encoding)
        if self.told:
            handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        with suppress(ConnectionError):  # the other side may have had enough
            handler.wfile.write(content[: self.cuts.pop(0)] if self.cuts else content)


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    """Serve a site until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.reply(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        site.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))  # seconds between looks for the end
        thread.start()
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()
