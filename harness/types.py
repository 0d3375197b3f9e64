"""The data types that the modules of the harness exchange: the texts of a step, the plan, the schedule.

Shape legend, used as suffixes everywhere:
    B  queries of a task in this step        N  documents of a task in this step
    P  positives per query (-1 padded)       M  negatives per query (-1 padded)
    X  excluded documents per query (ragged)
    S  STS pairs of a task in this step      T  unique texts of the step (rows of the embedding table)
    L  tokens                                D  embedding dimensions
    K  Matryoshka levels                     W  ranks
    R  rows of a data set                    G  texts of a data set (row after row)
    E  entries of a flat list                U  unique values
    C  labels; candidates of a row
    V  dimensions of a teacher's vectors

A step is a set of unique texts. `StepPlan` names them and says how the tasks refer to them; `Schedule` says which
rank encodes which text in which micro-batch. The loss depends on the `StepPlan` only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, overload

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor

TaskKind = Literal["retrieval", "sts", "classification"]
SourceKind = TaskKind | Literal["corpus"]  # corpus: documents without queries
TextRole = Literal["query", "document"]
EncodingRole = Literal["query", "document", "sentence"]  # sentence: STS and classification texts in evaluation
NegativesScope = Literal["own", "task", "step"]
Positives = Literal["one", "all"]  # how many of a row's positives a step uses
Balance = Literal["cbb", "alternate", "homogeneous"]
ROLES: tuple[TextRole, ...] = ("query", "document")  # the uint8 code of a role is its position here


@dataclass(frozen=True, slots=True)
class Example:
    """One validated row of a data source, whatever its file format. `texts` holds:

    retrieval: the query, `num_positives` positives, then the negatives. sts: the two texts; `score` is set.
    classification: the text; `label` is set. corpus: the document.
    """

    line: int  # 1-based line (or row) of the source
    texts: tuple[str, ...]
    num_positives: int = 0
    score: float | None = None
    label: str | None = None
    prompt: str | None = None  # the row's own query instruction (FlagEmbedding's `prompt`)
    document_scores: tuple[float, ...] | None = None  # the scores of a ranker, one per document; NaN: not scored


class PromptedText(str):
    """A text with its prompt in front. Models that do not pool the tokens of a prompt need to know where it ends."""

    prompt: str

    def __new__(cls, prompt: str, text: str) -> PromptedText:
        whole = super().__new__(cls, prompt + text)
        whole.prompt = prompt
        return whole


@dataclass(frozen=True, slots=True)
class StepTexts:
    """The unique texts of a step: row t of the embedding table is text `text_T[t]` of text table `source_T[t]`."""

    source_T: np.ndarray  # int32: index of a text table: first the recipe's tasks, then the corpora of negatives
    text_T: np.ndarray  # int64, row of that text table
    length_T: np.ndarray  # int64, tokens after prompt and truncation

    def __len__(self) -> int:
        return len(self.text_T)


@dataclass(frozen=True, slots=True)
class RaggedLists:
    """One list of indices per query; the lists may differ in length. `lists[i]` is the list of query i, int64.

    `lists[start:stop]` are the lists of these queries. No list is padded: a long one costs its own length only.
    """

    start_B1: np.ndarray  # int64: query i's list is value_E[start[i] : start[i + 1]]
    value_E: np.ndarray  # int64

    @classmethod
    def of_pairs(cls, owner_E: np.ndarray, value_E: np.ndarray, num_queries: int) -> RaggedLists:
        """Build the lists from (query, index) pairs that are sorted by query."""
        return cls(np.searchsorted(owner_E, np.arange(num_queries + 1)), value_E)

    @classmethod
    def of_padded(cls, index_BX: np.ndarray) -> RaggedLists:
        """The lists in the rows of a matrix that is padded with -1."""
        owner_E, column_E = np.nonzero(index_BX >= 0)
        return cls.of_pairs(owner_E, index_BX[owner_E, column_E], len(index_BX))

    def __len__(self) -> int:
        return len(self.start_B1) - 1

    @overload
    def __getitem__(self, rows: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, rows: slice) -> RaggedLists: ...
    def __getitem__(self, rows: int | slice) -> np.ndarray | RaggedLists:
        if not isinstance(rows, slice):
            return self.value_E[self.start_B1[:-1][rows] : self.start_B1[1:][rows]]
        first, stop, _ = rows.indices(len(self))
        start_R1 = self.start_B1[first : max(first, stop) + 1]
        return RaggedLists(start_R1 - start_R1[0], self.value_E[start_R1[0] : start_R1[-1]])

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """(query, index) of every entry, sorted by query."""
        return np.repeat(np.arange(len(self)), np.diff(self.start_B1)), self.value_E


@dataclass(frozen=True, slots=True)
class TeacherRows:
    """A teacher's vectors of the texts of a part, of any floating-point type; padded cells hold any numbers."""

    query_BV: np.ndarray
    positive_BPV: np.ndarray
    negative_BMV: np.ndarray | None  # None: the teacher has no vectors of negatives


@dataclass(frozen=True, slots=True)
class QueryPart:
    """The queries of one task in a step, whatever loss they train: which rows of the embedding table they refer to.

    positive, negative and excluded hold positions in `document_N`. The scores of a ranker are None unless a loss of the
    task needs them.
    """

    task: str
    row_B: np.ndarray  # int64, data set rows (for messages and for the bank)
    query_B: np.ndarray  # int64, rows of the table
    document_N: np.ndarray  # int64, rows of the table, each once
    positive_BP: np.ndarray  # int64, into document_N, -1 padded, at least one in every row
    negative_BM: np.ndarray  # int64, into document_N, -1 padded
    rank_BM: np.ndarray  # int64, rank of each negative among the query's ranked candidates, -1 where there is none
    excluded_BX: RaggedLists  # into document_N: never negatives of the query
    own_negatives_only: bool  # True: the other documents of the step are not negatives of a query
    positive_score_BP: np.ndarray | None = None  # float32, NaN where padded
    negative_score_BM: np.ndarray | None = None  # float32, NaN where padded
    teacher: TeacherRows | None = None  # given if a loss of the task needs them

    def share(self, index: int, count: int) -> slice:
        """The queries whose loss is computed by rank `index` of `count` ranks."""
        return slice(len(self.query_B) * index // count, len(self.query_B) * (index + 1) // count)

    def excluded_pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """(query, excluded document) of every exclusion, sorted by query."""
        return self.excluded_BX.pairs()

    @property
    def table_rows(self) -> np.ndarray:
        """The rows of the embedding table that the part uses; a text that is query and document stands there twice."""
        return np.concatenate([self.query_B, self.document_N])

    @property
    def num_references(self) -> int:
        """Number of queries, positives and negatives, repeated texts counted each time."""
        return len(self.query_B) + int((self.positive_BP >= 0).sum()) + int((self.negative_BM >= 0).sum())


@dataclass(frozen=True, slots=True)
class PairPart:
    """The pairs of one STS task in a step, whatever loss they train: rows of the table and their graded similarity."""

    task: str
    row_S: np.ndarray  # int64, data set rows
    text1_S: np.ndarray  # int64, rows of the table
    text2_S: np.ndarray  # int64, rows of the table
    score_S: np.ndarray  # float32

    @property
    def table_rows(self) -> np.ndarray:
        """The rows of the embedding table that the part uses."""
        return np.concatenate([self.text1_S, self.text2_S])

    @property
    def num_references(self) -> int:
        """Number of sentences, repeated texts counted each time."""
        return len(self.text1_S) + len(self.text2_S)


@dataclass(frozen=True, slots=True)
class StepPlan:
    """The texts of a step and how its tasks refer to them. The `Schedule` says which rank encodes which text."""

    step: int  # from 1
    texts: StepTexts
    parts: tuple[QueryPart | PairPart, ...]

    @property
    def texts_saved(self) -> int:
        """How many encodings are saved, because a text with several references is encoded once."""
        return sum(part.num_references for part in self.parts) - len(self.texts)

    def metrics(self) -> dict[str, float]:
        """The step's number, its number of texts, its number of tokens (without padding), and `texts_saved`."""
        return {
            "step": self.step,
            "num_texts": len(self.texts),
            "num_tokens": int(self.texts.length_T.sum()),
            "texts_saved": float(self.texts_saved),
        }


@dataclass(frozen=True, slots=True)
class Schedule:
    """Which rank encodes which texts: `micro_batches[w][m]` are the table rows of micro-batch m of rank w.

    Every rank has the same number of micro-batches; a rank with fewer texts has empty ones at the end. `slot_T[t]` is
    the row of text t in the table [W * rows_per_rank, D] that is gathered from all ranks.
    """

    micro_batches: tuple[tuple[np.ndarray, ...], ...]
    slot_T: np.ndarray
    rows_per_rank: int

    @property
    def num_micro_batches(self) -> int:
        return len(self.micro_batches[0])


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """One micro-batch, padded to its longest text."""

    input_ids_BL: Tensor  # int64; packed: int32
    attention_mask_BL: Tensor  # int64; packed: uint8
    pooling_mask_BL: Tensor | None = None  # the attention mask without prompts; None: everything is pooled

    def packed(self) -> TokenBatch:
        """The same in less than a third of the memory: two steps of micro-batches lie in memory at a time."""
        import torch

        pooling_mask_BL = self.pooling_mask_BL
        return TokenBatch(
            self.input_ids_BL.to(torch.int32),
            self.attention_mask_BL.to(torch.uint8),
            None if pooling_mask_BL is None else pooling_mask_BL.to(torch.uint8),
        )

    def on(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor | None]:
        """The arguments of an encoder, int64, on this device."""
        pooling_mask_BL = self.pooling_mask_BL
        return (
            self.input_ids_BL.to(device, non_blocking=True).long(),
            self.attention_mask_BL.to(device, non_blocking=True).long(),
            None if pooling_mask_BL is None else pooling_mask_BL.to(device, non_blocking=True).long(),
        )

    @property
    def num_tokens(self) -> int:
        return self.input_ids_BL.numel()
