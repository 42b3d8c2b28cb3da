"""Draws by counting: the same for a key in any batch, and like noise."""

from __future__ import annotations

import numpy as np
import torch

from novelseg.ops import draws

CPU = torch.device("cpu")


def slow_mix(value: int) -> int:
    """One 32-bit hash with Python's integers."""
    value ^= value >> 16
    value = value * 0x7FEB352D & 0xFFFFFFFF
    value ^= value >> 15
    value = value * 0x846CA68B & 0xFFFFFFFF
    return value ^ value >> 16


def test_the_hash_is_that_of_whole_numbers() -> None:
    values = [0, 1, 2, 12345, 2**31 - 1, 2**31, 2**32 - 1]
    found = draws.mix(draws.to_keys(values, CPU)).long() & 0xFFFFFFFF
    assert found.tolist() == [slow_mix(value) for value in values]
    assert len(set(found.tolist())) == len(values)


def test_a_key_draws_the_same_in_any_company_and_any_length() -> None:
    keys, counted = draws.to_keys([5, 2**40 + 7, 9], CPU), draws.counters(100, CPU)
    together = draws.uniform(keys, counted)
    for row in range(3):
        assert torch.equal(together[row, :50], draws.uniform(keys[row : row + 1], counted[:50])[0])


def test_draws_look_like_noise() -> None:
    keys = torch.cat([draws.branch(draws.to_keys([1, 2], CPU), step) for step in range(8)])
    counted = draws.counters(20_000, CPU)
    values = draws.uniform(keys, counted).double().numpy()
    assert abs(values.mean() - 0.5) < 0.003
    assert abs(values.var() - 1 / 12) < 0.002
    # Neither two keys nor neighbouring counters go together: 16 × 20,000 draws, five standard errors.
    assert np.abs(np.corrcoef(values) - np.eye(len(keys))).max() < 5 / 20_000**0.5
    assert abs(np.corrcoef(values[:, 1:].ravel(), values[:, :-1].ravel())[0, 1]) < 5 / 320_000**0.5
    bytes_ = draws.octets(keys, counted)
    assert bytes_.shape == (16, 80_000)
    share = torch.bincount(bytes_.flatten().long(), minlength=256) / bytes_.numel()
    assert float((share * 256 - 1).abs().max()) < 0.08
    assert 0 <= values.min() < values.max() < 1
