"""Bytes that the score phase holds: the gathered embedding table, its gradient, and what the losses make of them."""

from __future__ import annotations

from dataclasses import dataclass

from harness.types import QueryPart, StepPlan

_FP32 = 4
WORKSPACE_BYTES = {False: 32 << 20, True: 256 << 20}  # by whether it is a GPU: `workspace_bytes` of fused_contrastive


@dataclass(frozen=True, slots=True)
class ScoreSize:
    """rows: of the gathered table. part_rows: (queries, documents) of each task with queries. dim: of an embedding."""

    rows: int
    part_rows: tuple[tuple[int, int], ...]
    dim: int

    @classmethod
    def of(cls, plan: StepPlan, dim: int) -> ScoreSize:
        parts = [part for part in plan.parts if isinstance(part, QueryPart)]
        return cls(len(plan.texts), tuple((len(part.query_B), len(part.document_N)) for part in parts), dim)

    @property
    def table_bytes(self) -> int:
        """The table and its gradient."""
        return 2 * self.rows * self.dim * _FP32

    def loss_bytes(self, ranks: int, *, on_gpu: bool) -> int:
        """What the loss of the largest task holds beside the table: the rows that it picks, their gradients, and the
        workspace of the kernel, which never takes more than the whole matrix of similarities needs."""
        most = 0
        for queries, documents in self.part_rows:
            own = -(-queries // ranks)
            picked = 2 * (own + documents) * self.dim * _FP32
            scattered = self.rows * self.dim * _FP32  # the gradient of the picked rows, put back into the table's
            workspace = min(WORKSPACE_BYTES[on_gpu], own * documents * 3 * _FP32)
            most = max(most, picked + scattered + workspace)
        return most

    @property
    def flops(self) -> int:
        """Operations of the similarities of all queries and of the gradients by both sides, over all ranks."""
        return sum(6 * queries * documents * self.dim for queries, documents in self.part_rows)
