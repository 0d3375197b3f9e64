"""The reference implementation is what its docstring says."""

from __future__ import annotations

import pytest
import torch
from fused_contrastive import info_nce

from tests.kernels.cases import FEATURES, LEAVES, loss_by_loops, make_case

SCOPES = ("step", "task", "own")


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("feature", [*FEATURES, "everything"])
def test_the_reference_equals_loops_over_the_definition(scope: str, feature: str) -> None:
    features = set(FEATURES) if feature == "everything" else {feature, "own"}
    case = make_case(features, scope)
    output, _ = case.run("reference")
    loss, sizes = loss_by_loops(case)
    assert output.loss.item() == pytest.approx(loss, rel=1e-12)
    dropping = features & {"excluded", "query_key", "document_key", "margin"}
    assert len(set(sizes)) > 1 or (scope == "step" and not dropping)  # the rule did something


@pytest.mark.parametrize("scope", SCOPES)
def test_the_gradient_of_the_reference_equals_finite_differences(scope: str) -> None:
    case = make_case({*FEATURES} - {"margin"}, scope)
    leaves = [case.arguments[name].requires_grad_() for name in LEAVES]

    def loss(*rows: torch.Tensor) -> torch.Tensor:
        arguments = case.arguments | dict(zip(LEAVES, rows, strict=True))
        return info_nce(**arguments, implementation="reference").loss

    assert torch.autograd.gradcheck(loss, leaves)


def test_without_options_it_is_the_usual_cross_entropy_of_normalised_rows() -> None:
    case = make_case(set())
    query, document = (torch.nn.functional.normalize(case.arguments[name]) for name in ("query_BD", "document_ND"))
    expected = torch.nn.functional.cross_entropy(query @ document.T / 0.1, case.arguments["positive_B"])
    torch.testing.assert_close(case.run("reference")[0].loss, expected, rtol=1e-13, atol=0)
