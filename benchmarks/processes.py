"""Measurements in processes of their own, so that each has its own peak memory."""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Callable
from typing import Any


def in_process(measure: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a new process and return what it returns."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_send, args=(sender, measure, arguments))
    process.start()
    while not receiver.poll(1):
        if not process.is_alive():
            raise SystemExit(f"the process of {measure.__name__}{arguments} ended with exit code {process.exitcode}")
    result = receiver.recv()
    process.join()
    return result


def _send(pipe: Any, measure: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    pipe.send(measure(*arguments))


def peak_mib() -> float:
    """Return the peak memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
