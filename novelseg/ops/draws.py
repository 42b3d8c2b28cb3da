"""Random numbers of many keys at once, by counting: draw n of a key is a hash of (key, n), on any device, in any batch.

32-bit integer arithmetic wraps alike everywhere, so that a CPU and a GPU draw the same.
"""

from __future__ import annotations

import torch
from torch import Tensor

# A bijective mix of 32 bits, every input bit of which flips each output bit with a chance near one half:
# two rounds of xor-shift and multiply, the multipliers those of C. Wellons' search ("lowbias32").
SHIFTS, MULTIPLIERS = (16, 15, 16), (0x7FEB352D, 0x846CA68B - (1 << 32))
GOLDEN = 0x9E3779B9 - (1 << 32)  # 2³² over the golden ratio: consecutive counters lie far apart


def mix(values: Tensor, spare: Tensor | None = None) -> Tensor:
    """Hash int32 values in place; ``spare`` is room of the same shape, to be written over."""
    shifted = torch.empty_like(values) if spare is None else spare
    for shift, multiplier in zip(SHIFTS, (*MULTIPLIERS, 1), strict=True):
        torch.bitwise_right_shift(values, shift, out=shifted)
        values ^= shifted.bitwise_and_((1 << (32 - shift)) - 1)  # the shift copies the sign: cut it off
        if multiplier != 1:
            values *= multiplier
    return values


def to_keys(seeds: list[int], device: torch.device) -> Tensor:
    """Seeds of any size to int32 keys, (B,)."""
    low = torch.tensor([seed & 0xFFFFFFFF for seed in seeds], dtype=torch.int64)
    return torch.where(low < 1 << 31, low, low - (1 << 32)).to(torch.int32).to(device)


def branch(keys: Tensor, number: int) -> Tensor:
    """Keys of a further purpose or step, (B,)."""
    return mix(keys + mix(torch.full_like(keys, number)))


def counters(count: int, device: torch.device) -> Tensor:
    """Hashed counters 0…count−1, int32; made once, used for all keys."""
    return mix(torch.arange(count, dtype=torch.int32, device=device) * GOLDEN)


def words(keys: Tensor, counted: Tensor) -> Tensor:
    """32 random bits of each key and counter: (B,) and (N,) to (B, N) int32."""
    return mix(keys[:, None] + counted)


def uniform(keys: Tensor, counted: Tensor) -> Tensor:
    """Numbers in [0, 1) with 24 random bits: (B, N) float32."""
    return ((words(keys, counted) >> 8) & 0xFFFFFF).float() / (1 << 24)


def octets(keys: Tensor, counted: Tensor, room: Tensor | None = None) -> Tensor:
    """Numbers 0…255, four to a counter: (B, 4·N) uint8; ``room``, (2, B, N) int32, is written over and holds them."""
    if room is None:
        room = torch.empty((2, len(keys), len(counted)), dtype=torch.int32, device=keys.device)
    torch.add(keys[:, None], counted, out=room[0])
    return mix(room[0], room[1]).view(torch.uint8)
