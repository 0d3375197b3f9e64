"""Stops all ranks together when a loss, an embedding or a gradient is not finite."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from harness import comm
from harness.engine.step import Step
from harness.types import StepPlan

_MOST_NAMED_TEXTS = 8


class NonFiniteError(ValueError):
    """A number of a step is NaN or infinite. The same error is raised on every rank, before the weights change."""

    def __init__(self, plan: StepPlan, what: str, tasks: Sequence[str], text_rows: np.ndarray) -> None:
        """what: the number, in words. text_rows: ascending rows of the embedding table: the texts concerned."""
        super().__init__(f"step {plan.step}: {what} is not finite")
        self.plan, self.what, self.tasks = plan, what, tuple(tasks)
        self.text_rows, self.num_texts = text_rows[:_MOST_NAMED_TEXTS], len(text_rows)


def check_loss(plan: StepPlan, metrics: dict[str, float], finite_T: Tensor) -> None:
    """Check the step's loss and embeddings, which are the same on every rank.

    metrics: sums over all ranks; they hold `loss` and the `loss/<task>` of every task in the step.
    finite_T: whether the embedding of each text is finite.

    Raises:
        NonFiniteError: the loss or an embedding is not finite.
    """
    if np.isfinite(metrics["loss"]) and bool(finite_T.all()):
        return
    tasks = [p.task for p in plan.parts if not np.isfinite(metrics[f"loss/{p.task}"])] or [p.task for p in plan.parts]
    bad_rows = torch.nonzero(~finite_T).flatten().cpu().numpy()
    if len(bad_rows):
        raise NonFiniteError(plan, "an embedding", tasks, bad_rows)
    used_rows = np.unique(np.concatenate([part.table_rows for part in plan.parts if part.task in tasks]))
    raise NonFiniteError(plan, "the loss", tasks, used_rows)


def check_gradients(step: Step, probes: Sequence[Tensor]) -> None:
    """Check the parameter gradients of all ranks. probes: a scalar per micro-batch, finite if its gradients are.

    Raises:
        NonFiniteError: a gradient of any rank is not finite.
    """
    finite = torch.stack(list(probes)).isfinite()
    if not int(comm.all_reduce_max((~finite).any().to(torch.int32).reshape(1))):
        return
    bad_batches = torch.nonzero(~finite).flatten().tolist()
    rows_of_this_rank = [step.schedule.micro_batches[comm.rank()][index] for index in bad_batches]
    rows = np.unique(np.concatenate([rows for ranks in comm.gather_objects(rows_of_this_rank) for rows in ranks]))
    tasks = [part.task for part in step.plan.parts if np.isin(part.table_rows, rows).any()]
    raise NonFiniteError(step.plan, "a parameter's gradient", tasks, rows)
