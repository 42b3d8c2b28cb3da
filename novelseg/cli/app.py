"""A page on this machine: paint a mask on a picture, drop others, see and download their masks.

Reads
    a bundle of ``export``.
Writes
    nothing: pictures and masks stay in memory and go when the command ends. Needs the extra ``[app]`` (Flask). Only
    this machine can reach the page, unless ``--host`` says otherwise.
"""

from __future__ import annotations

from typing import Annotated

from novelseg.cli.options import Bundle, Device, Side, Threads, Variant
from novelseg.core.compute import use_threads
from novelseg.core.errors import InputError
from novelseg.core.options import Help
from novelseg.core.progress import say
from novelseg.inference.segmenter import SIDE_PX, Segmenter
from novelseg.methods.variants import REFINED


def run(
    *,
    bundle: Bundle,
    host: Annotated[str, Help("address to listen on; the default reaches this machine alone")] = "127.0.0.1",
    port: Annotated[int, Help("port to listen on; 0: any free one")] = 8765,
    variant: Variant = REFINED,
    side: Side = SIDE_PX,
    device: Device = "auto",
    threads: Threads = 0,
) -> None:
    """Serve the page until interrupted; port 0 takes a free one."""
    try:
        from werkzeug.serving import make_server

        from novelseg.inference.web import is_bound_to_loopback, new_app
    except ModuleNotFoundError as error:
        raise InputError(f"the page needs {error.name}, which is missing; run `pip install 'novelseg[app]'`") from None
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
