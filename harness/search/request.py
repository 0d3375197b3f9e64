"""The input of a search (queries, a part of the corpus, settings) and its result (ranked rows of the corpus).

Shape letters in all files of this folder:
    Q  queries, equal on every rank          R  queries searched at a time
    C  corpus rows of a shard or of a tile   E  entries of a list of (query, corpus row) pairs
    K  candidates per query                  H  columns kept for the exact scores, at least K
    D  embedding dimensions                  W  ranks
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from harness import comm
from harness.data.ragged import expand_ranges

LARGEST_NORM = 1e18  # the inner product of two rows shorter than this does not overflow float32
Pairs = tuple[np.ndarray, np.ndarray]  # query_E and corpus_row_E, int64, in any order


@dataclass(frozen=True, slots=True)
class CorpusShard:
    """This rank's rows of the corpus: rows first … first + C - 1, float32 [C, D]; C may be 0."""

    first: int
    row_CD: Tensor

    def __len__(self) -> int:
        return len(self.row_CD)


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Per query, the best rows of the whole corpus, best first; for equal scores the lower row comes first."""

    index_QK: np.ndarray  # int64, -1 padded
    score_QK: np.ndarray  # float32, -inf padded

    def __len__(self) -> int:
        return len(self.index_QK)


class ShardSearch(Protocol):
    """Finds candidates in this rank's shard. Every rank must call it with the same queries."""

    @property
    def request(self) -> SearchRequest: ...

    def __call__(self, row_R: np.ndarray) -> tuple[Tensor, Tensor]:
        """Corpus rows int64 [R, K] and scores float32 [R, K] of the queries `row_R` (positions); see `SearchResult`."""
        ...


@dataclass(frozen=True)
class SearchRequest:
    """A search for the k corpus rows with the highest inner product per query (for unit rows, the cosine).

    query_QD: float32, equal on every rank. excluded: (query, row of the whole corpus) pairs that the result must not
    contain; rows beyond the end of the corpus are ignored. highest_Q: float32; results have scores below it.
    The search runs on the shard's device; queries are copied there block by block.
    """

    query_QD: Tensor
    shard: CorpusShard
    k: int
    excluded: Pairs | None = None
    highest_Q: np.ndarray | None = None

    @property
    def device(self) -> torch.device:
        return self.shard.row_CD.device

    @cached_property
    def largest_norm(self) -> float:
        """The largest norm of a row of the shard; 0 for an empty shard, not finite if a row is not finite."""
        norm_C = torch.linalg.vector_norm(self.shard.row_CD, dim=1)
        return float(norm_C.max()) if len(norm_C) else 0.0

    @cached_property
    def _excluded_here(self) -> tuple[np.ndarray, np.ndarray]:
        """The pairs of `excluded` in this shard, sorted by query: start_Q1 [Q + 1], and column_E within the shard."""
        query_E, row_E = self.excluded if self.excluded is not None else (np.empty(0, np.int64),) * 2
        column_E = row_E - self.shard.first
        in_shard_E = (column_E >= 0) & (column_E < len(self.shard))
        query_E, column_E = query_E[in_shard_E], column_E[in_shard_E]
        count_Q = np.bincount(query_E, minlength=len(self.query_QD))
        return np.concatenate([[0], np.cumsum(count_Q)]), column_E[np.argsort(query_E, kind="stable")]

    def queries(self, row_R: np.ndarray) -> Tensor:
        """The queries at positions `row_R`, float32 [R, D], on the shard's device."""
        return self.query_QD[torch.from_numpy(row_R).to(self.query_QD.device)].to(self.device)

    def highest(self, row_R: np.ndarray) -> Tensor:
        """The limits of the queries at positions `row_R`, float32 [R]; infinite without `highest_Q`."""
        if self.highest_Q is None:
            return torch.full((len(row_R),), torch.inf, device=self.device)
        return torch.as_tensor(self.highest_Q[row_R], dtype=torch.float32, device=self.device)

    def excluded_columns(self, row_R: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The excluded (position in `row_R`, column of the shard) pairs of the queries `row_R`, sorted by position."""
        start_Q1, column_E = self._excluded_here
        owner_E, entry_E = expand_ranges(start_Q1[row_R], start_Q1[row_R + 1])
        return owner_E, column_E[entry_E]

    def check(self) -> None:
        """Check the requests of all ranks. Every rank must call this, and all ranks raise the same error.

        Raises:
            ValueError: the request of any rank is invalid, or the requests do not fit together. The message names the
                argument, the rank, the value and the allowed values.
        """
        facts = (len(self.query_QD), self.k, self.shard.row_CD.shape[-1], self.shard.first, len(self.shard))
        gathered = comm.gather_objects((self._problem(), facts))
        for rank, (problem, _) in enumerate(gathered):
            if problem:
                raise ValueError(f"rank {rank}: {problem}")
        first = 0
        for rank, (_, other) in enumerate(gathered):
            if other[:3] != gathered[0][1][:3]:
                sizes_0, sizes = gathered[0][1][:3], other[:3]
                raise ValueError(f"Q, k, D: got {sizes} on rank {rank} and {sizes_0} on rank 0, expected equal ones")
            if other[3] != first:
                raise ValueError(
                    f"shard.first: got {other[3]} on rank {rank}, expected {first}; shards follow each other by rank"
                )
            first += other[4]

    def _problem(self) -> str | None:
        query_QD, row_CD, highest_Q = self.query_QD, self.shard.row_CD, self.highest_Q
        if query_QD.dtype != torch.float32 or row_CD.dtype != torch.float32:
            return f"query_QD, shard.row_CD: got {query_QD.dtype} and {row_CD.dtype}, expected float32"
        if query_QD.ndim != 2 or row_CD.ndim != 2 or query_QD.shape[1] != row_CD.shape[1] or not query_QD.shape[1]:
            shapes = f"{tuple(query_QD.shape)} and {tuple(row_CD.shape)}"
            return f"query_QD, shard.row_CD: got shapes {shapes}, expected [Q, D] and [C, D] with D > 0"
        if self.k < 1:
            return f"k: got {self.k}, expected at least 1"
        if not self.largest_norm < LARGEST_NORM:
            return f"shard.row_CD: got a row of length {self.largest_norm}, expected finite ones below {LARGEST_NORM:g}"
        if self.excluded is not None:
            query_E, row_E = self.excluded
            if query_E.shape != row_E.shape or query_E.ndim != 1:
                return f"excluded: got shapes {query_E.shape} and {row_E.shape}, expected two lists of one length"
            if len(query_E) and not 0 <= query_E.min() <= query_E.max() < len(query_QD):
                worst = query_E.min() if query_E.min() < 0 else query_E.max()
                return f"excluded: got query {worst}, expected 0 … {len(query_QD) - 1}"
        if highest_Q is not None and (highest_Q.shape != (len(query_QD),) or np.isnan(highest_Q).any()):
            return f"highest_Q: got shape {highest_Q.shape} or NaN, expected [{len(query_QD)}] without NaN"
        return None
