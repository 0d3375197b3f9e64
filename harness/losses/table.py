"""The embedding table of a step: whole on every rank, or divided, so that each rank holds the rows of its own texts.

R in shapes: the rows that every rank gives to the table, its texts first, then padding. G: the texts of the losses that
cannot pass documents on. V: the most of these that one rank encoded.

With a divided table, InfoNCE compares the queries that a rank encoded with documents that pass round a ring of ranks.
The rows of the other losses, and only theirs, are gathered as in a whole table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from fused_contrastive import DocumentShard
from torch import Tensor

from harness import comm
from harness.types import PairPart, QueryPart, RaggedLists, Schedule

Gather = Literal["table", "ring"]
TABLE_BYTES = 1 << 30  # the most that `loss.gather: auto` spends on a whole table, per rank
_TABLES_IN_A_STEP = 6  # measured: table, gradient, and a term's documents and their gradients, each T rows at most
_BLOCKS_IN_A_RING = 9  # measured: rows and gradient, a term's documents and theirs, and the blocks that come and go


def gather_bytes(gather: Gather, texts: int, gathered_texts: int, dim: int, ranks: int, item_bytes: int = 4) -> int:
    """Memory that a rank needs for the embeddings of a step and their gradients while it computes the losses, at most.

    The kernel's workspace is not included (32 MiB, 256 MiB on CUDA).

    texts: of the step. gathered_texts: those of losses that cannot pass documents on. item_bytes: of one number.
    """
    row_bytes = dim * item_bytes
    if gather == "table" or ranks == 1:
        return _TABLES_IN_A_STEP * texts * row_bytes
    return (_BLOCKS_IN_A_RING * -(-texts // ranks) + _TABLES_IN_A_STEP * gathered_texts) * row_bytes


def choose_gather(setting: str, texts: int, gathered_texts: int, dim: int, ranks: int) -> Gather:
    """The recipe's `loss.gather` for one step. auto: the table up to `TABLE_BYTES`, else what needs less memory."""
    if ranks == 1:
        return "table"
    if setting != "auto":
        return "ring" if setting == "ring" else "table"
    table, ring = (gather_bytes(gather, texts, gathered_texts, dim, ranks) for gather in ("table", "ring"))
    return "table" if table <= max(TABLE_BYTES, ring) else "ring"


@dataclass(frozen=True, slots=True)
class HeldPart:
    """What one rank computes of a task: a slice of its queries, and the documents whose rows the rank holds."""

    part: QueryPart  # query_B[queries] and document_N[documents] are rows of the table at hand
    queries: slice
    documents: slice
    query_order_B: np.ndarray  # query i of `part` is this one of the plan's part
    shard: DocumentShard | None = None  # None: all documents


class WholeTable:
    """Every rank holds the embeddings of all texts of the step, and their gradient."""

    def __init__(self, local_RD: Tensor, schedule: Schedule) -> None:
        """local_RD: the embeddings of this rank's texts."""
        self._num_gathered = comm.world_size() * len(local_RD)
        self._slot_T = torch.from_numpy(schedule.slot_T).to(local_RD.device)
        self.row_TD = comm.all_gather_rows(local_RD)[self._slot_T].requires_grad_()

    def gradient(self) -> Tensor:
        """[R, D]: the loss's gradient by this rank's embeddings, summed over ranks."""
        assert self.row_TD.grad is not None  # the objective always sets it: zero if this rank's share has no loss
        gathered = self.row_TD.new_zeros((self._num_gathered, self.row_TD.shape[1]))
        gathered[self._slot_T] = self.row_TD.grad
        return comm.reduce_scatter_rows(gathered)

    def is_finite(self) -> Tensor:
        """bool [T]: whether the embedding of each text is finite."""
        return self.row_TD.detach().isfinite().all(1)


class DividedTable:
    """Every rank holds the embeddings of the texts that it encoded, and those that some loss cannot do without."""

    def __init__(self, local_RD: Tensor, schedule: Schedule, gathered_rows: np.ndarray) -> None:
        """local_RD: the embeddings of this rank's texts. gathered_rows: ascending, the texts that every rank needs."""
        self.local_RD, self._schedule, self._rank = local_RD.detach().requires_grad_(), schedule, comm.rank()
        self._owner_T, self._place_T = np.divmod(schedule.slot_T, schedule.rows_per_rank)
        owner_G = self._owner_T[gathered_rows]
        own_rows = gathered_rows[owner_G == self._rank]
        self._own_place_V = torch.from_numpy(self._place_T[own_rows]).to(local_RD.device)
        self._most = int(np.bincount(owner_G, minlength=1).max(initial=0))
        self._number_T = np.full(len(schedule.slot_T), -1)  # of a text among the gathered ones
        self._number_T[gathered_rows] = np.arange(len(gathered_rows))
        order_G = np.argsort(owner_G, kind="stable")
        slot_G = np.empty(len(owner_G), dtype=np.int64)
        slot_G[order_G] = self._most * owner_G[order_G] + _count_within(owner_G[order_G])
        self._slot_G = torch.from_numpy(slot_G).to(local_RD.device)
        self.gathered_GD = self._gather().requires_grad_()

    def _gather(self) -> Tensor:
        if not self._most:
            return self.local_RD.detach()[:0]
        own_VD = self.local_RD.new_zeros((self._most, self.local_RD.shape[1]))
        own_VD[: len(self._own_place_V)] = self.local_RD.detach()[self._own_place_V]
        return comm.all_gather_rows(own_VD)[self._slot_G]

    def gathered(self, part: QueryPart | PairPart) -> QueryPart | PairPart:
        """The part with rows of `gathered_GD` in place of rows of the whole table."""
        number_T = self._number_T
        if isinstance(part, PairPart):
            return replace(part, text1_S=number_T[part.text1_S], text2_S=number_T[part.text2_S])
        return replace(part, query_B=number_T[part.query_B], document_N=number_T[part.document_N])

    def held(self, part: QueryPart) -> HeldPart:
        """The queries and documents that this rank encoded: rows of `local_RD`.

        Queries and documents are put in the order of the ranks that hold them, because a rank's documents must follow
        each other in the list of all documents.
        """
        order_B, order_N = (np.argsort(self._owner_T[rows], kind="stable") for rows in (part.query_B, part.document_N))
        new_place_B, new_place_N = _inverse(order_B), _inverse(order_N)
        owner_E, document_E = part.excluded_pairs()
        owner_E = new_place_B[owner_E]
        order_E = np.argsort(owner_E, kind="stable")
        excluded = RaggedLists.of_pairs(owner_E[order_E], new_place_N[document_E][order_E], len(order_B))
        ordered = replace(
            part,
            row_B=part.row_B[order_B],
            query_B=self._place_T[part.query_B[order_B]],
            document_N=self._place_T[part.document_N[order_N]],
            positive_BP=_renumbered(part.positive_BP[order_B], new_place_N),
            negative_BM=_renumbered(part.negative_BM[order_B], new_place_N),
            rank_BM=part.rank_BM[order_B],
            excluded_BX=excluded,
        )
        queries = self._own(self._owner_T[part.query_B[order_B]])
        documents = self._own(self._owner_T[part.document_N[order_N]])
        return HeldPart(ordered, queries, documents, order_B, DocumentShard(documents.start, len(order_N)))

    def _own(self, owner_N: np.ndarray) -> slice:
        """The entries of this rank in an ascending list of ranks."""
        return slice(*np.searchsorted(owner_N, (self._rank, self._rank + 1)).tolist())

    def gradient(self) -> Tensor:
        """[R, D]: the loss's gradient by this rank's embeddings, summed over ranks."""
        gradient_RD = self.local_RD.grad
        gradient_RD = torch.zeros_like(self.local_RD) if gradient_RD is None else gradient_RD
        if self._most:
            slots_GD = self.local_RD.new_zeros((comm.world_size() * self._most, self.local_RD.shape[1]))
            if self.gathered_GD.grad is not None:
                slots_GD[self._slot_G] = self.gathered_GD.grad
            gradient_RD[self._own_place_V] += comm.reduce_scatter_rows(slots_GD)[: len(self._own_place_V)]
        return gradient_RD

    def is_finite(self) -> Tensor:
        """bool [T]: whether the embedding of each text is finite."""
        finite_R1 = self.local_RD.detach().isfinite().all(1, keepdim=True).to(torch.uint8)
        return comm.all_gather_rows(finite_R1)[torch.from_numpy(self._schedule.slot_T).to(finite_R1.device), 0] > 0


def _inverse(order_N: np.ndarray) -> np.ndarray:
    place_N = np.empty_like(order_N)
    place_N[order_N] = np.arange(len(order_N))
    return place_N


def _renumbered(place_BC: np.ndarray, new_place_N: np.ndarray) -> np.ndarray:
    return np.where(place_BC >= 0, new_place_N[place_BC], -1)


def _count_within(sorted_E: np.ndarray) -> np.ndarray:
    """How many equal numbers stand before each number of an ascending list."""
    return np.arange(len(sorted_E)) - np.searchsorted(sorted_E, sorted_E)
