"""The table of losses: every loss that a recipe may name, where its function lies, and which tasks it may train.

To add a loss: write its function in a file of `harness/losses/` and give it an entry in `LOSSES`. Nothing else lists
losses. The recipe's checks read this table, so it imports neither torch nor the losses themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.types import TaskKind

LossName = str  # a key of LOSSES


@dataclass(frozen=True, slots=True)
class LossEntry:
    """The entry of one loss in the table.

    kinds: the kinds of task that the loss may train.
    function: `module:function`, a `harness.losses.interface.LossFunction`; imported when a run builds its objective.
    needs_ranker_scores: the loss reads a ranker's scores (`pos_scores` and `neg_scores` of the data).
    needs_own_negatives: the loss compares a query's own documents; its tasks need `negatives.per_query` of at least 1.
    uses_negatives_options: the loss applies `margin`, `hardness`, `symmetric`, `same_tower` and `guide` of the recipe's
        `negatives`. The other options (`scope`, `per_query`, `bank`, `corpus`, `offset`) say which negatives a query
        has, whatever the loss.
    needs_teacher_vectors: the loss reads a teacher's vectors (`teacher_vectors` of the task).
    needs_equal_dimensions: the teacher's vectors must have as many dimensions as the embeddings.
    has_levels: the loss is a sum over the Matryoshka sizes.
    regulariser: the loss teaches nothing by itself; a task has it beside another one.
    pairs_of: the loss compares all pairs of its task's texts in the step, or of its queries and of its positives.
    passes_documents: the loss can be computed while documents pass from rank to rank (`loss.gather: ring`). The rows of
        other losses are gathered on every rank.
    """

    kinds: tuple[TaskKind, ...]
    function: str
    needs_ranker_scores: bool = False
    needs_own_negatives: bool = False
    uses_negatives_options: bool = False
    needs_teacher_vectors: bool = False
    needs_equal_dimensions: bool = False
    has_levels: bool = True
    regulariser: bool = False
    pairs_of: Literal["texts", "sides"] | None = None
    passes_documents: bool = False


LOSSES: dict[LossName, LossEntry] = {  # the first loss listed for a task kind is its default
    "info_nce": LossEntry(
        ("retrieval", "classification"),
        "harness.losses.info_nce:info_nce_term",
        uses_negatives_options=True,
        passes_documents=True,
    ),
    "margin_mse": LossEntry(
        ("retrieval",),
        "harness.losses.margin_mse:margin_mse_term",
        needs_ranker_scores=True,
        needs_own_negatives=True,
    ),
    "kl": LossEntry(("retrieval",), "harness.losses.kl:kl_term", needs_ranker_scores=True, needs_own_negatives=True),
    "teacher_cosine": LossEntry(
        ("retrieval",),
        "harness.losses.geometry.teacher:teacher_cosine_term",
        needs_teacher_vectors=True,
        needs_equal_dimensions=True,
        has_levels=False,
    ),
    "teacher_similarity": LossEntry(
        ("retrieval",),
        "harness.losses.geometry.teacher:teacher_similarity_term",
        needs_teacher_vectors=True,
        pairs_of="texts",
    ),
    "spread_out": LossEntry(
        ("retrieval", "classification"),
        "harness.losses.geometry.spread_out:spread_out_term",
        regulariser=True,
        pairs_of="sides",
    ),
    "cosent": LossEntry(("sts",), "harness.losses.pairs:cosent_term"),
    "angle": LossEntry(("sts",), "harness.losses.angle:angle_term"),
}
DISTILLATION_LOSSES = tuple(name for name, entry in LOSSES.items() if entry.needs_ranker_scores)


def losses_of_kind(kind: TaskKind) -> tuple[LossName, ...]:
    """The losses that a task of this kind may train, the default first."""
    return tuple(name for name, entry in LOSSES.items() if kind in entry.kinds)


def default_loss(kind: TaskKind) -> LossName:
    """The loss of a task whose recipe names none."""
    return losses_of_kind(kind)[0]
