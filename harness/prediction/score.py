"""What the score phase holds and sends: the embeddings of other ranks' texts, gradients, and what the losses take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.loss_table import LOSSES, LossName
from harness.losses.geometry.pairwise import held_bytes
from harness.losses.objective import Objective, passes_documents
from harness.losses.table import Gather, choose_gather, gather_bytes
from harness.types import QueryPart, StepPlan

_FP32 = 4
WORKSPACE_BYTES = {False: 32 << 20, True: 256 << 20}  # by whether it is a GPU: `workspace_bytes` of fused_contrastive
# How often documents pass round the ring for one loss: for the listed pairs, the log-sum-exps and the gradients
# (fused_contrastive/one_pass). The gradients of documents pass once, and one hop further: home.
_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class ScoreSize:
    """rows: texts of the step. part_rows: (queries, documents) of each task with queries. dim: of an embedding.

    setting: the recipe's `loss.gather`. gathered: texts that every rank needs in a ring, too. passed: documents that
    pass round a ring, once for every loss. compared: of each task, the most texts of which a loss compares all pairs.
    levels: Matryoshka sizes.
    """

    rows: int
    part_rows: tuple[tuple[int, int], ...]
    dim: int
    setting: str = "table"
    gathered: int = 0
    passed: int = 0
    compared: tuple[int, ...] = ()
    levels: int = 1

    @classmethod
    def of(cls, plan: StepPlan, dim: int, objective: Objective) -> ScoreSize:
        """The sizes of a planned step."""
        parts = [part for part in plan.parts if isinstance(part, QueryPart)]
        passed = sum(
            len(part.document_N) * sum(map(passes_documents, objective.tasks[part.task].losses)) for part in parts
        )
        part_rows = tuple((len(part.query_B), len(part.document_N)) for part in parts)
        gathered = len(objective.gathered_rows(plan))
        compared = tuple(_compared(part, objective.tasks[part.task].losses) for part in parts)
        levels = len(objective.matryoshka_dims or (dim,))
        return cls(len(plan.texts), part_rows, dim, objective.loss.gather, gathered, passed, compared, levels)

    def scaled(self, rows: int) -> ScoreSize:
        """A step of `rows` texts with tasks in the same proportions."""
        factor = rows / max(1, self.rows)
        parts = tuple((round(queries * factor), round(documents * factor)) for queries, documents in self.part_rows)
        gathered, passed = round(self.gathered * factor), round(self.passed * factor)
        compared = tuple(round(texts * factor) for texts in self.compared)
        return replace(self, rows=rows, part_rows=parts, gathered=gathered, passed=passed, compared=compared)

    def gather(self, ranks: int) -> Gather:
        """How a rank gets the embeddings of other ranks."""
        return choose_gather(self.setting, self.rows, self.gathered, self.dim, ranks)

    def table_bytes(self, ranks: int) -> int:
        """The embeddings that stay on a rank for the whole phase, and their gradient."""
        own = self.rows if self.gather(ranks) == "table" else -(-self.rows // ranks) + self.gathered
        return 2 * own * self.dim * _FP32

    def loss_bytes(self, ranks: int, *, on_gpu: bool) -> int:
        """What the losses hold beside that, the workspace of the kernel included.

        With a table: the rows that the largest task picks, their gradients, and the gradient put back into the table's.
        In a ring: blocks that come and go. A loss that compares all pairs of texts picks these in both.
        """
        most = 0
        for queries, documents in self.part_rows:
            own = -(-queries // ranks)
            # The kernel's workspace never takes more than the whole matrix of similarities needs.
            workspace = min(WORKSPACE_BYTES[on_gpu], own * documents * 3 * _FP32)
            picked = (2 * (own + documents) + self.rows) * self.dim * _FP32
            most = max(most, workspace + (picked if self.gather(ranks) == "table" else 0))
        for texts in filter(None, self.compared):
            picked = (2 + self.levels) * texts * self.dim * _FP32 + self.table_bytes(ranks) // 2
            most = max(most, picked + held_bytes(texts, -(-texts // ranks), self.levels))
        if self.gather(ranks) == "ring":
            all_bytes = gather_bytes("ring", self.rows, self.gathered, self.dim, ranks)
            most += all_bytes - self.table_bytes(ranks)
        return most

    def sent(self, ranks: int, padded_rows: int) -> dict[str, int]:
        """Bytes that one rank sends. padded_rows: of a gathered table, with the padding of ranks with fewer texts."""
        row, share = self.dim * _FP32, (ranks - 1) / ranks
        if self.gather(ranks) == "table":
            return {"embeddings": int(padded_rows * row * share), "embedding gradients": int(padded_rows * row * share)}
        return {
            "embeddings": int((_ROUNDS * self.passed + self.gathered) * row * share),
            "embedding gradients": int((self.passed + self.gathered * share) * row),
        }

    @property
    def flops(self) -> int:
        """Operations of the similarities of all queries and of the gradients by both sides, over all ranks."""
        pairs = sum(queries * documents for queries, documents in self.part_rows)
        return 6 * self.dim * (pairs + sum(texts**2 for texts in self.compared))


def _compared(part: QueryPart, losses: Sequence[LossName]) -> int:
    """The most texts of which a loss of the task compares all pairs, 0 without such a loss."""
    side = max(len(part.query_B), int((part.positive_BP >= 0).sum()))
    sizes = {None: 0, "sides": side, "texts": part.num_references}
    return max(sizes[LOSSES[name].pairs_of] for name in losses)
