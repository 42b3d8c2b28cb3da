"""Random generators keyed by purpose, independent of global state and of the order of calls.

A key such as ``(seed, "augment", iteration)`` always gives the same stream, so that resuming, batching and the number
of workers do not change results.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

Key = int | str


def key_to_seed(*key: Key) -> int:
    """Hash a key to a 63-bit seed; equal keys give equal seeds on every machine."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in key)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def numpy_generator(*key: Key) -> np.random.Generator:
    """Create the NumPy generator (PCG64) of a key."""
    return np.random.Generator(np.random.PCG64(key_to_seed(*key)))


def torch_generator(*key: Key, device: str | torch.device = "cpu") -> torch.Generator:
    """Create the torch generator of a key."""
    import torch  # imported here so that stages without a network start faster

    return torch.Generator(device=device).manual_seed(key_to_seed(*key))


@contextmanager
def new_layers(*key: Key) -> Iterator[None]:
    """Initialise the layers that are created in the block from a key, then restore the global generator."""
    import torch

    with torch.random.fork_rng(devices=[]):
        # Only the CPU's generator is seeded, because layers are created on the CPU.
        torch.default_generator.manual_seed(key_to_seed(*key))
        yield
