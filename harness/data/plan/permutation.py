"""Computes the shuffled order of an epoch index by index, so that the order is never stored.

A Feistel network permutes the smallest domain [0, 2^n) that contains [0, size). An index that is mapped outside of
[0, size) goes through the network again (cycle walking). The result is a permutation of [0, size) and needs less than
two passes on average.
"""

from __future__ import annotations

import json
from typing import overload

import numpy as np
import xxhash

from harness.data.pseudo_random import mix64

NUM_ROUNDS = 10  # small domains mix few bits per round; ten rounds make every order of four elements equally likely


def derive_key(*parts: int | str) -> int:
    """xxh3_64 of the parts: equal parts give equal keys on every machine; 1 and "1" are different parts."""
    return xxhash.xxh3_64_intdigest(json.dumps(parts).encode())


@overload
def permute(index: int, size: int, key: int) -> int: ...
@overload
def permute(index: np.ndarray, size: int, key: int) -> np.ndarray: ...
def permute(index: int | np.ndarray, size: int, key: int) -> int | np.ndarray:
    """Apply the permutation of [0, size) that `key` selects to each index: int64, in the shape of `index`.

    Time and memory depend on the number of indices, not on `size`.

    Raises:
        ValueError: `size` is below 1, or an index is outside [0, size).
    """
    flat = np.asarray(index, dtype=np.int64).reshape(-1)
    if size < 1:
        raise ValueError(f"permute: got size {size}, expected at least 1")
    if flat.size and (flat.min() < 0 or flat.max() >= size):
        raise ValueError(f"permute: got an index outside [0, {size}): {flat.min()} to {flat.max()}")
    num_bits = max(1, (size - 1).bit_length())
    round_keys = [int(round_key) for round_key in mix64(np.arange(NUM_ROUNDS), key)]
    value = _feistel(flat.astype(np.uint64), num_bits, round_keys)
    outside = np.flatnonzero(value >= size)
    while outside.size:
        value[outside] = _feistel(value[outside], num_bits, round_keys)
        outside = outside[value[outside] >= size]
    result = value.astype(np.int64).reshape(np.shape(index))
    return result if isinstance(index, np.ndarray) else int(result)


def _feistel(value: np.ndarray, num_bits: int, round_keys: list[int]) -> np.ndarray:
    """A keyed permutation of [0, 2^num_bits): each round XORs one half of the bits with a hash of the other half."""
    low_bits = np.uint64((num_bits + 1) // 2)
    low_mask = np.uint64((1 << int(low_bits)) - 1)
    high_mask = np.uint64((1 << (num_bits - int(low_bits))) - 1)
    low, high = value & low_mask, value >> low_bits
    for i, round_key in enumerate(round_keys):
        if i % 2 == 0:
            low ^= mix64(high, round_key) & low_mask
        else:
            high ^= mix64(low, round_key) & high_mask
    return (high << low_bits) | low
