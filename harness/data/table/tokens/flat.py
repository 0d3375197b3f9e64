"""The token ids of many texts as one flat array, without a Python object for each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from harness.data.ragged import expand_ranges
from harness.data.table.identity import hash_of_ids


@dataclass(frozen=True, slots=True)
class FlatTokens:
    """The ids of text n are `ids_E[start_N[n] : start_N[n] + length_N[n]]`."""

    ids_E: np.ndarray  # int32
    length_N: np.ndarray  # int64, tokens of each text
    prompt_tokens_N: np.ndarray | None = None  # int32, how many of them are not pooled; None: all are pooled

    @classmethod
    def of_rows(cls, rows: Sequence[Sequence[int]]) -> FlatTokens:
        """From a list of ids for each text; rows may count their `prompt_tokens`."""
        length_N = np.fromiter(map(len, rows), np.int64, len(rows))
        ids_E = np.fromiter(chain.from_iterable(rows), np.int32, int(length_N.sum()))
        prompts = [getattr(row, "prompt_tokens", None) for row in rows]
        known = any(count is not None for count in prompts)
        return cls(ids_E, length_N, np.array([count or 0 for count in prompts], np.int32) if known else None)

    @classmethod
    def joined(cls, parts: Sequence[FlatTokens], order: np.ndarray) -> FlatTokens:
        """The texts of all parts, one part after another, then text `order[n]` of these as text n."""
        length_N = np.concatenate([part.length_N for part in parts])
        everything = cls(np.concatenate([part.ids_E for part in parts]), length_N)
        start_N = everything.start_N
        _, place_E = expand_ranges(start_N[order], (start_N + length_N)[order])
        prompts = None
        if any(part.prompt_tokens_N is not None for part in parts):
            counts = [np.zeros(len(p.length_N), np.int32) if (c := p.prompt_tokens_N) is None else c for p in parts]
            prompts = np.concatenate(counts)[order]
        return cls(everything.ids_E[place_E], length_N[order], prompts)

    @property
    def start_N(self) -> np.ndarray:
        """Where each text begins, int64."""
        return np.cumsum(self.length_N) - self.length_N

    def hashes(self) -> np.ndarray:
        """The token hash of each text, uint64; see `identity.token_hash`."""
        ids = np.ascontiguousarray(self.ids_E, dtype=np.int32).data
        starts, lengths = self.start_N.tolist(), self.length_N.tolist()
        prompts = [0] * len(lengths) if self.prompt_tokens_N is None else self.prompt_tokens_N.tolist()
        each = (
            hash_of_ids(ids[start : start + length], prompt)
            for start, length, prompt in zip(starts, lengths, prompts, strict=True)
        )
        return np.fromiter(each, np.uint64, len(lengths))
