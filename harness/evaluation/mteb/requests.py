"""What all ranks do together for mteb: embed texts, hold a share of the documents each, and search them.

mteb itself runs on rank 0 only, so nothing here imports it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness import comm
from harness.prompts import Prompts
from harness.search.cosine import Share, nearest_by_cosine
from harness.search.encode import TextEncoder, encode_each_once, encode_on_main
from harness.search.request import SearchResult
from harness.search.unit_rows import unit_rows
from harness.types import EncodingRole


@dataclass(frozen=True, slots=True)
class Encode:
    """Embeddings of all texts, for rank 0."""

    texts: Sequence[str]
    role: EncodingRole
    prompt: str


@dataclass(frozen=True, slots=True)
class AddDocuments:
    """Documents that follow the ones added before; each rank embeds and keeps its share of them."""

    texts: Sequence[str]
    prompt: str


@dataclass(frozen=True, slots=True)
class Search:
    """The k nearest of the documents added since the last search, as positions in the order of their adding."""

    texts: Sequence[str]
    prompt: str
    k: int


class Ranks:
    """Serves requests; every rank must be given the same ones in the same order.

    normalize: whether the model's folder ends with embeddings of length 1. dim: how many of their first dimensions are
    used, as `truncate_dim` of sentence-transformers: without normalising again; None: all.
    """

    def __init__(self, encode: TextEncoder, *, normalize: bool, dim: int | None = None) -> None:
        self._encode, self._normalize, self._dim = encode, normalize, dim
        self._rows: list[np.ndarray] = []
        self._sizes: list[int] = []  # documents of each `AddDocuments`, over all ranks

    def __call__(self, request: Any) -> Any:
        if isinstance(request, Encode):
            encode = self._encode.with_prompts(_everywhere(request.prompt))
            return self._as_folder(encode_on_main(encode, request.texts, request.role))
        if isinstance(request, AddDocuments):
            return self._add(request)
        return self._search(request)

    def _as_folder(self, row_ND: np.ndarray) -> np.ndarray:
        row_ND = unit_rows(row_ND) if self._normalize else row_ND
        return row_ND[:, : self._dim]

    def _add(self, request: AddDocuments) -> None:
        own = _part(len(request.texts), comm.rank())
        encode = self._encode.with_prompts(_everywhere(request.prompt))
        row_ND = encode.encode_share(lambda numbers: [request.texts[i] for i in numbers], np.array(own), "document")
        self._rows.append(np.ascontiguousarray(row_ND[:, : self._dim]))
        self._sizes.append(len(request.texts))

    def _search(self, request: Search) -> SearchResult:
        """On rank 0; the other ranks get an empty result."""
        encode = self._encode.with_prompts(_everywhere(request.prompt))
        query_QD = encode_each_once(encode, request.texts, "query")[:, : self._dim]
        order_C = self._order()
        row_ND = np.concatenate(self._rows) if self._rows else np.empty((0, query_QD.shape[1]), np.float32)
        ranks_before = sum(len(_part(size, rank)) for size in self._sizes for rank in range(comm.rank()))
        self._rows, self._sizes = [], []
        found = nearest_by_cosine(query_QD, Share(row_ND, ranks_before, len(order_C)), request.k)
        return SearchResult(order_C[found.index_QK], found.score_QK) if comm.is_main() else found

    def _order(self) -> np.ndarray:
        """Position in the order of adding of each row, in the order in which the ranks hold them."""
        first_A = np.concatenate([[0], np.cumsum(self._sizes)]).astype(np.int64)
        parts = [
            first + np.array(_part(size, rank), dtype=np.int64)
            for rank in range(comm.world_size())
            for first, size in zip(first_A[:-1], self._sizes, strict=True)
        ]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _part(total: int, rank: int) -> range:
    ranks = comm.world_size()
    return range(total * rank // ranks, total * (rank + 1) // ranks)


def _everywhere(prompt: str) -> Prompts:
    return Prompts(prompt, prompt, prompt)
