"""Stopping all ranks together when a number is not finite, with the step, the task and the texts in the message."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from harness import comm
from harness.engine.phases import Step
from harness.types import PairPart, QueryPart

_NAMED = 8  # texts named in a message


class NonFiniteError(ValueError):
    """A loss or gradient is nan or infinite. `rows`: the table rows of the texts it was seen with."""

    def __init__(self, step: int, what: str, tasks: Sequence[str], rows: np.ndarray) -> None:
        super().__init__(f"step {step}: {what} is not finite")
        self.step, self.what, self.tasks, self.rows = step, what, tuple(tasks), rows[:_NAMED]
        self.num_texts = len(rows)


def check_loss(step: Step, metrics: dict[str, float], table_TD: Tensor) -> None:
    """Raise on every rank if the step's loss is not finite (metrics are summed over ranks, the table is gathered)."""
    if np.isfinite(metrics["loss"]) and bool(table_TD.isfinite().all()):
        return
    bad_rows = torch.nonzero(~table_TD.isfinite().all(dim=1)).flatten().cpu().numpy()
    parts = step.plan.parts
    tasks = [p.task for p in parts if not np.isfinite(metrics[f"loss/{p.task}"])] or [p.task for p in parts]
    if len(bad_rows):
        raise NonFiniteError(step.plan.step, "an embedding", tasks, bad_rows)
    used = np.unique(np.concatenate([_rows_of(p) for p in parts if p.task in tasks]))
    raise NonFiniteError(step.plan.step, "the loss", tasks, used)


def check_gradients(step: Step, probes: Sequence[Tensor]) -> None:
    """Raise on every rank if a parameter gradient of any rank's micro-batch is not finite."""
    finite = torch.stack(list(probes)).isfinite()
    if not int(comm.all_reduce_max((~finite).any().to(torch.int32).reshape(1))):
        return
    mine = [step.schedule.micro_batches[comm.rank()][i] for i in torch.nonzero(~finite).flatten().tolist()]
    rows = np.unique(np.concatenate([part for parts in comm.gather_objects(mine) for part in parts]))
    tasks = [p.task for p in step.plan.parts if np.isin(_rows_of(p), rows).any()]
    raise NonFiniteError(step.plan.step, "a parameter's gradient", tasks, rows)


def _rows_of(part: QueryPart | PairPart) -> np.ndarray:
    if isinstance(part, QueryPart):
        return np.concatenate([part.query_B, part.document_N])
    return np.concatenate([part.text1_S, part.text2_S])
