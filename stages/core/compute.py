"""Where a stage computes: device and threads. Neither changes a result beyond rounding."""

from __future__ import annotations

import torch

from stages.core.errors import InputError


def pick_device(name: str) -> torch.device:
    """``auto``, ``cpu`` or ``cuda`` to a torch device.

    Raises
    ------
    InputError
        If the name is none of these, or a GPU is asked for and there is none.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device is '{name}'; expected auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device is cuda, but this machine has no CUDA device; use cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def use_threads(count: int) -> None:
    """Let torch use ``count`` threads on the CPU; 0 leaves its own choice."""
    if count > 0:
        torch.set_num_threads(count)
