"""The options of `info_nce` besides embeddings and temperature: one small object per subject."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from fused_contrastive.ragged import RaggedLists

Implementation = Literal["auto", "reference", "chunked", "triton"]
Scope = Literal["all", "group", "own"]
MarginDims = Literal["level", "full"]


@dataclass(frozen=True, slots=True)
class Matryoshka:
    """Compute the loss once per level, on the first `dim` columns of the embeddings, and add up the levels.

    Attributes:
        dims: ascending prefix lengths, at most D. Columns after the last prefix are not used.
        weights: one factor per level, at least 0. None: 1 for each level.
    """

    dims: Sequence[int]
    weights: Sequence[float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Negatives:
    """Which documents are negatives of a query, and their weights. By default, all documents except its positives.

    A document is a negative if it is inside the scope and no rule drops it. It counts once, however often it is listed.
    Index tensors hold row numbers of the document table; shorter lists are padded with -1.

    Attributes:
        scope: `all`: every document; `group`: the documents of the query's group and the query's own negatives; `own`:
            the query's own negatives only, at a cost of B * M * D instead of B * N * D.
        own_BM: each query's own negatives, for example mined ones.
        excluded_BX: for each query, a list of documents that are never its negatives.
        query_row_B: the row of the query itself among the documents (-1: it is not among them). This row is not a
            negative of the query, nor of queries with an equal `query_key_B`.
        query_group_B: the query's group, any integer. Required by scope `group`.
        document_group_N: the document's group, any integer. Required by scope `group`.
        query_key_B: queries with equal keys mean the same: the positives of one are never negatives of another. With
            `peers`, only queries of the same caller are compared. The time grows with the largest number of different
            keys whose queries share one positive.
        document_key_N: documents with equal keys mean the same: a document with the key of a positive of the query is
            never a negative of this query.
        margin: drop a negative whose cosine exceeds (lowest cosine of a positive) + margin, because it is probably an
            unlabelled positive. Cosines that differ only by rounding count as equal. None: drop none.
        margin_dims: which cosines `margin` compares. `level`: each Matryoshka level uses its own cosines; `full`: all
            levels use those of the last level, which may cost a second pass over D.
        hardness: an own negative adds e^(cosine / temperature + hardness * cosine) to its query's denominator. Each
            level uses its own cosine. No gradient flows through the weight e^(hardness * cosine). EmbeddingGemma (arXiv
            2509.20354) uses 5. Other negatives, the columns of `Towers.symmetric`, and the document tower have no such
            weight.
    """

    scope: Scope = "all"
    own_BM: Tensor | None = None
    excluded_BX: RaggedLists | None = None
    query_row_B: Tensor | None = None
    query_group_B: Tensor | None = None
    document_group_N: Tensor | None = None
    query_key_B: Tensor | None = None
    document_key_N: Tensor | None = None
    margin: float | None = None
    margin_dims: MarginDims = "level"
    hardness: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Towers:
    """Comparisons in addition to those of each query with the documents.

    Query tower and document tower together give the four sums of GTE (arXiv 2308.03281): query to documents, query to
    queries, positive to documents, and positive to queries (because the queries are then among the documents).
    Qwen3-Embedding (arXiv 2506.05176) omits the last sum.

    Attributes:
        symmetric: also compare each positive p with the queries. The query's loss is the mean of the usual loss and of
            mean_p(log(e^z_ip + sum_o e^z_op) - z_ip); o runs over the queries that have document p as a negative.
        query_tower: also compare queries with queries. The queries are appended to the documents, each in its query's
            group and with a unique key. Not allowed with scope `own` or with several peers. The statistics count these
            documents.
        document_tower: also compare documents with documents: sum_j e^(cosine(document_p, document_j) / temperature_i)
            is added to the denominator of positive p of query i; j runs over the negatives of query i.
            `Negatives.margin` is applied to these cosines separately. Not allowed with scope `own`. The statistics do
            not count these comparisons.
    """

    symmetric: bool = False
    query_tower: bool = False
    document_tower: bool = False


@dataclass(frozen=True, slots=True)
class DocumentShard:
    """The rows of the whole document table that this caller holds, if the table is divided among several processes.

    The rows of the peers are disjoint and together form the whole table. Indices, groups and keys refer to rows of the
    whole table.

    Attributes:
        first: the row of the whole table where `document_ND` begins.
        num_documents: number of rows of the whole table.
    """

    first: int
    num_documents: int


class Peers(Protocol):
    """The processes that compute one loss together: all call `info_nce` at the same time, each with its own queries.

    All arguments except those about queries (and, with a `DocumentShard`, about documents) must be equal in all
    processes.
    """

    rank: int
    count: int

    def sum(self, tensor: Tensor) -> Tensor:
        """The elementwise sum over all peers, with equal bits on every peer."""
        ...

    def max(self, tensor: Tensor) -> Tensor:
        """The elementwise maximum over all peers."""
        ...

    def pass_on(self, tensor: Tensor, num_rows: int) -> PassedOn:
        """Start sending `tensor` to the next peer, and receiving `num_rows` rows of its kind from the previous peer."""
        ...


class PassedOn(Protocol):
    """A transfer that `Peers.pass_on` has started."""

    def wait(self) -> Tensor:
        """Wait, and return the tensor from the previous peer. The sent tensor may then be overwritten."""
        ...
