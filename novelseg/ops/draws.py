"""Counter-based random numbers for many keys at once: draw n of a key is a hash of (key, n).

The numbers do not depend on the batch. They are the same on a CPU and on a GPU, because 32-bit integer arithmetic
overflows in the same way on both.
"""

from __future__ import annotations

import torch
from torch import Tensor

# A bijective hash of 32 bits, in which each input bit flips each output bit with a probability near one half: rounds of
# xor-shift and multiplication, with the multipliers that C. Wellons found by search ("lowbias32").
SHIFTS, MULTIPLIERS = (16, 15, 16), (0x7FEB352D, 0x846CA68B - (1 << 32))
GOLDEN = 0x9E3779B9 - (1 << 32)  # 2³² / golden ratio: multiples of it are far apart for consecutive counters


def mix(values: Tensor, scratch: Tensor | None = None) -> Tensor:
    """Hash int32 values in place; ``scratch``, a tensor of the same shape, is overwritten."""
    shifted = torch.empty_like(values) if scratch is None else scratch
    for shift, multiplier in zip(SHIFTS, (*MULTIPLIERS, 1), strict=True):
        torch.bitwise_right_shift(values, shift, out=shifted)
        values ^= shifted.bitwise_and_((1 << (32 - shift)) - 1)  # clear the copies of the sign bit
        if multiplier != 1:
            values *= multiplier
    return values


def to_keys(seeds: list[int], device: torch.device) -> Tensor:
    """Convert seeds of any size to int32 keys, (B,)."""
    low = torch.tensor([seed & 0xFFFFFFFF for seed in seeds], dtype=torch.int64)
    return torch.where(low < 1 << 31, low, low - (1 << 32)).to(torch.int32).to(device)


def branch(keys: Tensor, number: int) -> Tensor:
    """Derive from each key, (B,), the key for the purpose or step ``number``, (B,)."""
    return mix(keys + mix(torch.full_like(keys, number)))


def counters(count: int, device: torch.device) -> Tensor:
    """Return the hashed counters 0…count−1, (count,) int32, which all keys share."""
    return mix(torch.arange(count, dtype=torch.int32, device=device) * GOLDEN)


def words(keys: Tensor, hashed: Tensor) -> Tensor:
    """Return 32 random bits for each key (B,) and hashed counter (N,), as (B, N) int32."""
    return mix(keys[:, None] + hashed)


def uniform(keys: Tensor, hashed: Tensor) -> Tensor:
    """Return numbers in [0, 1) with 24 random bits, (B, N) float32."""
    return ((words(keys, hashed) >> 8) & 0xFFFFFF).float() / (1 << 24)


def octets(keys: Tensor, hashed: Tensor, buffer: Tensor | None = None) -> Tensor:
    """Return random numbers 0…255, four per counter, (B, 4·N) uint8.

    If ``buffer``, (2, B, N) int32, is given, it is overwritten, and the result is a view of it.
    """
    if buffer is None:
        buffer = torch.empty((2, len(keys), len(hashed)), dtype=torch.int32, device=keys.device)
    torch.add(keys[:, None], hashed, out=buffer[0])
    return mix(buffer[0], buffer[1]).view(torch.uint8)
