"""Gradients of `chunked` equal finite differences, and backward returns them with the right scale and dtype."""

from __future__ import annotations

import pytest
import torch
from fused_contrastive import info_nce
from torch import Tensor

from tests.kernels.cases import FEATURES, LEAVES, grouped, make_case

SCOPES = ("all", "group", "own")
WORKSPACES = (None, 500)  # all queries and documents at once; square tiles of some queries and some documents


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("workspace", WORKSPACES)
def test_the_gradient_equals_finite_differences(scope: str, workspace: int | None) -> None:
    case = make_case(
        {*FEATURES} - {"margin", "margin_full", "hardness"}, scope, num_queries=3, num_documents=7, width=4
    )
    leaves = [case.arguments[name].requires_grad_() for name in LEAVES]

    def loss(*rows: Tensor) -> Tensor:
        arguments = case.arguments | dict(zip(LEAVES, rows, strict=True))
        return 1.5 * info_nce(**grouped(arguments), workspace_bytes=workspace).loss

    assert torch.autograd.gradcheck(loss, leaves)


def test_a_second_backward_and_a_scaled_one_are_right() -> None:
    """The first backward returns the stored gradient itself; later changes to it must not reach the second backward."""
    case = make_case({"own"})
    query = case.arguments["query_BD"].requires_grad_()
    output = info_nce(**grouped(case.arguments))
    output.loss.backward(retain_graph=True)
    once = query.grad.clone()
    query.grad.mul_(7)
    query.grad = None
    (2 * output.loss).backward()
    torch.testing.assert_close(query.grad, 2 * once)


def test_without_gradients_the_numbers_are_the_same() -> None:
    case = make_case(set(FEATURES))
    with torch.no_grad():
        output = info_nce(**grouped(case.arguments), implementation="chunked")
    assert not output.loss.requires_grad
    torch.testing.assert_close(output.loss, case.run("reference")[0].loss.detach(), rtol=1e-12, atol=0)


def test_only_the_gradient_asked_for_is_computed() -> None:
    case = make_case({"levels"})
    document = case.arguments["document_ND"].requires_grad_()
    (gradient,) = torch.autograd.grad(1.5 * info_nce(**grouped(case.arguments)).loss, document)
    torch.testing.assert_close(gradient, case.run("reference")[1][1], rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize(("dtype", "upstream"), [(torch.float16, 65536.0), (torch.bfloat16, 1 / 3)])
def test_an_upstream_gradient_is_multiplied_in_before_the_gradient_is_rounded(
    dtype: torch.dtype, upstream: float
) -> None:
    """So that a loss scale keeps float16 gradients in range, and a factor of 1/3 is not rounded to bfloat16 first."""
    case = make_case(set(), num_queries=64, num_documents=128, width=16)
    rows = [case.arguments[name].to(dtype).requires_grad_() for name in ("query_BD", "document_ND")]
    arguments = {name: value for name, value in case.arguments.items() if name not in ("query_BD", "document_ND")}
    exact = [row.detach().double().requires_grad_() for row in rows]
    for leaves, implementation in ((rows, "chunked"), (exact, "reference")):
        loss = info_nce(*leaves, **grouped(arguments), denominator=64e3, implementation=implementation).loss
        (loss * upstream).backward()
    for row, truth in zip(rows, exact, strict=True):
        assert row.grad is not None
        assert truth.grad is not None
        error = (row.grad.double() - truth.grad).norm() / truth.grad.norm()
        assert error <= 0.3 * torch.finfo(dtype).eps  # each number is rounded once; rounding 1/3 would add 0.17 eps
