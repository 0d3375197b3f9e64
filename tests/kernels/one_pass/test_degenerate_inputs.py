"""Edge cases: no queries, zero rows, rows that are not finite, copies of the positive."""

from __future__ import annotations

import pytest
import torch

from tests.kernels.cases import make_case

SCOPES = ("all", "group", "own")


@pytest.mark.parametrize("implementation", ["reference", "chunked"])
@pytest.mark.parametrize("scope", SCOPES)
def test_no_queries_give_loss_zero_and_zero_gradients(scope: str, implementation: str) -> None:
    case = make_case({"own", "levels", "excluded"}, scope, num_queries=0)
    output, gradients = case.run(implementation)
    assert output.loss == 0
    assert [gradient.abs().sum().item() for gradient in gradients] == [0.0, 0.0]


@pytest.mark.parametrize("scope", SCOPES)
def test_weights_that_are_all_zero_give_loss_zero_and_zero_gradients(scope: str) -> None:
    case = make_case({"own"}, scope)
    output, gradients = case.run("chunked", weight_B=torch.zeros(7))
    assert output.loss == 0
    assert all(gradient.abs().sum() == 0 for gradient in gradients)


@pytest.mark.parametrize("implementation", ["reference", "chunked"])
@pytest.mark.parametrize("scope", SCOPES)
def test_zero_rows_and_zero_prefixes_have_similarity_zero_and_no_gradient(scope: str, implementation: str) -> None:
    case = make_case({"own", "levels"}, scope)
    query, document = case.arguments["query_BD"], case.arguments["document_ND"]
    positive = case.arguments["positive_B"]
    query[0] = 0
    document[positive[1]] = 0
    query[2, :3] = 0  # zero in the first level only
    output, (query_gradient, document_gradient) = case.run(implementation)
    assert output.loss.isfinite()
    assert output.stats.positive_similarity_B[:2].tolist() == [0, 0]
    assert query_gradient[0].abs().max() == 0
    assert document_gradient[positive[1]].abs().max() == 0
    assert query_gradient.isfinite().all()
    assert query_gradient[2].abs().max() > 0


@pytest.mark.parametrize("implementation", ["reference", "chunked"])
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e200])
def test_rows_that_are_not_finite_give_a_nan_loss(scope: str, implementation: str, bad: float) -> None:
    """The loss must never be a plausible number: the caller stops if it is not finite. 1e200 squared overflows."""
    case = make_case({"own", "margin"}, scope)
    case.arguments["query_BD"][3, 2] = bad
    assert case.run(implementation)[0].loss.isnan()


@pytest.mark.parametrize("implementation", ["reference", "chunked"])
@pytest.mark.parametrize("scope", ["group", "own"])
def test_a_document_that_is_not_finite_gives_a_nan_loss_even_if_no_denominator_holds_it(
    scope: str, implementation: str
) -> None:
    """The gradient of the document is NaN, so the loss must be NaN, too."""
    case = make_case({"own"}, scope)
    if scope == "group":
        case.arguments["document_group_N"][5] = 7
    case.arguments["positive_B"].fill_(0)
    case.arguments["own_BM"].fill_(1)
    case.arguments["document_ND"][5] = float("nan")
    assert case.run(implementation)[0].loss.isnan()


@pytest.mark.parametrize("implementation", ["reference", "chunked"])
@pytest.mark.parametrize("scope", ["all", "own"])
def test_a_copy_of_the_positive_is_kept_at_margin_zero_and_is_no_success(scope: str, implementation: str) -> None:
    """A document equal to the positive must be kept whatever the rounding, and must not count as a success, so that a
    collapsed model does not look accurate.
    """
    case = make_case({"levels"}, scope, num_queries=40, num_documents=80, width=33)
    document = case.arguments["document_ND"]
    document[40:] = document[:40]
    case.arguments |= {"positive_B": torch.arange(40), "own_BM": torch.arange(40, 80)[:, None]}
    stats = case.run(implementation, torch.float32, margin=0.0)[0].stats
    assert not stats.correct_B.any()
    if scope == "own":
        assert stats.masked_B.sum() == 0
