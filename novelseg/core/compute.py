"""Choice of device, memory and threads, which change results only by rounding."""

from __future__ import annotations

import torch

from novelseg.core.errors import InputError


def pick_device(name: str) -> torch.device:
    """Return the torch device for ``auto``, ``cpu`` or ``cuda``.

    Raises
    ------
    InputError
        If the name is none of these, or is ``cuda`` on a machine without a CUDA device.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device is '{name}'; expected auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device is cuda, but this machine has no CUDA device; use cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def memory_budget(device: torch.device, requested_mb: int) -> int:
    """Return the number of bytes that cached data may take on a device.

    This is the requested size; without a request (0) it is 4 GiB on a CPU, and half of the free memory on a GPU.

    Raises
    ------
    InputError
        If the requested size is negative.
    """
    if requested_mb < 0:
        raise InputError(f"--memory-mb is {requested_mb}; expected a size in MiB, or 0 for the default")
    if requested_mb or device.type != "cuda":
        return requested_mb << 20 or 4 << 30
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # cached by PyTorch
    return (torch.cuda.mem_get_info(device)[0] + unused) // 2


def use_threads(count: int) -> None:
    """Set the number of threads that PyTorch uses on the CPU; 0 keeps its default."""
    if count > 0:
        torch.set_num_threads(count)
