"""A page on this machine: paint a mask on a picture, drop others, see and download their masks.

Reads
    a bundle of ``export``.
Writes
    nothing: pictures and masks stay in memory and go when the command ends. Needs the extra ``[app]`` (Flask). Only
    this machine can reach the page, unless ``--host`` says otherwise.
"""

from __future__ import annotations

from pathlib import Path

from stages.core.compute import use_threads
from stages.core.errors import InputError
from stages.core.progress import say
from stages.evaluation.variants import REFINED
from stages.inference.segmenter import SIDE_PX, Segmenter


def run(
    *,
    bundle: Path,
    host: str = "127.0.0.1",
    port: int = 8765,
    variant: str = REFINED,
    side: int = SIDE_PX,
    device: str = "auto",
    threads: int = 0,
) -> None:
    """Serve the page until interrupted; port 0 takes a free one."""
    try:
        from werkzeug.serving import make_server

        from stages.inference.web import is_bound_to_loopback, new_app
    except ModuleNotFoundError as error:
        raise InputError(
            f"the page needs {error.name}, which is missing; run `pip install -e '.[app]'` in the project's folder"
        ) from None
    if not 0 <= port < 1 << 16:
        raise InputError(f"--port is {port}; expected 0 (any free one) to {(1 << 16) - 1}")
    use_threads(threads)
    app = new_app(Segmenter.load(bundle, variant=variant, side=side, device=device), host)
    try:
        server = make_server(host, port, app, threaded=True)
    except (OSError, SystemExit):
        raise InputError(
            f"{host}:{port} cannot be had; another --port, or 0, finds a free one, and --host must be this machine's"
        ) from None
    if not is_bound_to_loopback(host):
        say(f"warning: whoever reaches {host or 'this machine'} over the network can use the page and load its masks")
    shown = f"[{host}]" if ":" in host else host
    say(f"http://{shown}:{server.server_port}/  (Ctrl-C ends it)")
    try:
        server.serve_forever()
    finally:
        server.server_close()
