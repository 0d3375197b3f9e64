"""Checks the Triton kernels on this device against the reference, before a run with `loss.implementation: auto`.

A compiler, a driver or a GPU that nobody has tried may give other numbers. Small tables with the run's own options are
enough to see it: the value and the gradient of the loss are compared with the reference in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from fused_contrastive import InfoNCEOutput, Matryoshka, Negatives, RaggedLists, Towers, info_nce
from torch import Tensor

from harness.losses.config import LossConfig
from harness.losses.interface import TaskLossSettings

InfoNCE = Callable[..., InfoNCEOutput]
_SMALLEST_LIMIT = 1e-4  # relative; sums in another order, and products of three TF32 parts, stay far below it
_ROUNDING_FACTOR = 4  # the kernel may err this many times as much as the reference does in the same precision
_QUERIES, _DOCUMENTS, _OWN = 7, 45, 3


def problem_of_triton(
    tasks: Sequence[TaskLossSettings],
    loss: LossConfig,
    matryoshka: Matryoshka | None,
    num_dimensions: int,
    dtypes: Sequence[torch.dtype],
    device: torch.device,
    compute: InfoNCE = info_nce,
) -> str | None:
    """Why the Triton kernels cannot compute this run's losses on this device, in one line; None if they can.

    num_dimensions: of an embedding. dtypes: of the embeddings that training may give. compute: the function to check.
    """
    for task in tasks:
        if "info_nce" not in task.losses:
            continue
        for dtype in dtypes:
            for scope in ("all",) if task.document_tower else ("all", "own"):
                options = _options(task, loss, matryoshka, scope, device)
                rows = _rows(num_dimensions, dtype, device)
                where = f"task {task.name}, {str(dtype).removeprefix('torch.')}"
                try:
                    error, limit = _errors(compute, rows, options)
                except Exception as failure:  # whatever goes wrong in a compiler or a driver
                    return f"{where}: {type(failure).__name__}: {(str(failure).splitlines() or [''])[0][:200]}"
                if not error <= limit:  # also if it is NaN
                    return f"{where}: differs from the reference by {error:.1e}, expected at most {limit:.1e}"
    return None


def _errors(compute: InfoNCE, rows: tuple[Tensor, Tensor], options: dict[str, Any]) -> tuple[float, float]:
    """The relative error of the kernel's loss and gradients, and the largest that is allowed."""
    truth = _loss_and_gradients(compute, tuple(row.double() for row in rows), options, "reference")
    errors = []
    for implementation in ("reference", "triton"):
        found = _loss_and_gradients(compute, rows, options, implementation)
        errors.append(max(float((f - t).norm() / t.norm()) for f, t in zip(found, truth, strict=True)))
    return errors[1], max(_SMALLEST_LIMIT, _ROUNDING_FACTOR * errors[0])


def _loss_and_gradients(
    compute: InfoNCE, rows: Sequence[Tensor], options: dict[str, Any], implementation: str
) -> tuple[Tensor, Tensor]:
    query_BD, document_ND = (row.detach().clone().requires_grad_() for row in rows)
    output = compute(query_BD, document_ND, **options, implementation=implementation)
    output.loss.backward()
    assert query_BD.grad is not None
    assert document_ND.grad is not None
    gradients = torch.cat([query_BD.grad.flatten(), document_ND.grad.flatten()])
    return output.loss.detach().double().cpu(), gradients.double().cpu()


def _rows(num_dimensions: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Queries and documents that resemble each other somewhat, so that no softmax is all on one document."""
    generator = torch.Generator().manual_seed(0)
    row_RD = torch.randn(_QUERIES + _DOCUMENTS, num_dimensions, generator=generator) + 1.0
    query_BD, document_ND = row_RD.to(device, dtype).split([_QUERIES, _DOCUMENTS])
    return query_BD, document_ND


def _options(
    task: TaskLossSettings, loss: LossConfig, matryoshka: Matryoshka | None, scope: str, device: torch.device
) -> dict[str, Any]:
    """The arguments of `info_nce` for a task: lists of several lengths, and all of the task's own options."""
    generator = torch.Generator().manual_seed(1)

    def lists(width: int) -> Tensor:
        place_BX = torch.randint(-1, _DOCUMENTS, (_QUERIES, width), generator=generator)
        place_BX[:, 0].clamp_(min=0)
        return place_BX.to(device)

    return {
        "positive_BP": lists(2),
        "temperature": loss.temperature if task.temperature is None else task.temperature,
        "matryoshka": matryoshka,
        "negatives": Negatives(
            scope=scope,  # type: ignore[arg-type]
            own_BM=lists(_OWN),
            excluded_BX=RaggedLists.of_padded(lists(2)),
            margin=task.margin,
            hardness=task.hardness,
        ),
        "towers": Towers(symmetric=task.symmetric, document_tower=task.document_tower),
    }
