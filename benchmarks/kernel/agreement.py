"""Check that a side computes the right loss: compare its value and both gradients with a trusted computation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from fused_contrastive import Matryoshka, info_nce
from torch import Tensor

from benchmarks.kernel.cases import TEMPERATURE, Case, Inputs, make_inputs
from benchmarks.kernel.measure import forward_backward
from benchmarks.kernel.sides import NAIVE, Loss

SMALL_QUERIES, SMALL_DOCUMENTS = 256, 512
# Allowed error at the small size, as a multiple of the error that naive torch makes in the same dtype.
FACTOR = 4
# The same at the measured size, where errors add up over more rows. Real faults (an overflow, a race) are far larger.
FACTOR_AT_SIZE = 16
_PANEL_ROWS = 1024
_NAMES = ("value", "gradient of the queries", "gradient of the documents")
# value, gradient of the queries, gradient of the documents
Outcome = tuple[Tensor, Tensor, Tensor]
Errors = tuple[float, float, float]


@dataclass(frozen=True)
class Check:
    """Inputs, their true value and gradients, and the relative errors that naive torch makes in their dtype."""

    inputs: Inputs
    dims: tuple[int, ...]
    truth: Outcome
    naive_errors: Errors
    factor: int

    @property
    def allowed(self) -> Errors:
        """Largest allowed errors: `factor` times the errors of naive torch.

        An error of naive below one rounding counts as one rounding, because it can be 0 by chance. The limit is at most
        sqrt(epsilon) (half of the digits), because naive may itself be wrong.
        """
        epsilon = torch.finfo(self.inputs.query_BD.dtype).eps
        value, query, document = (min(self.factor * max(error, epsilon), epsilon**0.5) for error in self.naive_errors)
        return value, query, document

    def complaint(self, loss: Loss) -> str | None:
        """None if `loss` is right, else a message with the first wrong quantity, its error and the allowed error."""
        errors = relative_errors(forward_backward(loss, self.inputs, self.dims), self.truth)
        for name, error, allowed in zip(_NAMES, errors, self.allowed, strict=True):
            if not error <= allowed:  # `not <=` also catches NaN
                where = f"B={len(self.inputs.query_BD)} N={len(self.inputs.document_ND)}"
                return f"{name} off by {error:.1e} at {where}, allowed {allowed:.1e}"
        return None


def small_check(case: Case, device: torch.device) -> Check:
    """A check with few rows of the case. The truth is the package's reference in float64."""
    queries, documents = min(case.queries, SMALL_QUERIES), min(case.documents, SMALL_DOCUMENTS)
    inputs = make_inputs(replace(case, queries=queries, documents=documents), device)
    truth = forward_backward(_reference, _cast(inputs, torch.float64), case.dims)
    naive_errors = relative_errors(forward_backward(NAIVE.loss, inputs, case.dims), truth)
    return Check(inputs, case.dims, truth, naive_errors, FACTOR)


def check_at_size(inputs: Inputs, small: Check) -> Check:
    """A check with the measured inputs. The truth is naive torch in float32, computed in panels.

    The allowed errors follow from naive torch's errors in the small check.
    """
    truth = in_panels(_cast(inputs, torch.float32), small.dims)
    return Check(inputs, small.dims, truth, small.naive_errors, FACTOR_AT_SIZE)


def in_panels(inputs: Inputs, dims: tuple[int, ...]) -> Outcome:
    """Value and gradients by naive torch, a panel of queries at a time, so that no B x N matrix is stored.

    The sum over panels is exact because the queries' losses do not depend on each other.
    """
    query_BD, document_ND, positive_B = inputs
    value = query_BD.new_zeros(())
    query_gradient_BD, document_gradient_ND = torch.empty_like(query_BD), torch.zeros_like(document_ND)
    for start in range(0, len(query_BD), _PANEL_ROWS):
        rows = slice(start, min(start + _PANEL_ROWS, len(query_BD)))
        share = (rows.stop - rows.start) / len(query_BD)
        panel = Inputs(query_BD[rows].detach().requires_grad_(), document_ND, positive_B[rows])
        panel_value, panel_query_gradient, panel_document_gradient = forward_backward(NAIVE.loss, panel, dims)
        value += share * panel_value
        query_gradient_BD[rows] = share * panel_query_gradient
        document_gradient_ND.add_(panel_document_gradient, alpha=share)
    return value, query_gradient_BD, document_gradient_ND


def relative_errors(outcome: Outcome, truth: Outcome) -> Errors:
    """|outcome - truth| / |truth| of the value and of both gradients, in the dtype of the truth."""
    value, query, document = (
        float(torch.linalg.vector_norm(got.to(true) - true) / torch.linalg.vector_norm(true))
        for got, true in zip(outcome, truth, strict=True)
    )
    return value, query, document


def _reference(query_BD: Tensor, document_ND: Tensor, positive_B: Tensor, dims: tuple[int, ...]) -> Tensor:
    return info_nce(
        query_BD,
        document_ND,
        positive_B,
        temperature=TEMPERATURE,
        matryoshka=Matryoshka(dims),
        implementation="reference",
    ).loss


def _cast(inputs: Inputs, dtype: torch.dtype) -> Inputs:
    query_BD, document_ND = (rows.detach().to(dtype).requires_grad_() for rows in inputs[:2])
    return Inputs(query_BD, document_ND, inputs.positive_B)
