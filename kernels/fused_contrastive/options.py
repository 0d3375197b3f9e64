"""What a caller of `info_nce` may choose beside the embeddings and the temperature: one small object per subject."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

Implementation = Literal["auto", "reference", "chunked", "triton"]
Scope = Literal["all", "group", "own"]
MarginDims = Literal["level", "full"]


@dataclass(frozen=True, slots=True)
class Matryoshka:
    """The loss is computed once per level, on the first `dim` columns of the embeddings, and the levels are added up.

    Attributes:
        dims: ascending prefix lengths, at most D. Columns above the last are not used.
        weights: one factor per level, at least 0. None: 1 for each.
    """

    dims: Sequence[int]
    weights: Sequence[float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Negatives:
    """Which documents are negatives of a query, and how much they weigh. The default: all documents but its positives.

    A document is a negative if the scope offers it and no rule drops it. It counts once, however often it is named.
    Index tensors hold row numbers of the document table; -1 fills up lists that are shorter than others.

    Attributes:
        scope: which documents are offered. `all`: every document; `group`: those whose group equals the query's, and
            the query's own; `own`: the query's own only, at a cost of B * M * D instead of B * N * D.
        own_BM: each query's own negatives, for example mined ones.
        excluded_BX: documents that are never negatives of the query.
        query_row_B: where the query itself stands among the documents (-1: nowhere). That row is a negative neither of
            the query nor of queries with an equal `query_key_B`.
        query_group_B: the query's group, any integer. Needed by scope `group`.
        document_group_N: the document's group, any integer. Needed by scope `group`.
        query_key_B: queries with equal keys mean the same: the positives of one are never negatives of another. With
            `peers`, only queries of the same caller are compared. Time grows with the largest number of different keys
            whose queries share one positive.
        document_key_N: documents with equal keys mean the same: one that equals a positive of the query is never its
            negative.
        margin: drop a negative whose cosine is above the lowest positive's + margin: it is probably a positive that
            nobody labelled. Cosines that differ by rounding only are equal. None: drop none.
        margin_dims: which cosines `margin` compares. `level`: at each Matryoshka level its own; `full`: at all levels
            those of the last level, which may cost a second pass over D.
        hardness: an own negative stands in its query's denominator as e^(cosine / temperature + hardness * cosine), at
            each level with that level's cosine. No gradient flows through the weight e^(hardness * cosine).
            EmbeddingGemma (arXiv 2509.20354) uses 5. Not weighted are other negatives, the columns of
            `Towers.symmetric` and the document tower.
    """

    scope: Scope = "all"
    own_BM: Tensor | None = None
    excluded_BX: Tensor | None = None
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
    """What is contrasted in addition to each query with the documents.

    The query tower and the document tower together give the four sums of GTE (arXiv 2308.03281): query to documents,
    query to queries, positive to documents, and positive to queries (for the queries are then among the documents).
    Qwen3-Embedding (arXiv 2506.05176) leaves the last one out.

    Attributes:
        symmetric: also each positive p with the queries: the query's loss is the mean of the usual one and of
            mean_p(log(e^z_ip + sum_o e^z_op) - z_ip), o over the queries of which document p is a negative.
        query_tower: also queries with queries: they are appended to the documents, each in its query's group and with a
            key of its own. Not with scope `own`, and not with several peers. The statistics count these documents.
        document_tower: also documents with documents: sum_j e^(cosine(document_p, document_j) / temperature_i) joins
            the denominator of positive p of query i, j over the negatives of query i; `Negatives.margin` is applied to
            these cosines themselves. Not with scope `own`. The statistics do not count them.
    """

    symmetric: bool = False
    query_tower: bool = False
    document_tower: bool = False


@dataclass(frozen=True, slots=True)
class DocumentShard:
    """Which rows of the whole document table this caller holds, when the table is spread over several processes.

    Every peer holds other rows, and together they hold all. Indices, groups and keys count rows of the whole table.

    Attributes:
        first: row of the whole table at which `document_ND` starts.
        num_documents: number of rows of the whole table.
    """

    first: int
    num_documents: int


class Peers(Protocol):
    """The processes that compute one loss together: each calls `info_nce` at the same time with its own queries.

    All arguments but those of the queries (and, with a `DocumentShard`, the documents) must be equal everywhere.
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
        """Start to send `tensor` to the next peer and to receive `num_rows` rows of such a tensor from the previous."""
        ...


class PassedOn(Protocol):
    """A transfer that has been started by `Peers.pass_on`."""

    def wait(self) -> Tensor:
        """What the previous peer sent. Afterwards the tensor that was sent may be overwritten."""
        ...
