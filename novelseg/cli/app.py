"""Serve a local page: paint objects on a few pictures, find them in others, correct the masks, and export them.

Reads
    a bundle of ``novelseg export``, or pretrained weights.
Writes
    nothing but temporary files of an export: the server has pictures in memory only while it works on them, and the
    browser keeps them in its own storage. The page needs Flask and the region hierarchy, which the extra ``[app]``
    installs. It can be reached from this machine only, unless ``--host`` is another address.
"""

from __future__ import annotations

from typing import Annotated

from novelseg.cli.options import Bundle, Device, Side, Stem, Threads, Variant, Weights
from novelseg.core.compute import use_threads
from novelseg.core.errors import InputError
from novelseg.core.options import Help
from novelseg.core.progress import say
from novelseg.inference.opening import open_segmenter
from novelseg.inference.segmenter import SIDE_PX
from novelseg.methods.variants import CLOSED_FORM


def run(
    *,
    bundle: Bundle = None,
    weights: Weights = "",
    stem: Stem = "",
    host: Annotated[str, Help("address to listen on; by default, only this machine can connect")] = "127.0.0.1",
    port: Annotated[int, Help("port to listen on; 0: any free port")] = 8765,
    variant: Variant = CLOSED_FORM,
    side: Side = SIDE_PX,
    device: Device = "auto",
    threads: Threads = 0,
) -> None:
    """Serve the page until interrupted."""
    from novelseg.inference.web import PageServer, is_bound_to_loopback, names_of, new_app

    if not 0 <= port < 1 << 16:
        raise InputError(f"--port is {port}; expected 0 (any free port) to {(1 << 16) - 1}")
    use_threads(threads)
    segmenter = open_segmenter(
        bundle=bundle, weights=weights or None, stem=stem, variant=variant, side=side, device=device
    )
    app = new_app(segmenter, host)
    try:
        server = PageServer(host, port, app)
    except (OSError, SystemExit):
        raise InputError(
            f"{host}:{port} cannot be opened; --host must be an address of this machine, and --port 0 finds a free port"
        ) from None
    if not is_bound_to_loopback(host):
        say(f"warning: anyone who can connect to {host or 'this machine'} can use the page")
        say(f"the page opens under an address of this machine, or as {', '.join(sorted(names_of(host) - {''}))}")
    address = f"[{host}]" if ":" in host else host
    say(f"http://{address}:{server.server_port}/  (press Ctrl-C to stop)")
    try:
        server.serve_forever()
    finally:
        server.server_close()
