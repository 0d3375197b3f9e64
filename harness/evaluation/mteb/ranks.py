"""mteb runs on rank 0 and knows nothing of ranks; where it encodes and searches, rank 0 asks all ranks for help.

They embed texts, hold a share of the documents each, and search them. Nothing here imports mteb.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar

import numpy as np

from harness import comm
from harness.prompts import Prompts
from harness.rank0 import SIGN_OF_LIFE_SECONDS
from harness.search.cosine import Share, nearest_by_cosine
from harness.search.encode import TextEncoder, encode_each_once, encode_on_main
from harness.search.request import SearchResult
from harness.search.unit_rows import unit_rows
from harness.types import EncodingRole

Value = TypeVar("Value")
Ask = Callable[[Any], Any]  # a request → rank 0's answer to it


def together(work: Callable[[Ask], Value], serve: Ask) -> Value:
    """Run `work(ask)` on rank 0 and return its value on every rank; each `ask(request)` runs `serve(request)` on all.

    Every rank must call it. work: called on rank 0 only, in a thread; must not call collectives; its value is sent to
    all ranks. serve: may call collectives; rank 0's value is what `ask` returns. While rank 0 works alone, it
    gives a sign of life every second.

    Raises:
        ValueError: on the other ranks, with the message of rank 0's error. Rank 0 raises the error itself.
    """
    if comm.world_size() == 1:
        return work(serve)
    if comm.is_main():
        return _conduct(work, serve)
    while True:
        kind, content = comm.broadcast_object(None)
        if kind == "request":
            serve(content)
        elif kind == "value":
            return content
        elif kind == "error":
            raise ValueError(content)


def _conduct(work: Callable[[Ask], Value], serve: Ask) -> Value:
    asked: SimpleQueue[tuple[Any, Future[Any]] | None] = SimpleQueue()
    done: Future[Value] = Future()

    def ask(request: Any) -> Any:
        answer: Future[Any] = Future()
        asked.put((request, answer))
        return answer.result()

    def run() -> None:
        try:
            done.set_result(work(ask))
        except BaseException as error:
            done.set_exception(error)
        asked.put(None)

    Thread(target=run, daemon=True, name="mteb").start()
    while True:
        try:
            entry = asked.get(timeout=SIGN_OF_LIFE_SECONDS)
        except Empty:
            comm.broadcast_object(("alive", None))
            continue
        if entry is None:
            break
        request, answer = entry
        comm.broadcast_object(("request", request))
        answer.set_result(serve(request))
    error = done.exception()
    if error is None:
        comm.broadcast_object(("value", done.result()))
    else:
        comm.broadcast_object(("error", str(error) if isinstance(error, ValueError) else repr(error)))
    return done.result()


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
