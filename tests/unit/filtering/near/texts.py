"""Random texts, and similarities by Python's own sets."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from harness.filtering.config import FilterConfig
from harness.filtering.duplicates import pair_text
from harness.filtering.near.find import Compared, NearDuplicates

Pair = tuple[str, str]


def some_text(seed: int, length: int = 200) -> str:
    return "".join(random.Random(seed).choices("abcdefghij", k=length))


def changed(text: str, share: float, seed: int) -> str:
    """The text with this share of its characters, in one place, replaced."""
    length = round(len(text) * share)
    first = random.Random(seed).randrange(len(text) - length + 1)
    return text[:first] + some_text(seed, length) + text[first + length :]


def jaccard(left: str, right: str, width: int = 5) -> float:
    sets = [shingles(text, width) for text in (left, right)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


@cache
def shingles(text: str, width: int) -> frozenset[str]:
    return frozenset(text[i : i + width] for i in range(max(1, len(text) - width + 1)))


def similarity(left: Pair, right: Pair) -> float:
    return min(jaccard(one, other) for one, other in zip(left, right, strict=True))


def repeats_by_all_pairs(pairs: Sequence[Pair], threshold: float) -> list[bool]:
    """Each pair compared with every earlier kept pair."""
    kept: list[Pair] = []
    repeated = []
    for pair in pairs:
        repeated.append(any(similarity(other, pair) >= threshold for other in kept))
        if not repeated[-1]:
            kept.append(pair)
    return repeated


def find(folder: Path, pairs: Sequence[Pair], config: FilterConfig) -> tuple[list[bool], Compared]:
    texts = [pair_text(*pair) for pair in pairs]

    def read(pair_E: np.ndarray) -> list[str]:
        return [texts[i] for i in pair_E.tolist()]

    repeated, compared = NearDuplicates(folder, len(texts), config, read, lambda *_: None).find()
    return repeated.tolist(), compared
