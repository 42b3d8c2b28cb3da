"""Where a stage computes: device and threads. Neither changes a result beyond rounding."""

from __future__ import annotations

import torch

from novelseg.core.errors import InputError


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


def memory_budget(device: torch.device, asked_mb: int) -> int:
    """Bytes that cached data may take on a device: what was asked for, or 4 GiB, or half of what a GPU has free.

    Raises
    ------
    InputError
        If less than nothing is asked for.
    """
    if asked_mb < 0:
        raise InputError(f"--memory-mb is {asked_mb}; expected MiB, or 0 for a default")
    if asked_mb or device.type != "cuda":
        return asked_mb << 20 or 4 << 30
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # PyTorch's own, to be had again
    return (torch.cuda.mem_get_info(device)[0] + unused) // 2


def use_threads(count: int) -> None:
    """Let torch use ``count`` threads on the CPU; 0 leaves its own choice."""
    if count > 0:
        torch.set_num_threads(count)
