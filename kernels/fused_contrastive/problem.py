"""What every implementation of InfoNCE takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

Scope = Literal["own", "task", "step"]


class Peers(Protocol):
    """The other callers of a loss that several processes compute together; each calls with its own queries.

    All of them call `info_nce` with the same arguments but the queries' (and, with `first_document`, the documents').
    """

    rank: int
    count: int

    def sum(self, tensor: Tensor) -> Tensor:
        """Element by element over all peers, the same bits on each."""
        ...

    def max(self, tensor: Tensor) -> Tensor:
        """Element by element over all peers."""
        ...

    def pass_on(self, tensor: Tensor, num_rows: int) -> PassedOn:
        """Start to send `tensor` to the next peer, and to receive `num_rows` rows of its like from the previous."""
        ...


class PassedOn(Protocol):
    """A tensor on its way."""

    def wait(self) -> Tensor:
        """What the previous peer sent; afterwards the sent tensor may be written to again."""
        ...


@dataclass(frozen=True, slots=True)
class Problem:
    """Checked arguments in one form: indices int64, temperatures and weights per query, defaults filled in."""

    query_BD: Tensor
    document_ND: Tensor
    positive_BP: Tensor  # -1 padded, each document once; column 0 is never padding
    temperature_B: Tensor
    share_B: Tensor  # weight / denominator: loss = sum of share * loss of the query
    dims: tuple[int, ...]
    level_weights: tuple[float, ...]
    negative_BM: Tensor | None
    excluded_BX: Tensor | None
    query_row_B: Tensor | None  # where the query itself stands among the documents
    scope: Scope
    query_group_B: Tensor | None
    document_group_N: Tensor | None
    query_key_B: Tensor | None
    document_key_N: Tensor | None
    margin: float | None
    margin_dims: Literal["level", "full"]  # at which dims a negative is compared with positive + margin
    hardness: float | None  # own negatives weigh e^(hardness * cosine) in their query's denominator; None: 1
    symmetric: bool
    document_tower: bool  # each positive's cosines with the documents join the query's denominator
    workspace_bytes: int
    peers: Peers | None  # with `symmetric`: the columns' sums run over all peers' queries
    first_document: int | None  # with a ring: where this peer's documents start in the whole table; else None
    num_documents: int  # of the whole table

    @property
    def dtype(self) -> torch.dtype:
        """What sums are accumulated in: float64 for float64 rows, else float32."""
        return torch.float64 if self.query_BD.dtype == torch.float64 else torch.float32

    @property
    def lists_own(self) -> bool:
        """Whether own negatives are scored pair by pair, not as cells of tiles."""
        return self.scope == "own" or self.hardness is not None

    @property
    def tie(self) -> float:
        """Cosines nearer than this are equal: one document's cosine differs by as much between two ways to sum it."""
        return 16 * torch.finfo(self.dtype).eps


@dataclass(frozen=True, slots=True)
class InfoNCEStats:
    """Per query, without a graph. "Full" is the last Matryoshka level (all D dimensions without levels)."""

    positive_similarity_B: Tensor  # cosine to the positive (mean over several), full
    negative_similarity_BM: Tensor | None  # cosine to each own negative, dropped or not, full; nan where padded
    negative_kept_BM: Tensor | None  # bool: which own negatives are kept, full; a repeat as its first mention
    lse_KB: Tensor  # log of the softmax's denominator per level (mean over several positives), query to document
    loss_B: Tensor  # sum over levels of level weight * the query's loss
    correct_B: Tensor  # bool: the (best) positive beats every document kept as a negative (a tie does not), full
    masked_B: Tensor  # int64: candidates of the scope dropped by exclusion, keys or margin, full
    mean_negative_similarity_B: Tensor  # mean cosine to the documents kept as negatives, full; nan if none


class InfoNCEOutput(NamedTuple):
    """A scalar loss (float32, or float64 for float64 rows) and what was learned on the way."""

    loss: Tensor
    stats: InfoNCEStats
