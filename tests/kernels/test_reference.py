"""The reference implementation equals the definitions in its docstring."""

from __future__ import annotations

import math

import pytest
import torch
from fused_contrastive import RaggedLists, info_nce
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernels.cases import FEATURES, LEAVES, Case, assert_equal_stats, grouped, loss_by_loops, make_case

SCOPES = ("all", "group", "own")
TOWERS = ({"query_tower"}, {"document_tower"}, {"query_tower", "document_tower"})
CHANGING = ("positives", "hardness", "symmetric", "query_row", "margin_full", "query_tower", "document_tower")
DROPPING = {"excluded", "query_key", "document_key", "margin"}


def assert_equals_the_loops(case: Case, tolerance: float) -> None:
    output = case.run("reference")[0]
    loss, stats = loss_by_loops(case)
    assert output.loss.item() == pytest.approx(loss, rel=tolerance, abs=tolerance)
    assert_equal_stats(output.stats, stats, tolerance)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("feature", [*FEATURES, "everything"])
def test_the_reference_equals_loops_over_the_definition(scope: str, feature: str) -> None:
    features = set(FEATURES) if feature == "everything" else {feature, "own", "levels"}
    case = make_case(features, scope)
    assert_equals_the_loops(case, 1e-12)
    if features & DROPPING:
        assert loss_by_loops(case)[1].masked_B.sum() > 0  # the rule masked something


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    features=st.sets(st.sampled_from(FEATURES)),
    scope=st.sampled_from(SCOPES),
    sizes=st.tuples(st.integers(1, 6), st.integers(1, 12), st.integers(1, 6)),
    seed=st.integers(0, 99),
)
def test_any_combination_of_features_and_sizes_equals_the_loops(
    features: set[str], scope: str, sizes: tuple[int, int, int], seed: int
) -> None:
    assert_equals_the_loops(make_case(features, scope, *sizes, seed=seed), 1e-11)


@pytest.mark.parametrize(
    ("feature", "scope"),
    [(feature, scope) for feature in CHANGING for scope in SCOPES if scope != "own" or not feature.endswith("_tower")],
)
def test_each_feature_changes_the_loss(feature: str, scope: str) -> None:
    """Otherwise the equalities above could hold for a feature without effect."""
    base = {"levels", "margin", "own"}
    one, other = (make_case(features, scope).run("reference")[0].loss for features in ({*base, feature}, base))
    assert abs(one - other) > 1e-4


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("towers", TOWERS)
def test_the_gradient_of_the_reference_equals_finite_differences(scope: str, towers: set[str]) -> None:
    every = {*FEATURES} - {"margin", "margin_full", "hardness", "query_tower", "document_tower"}
    case = make_case(every | towers, scope, num_queries=5, num_documents=11, width=8)
    leaves = [case.arguments[name].requires_grad_() for name in LEAVES]

    def loss(*rows: torch.Tensor) -> torch.Tensor:
        arguments = case.arguments | dict(zip(LEAVES, rows, strict=True))
        return info_nce(**grouped(arguments), implementation="reference").loss

    assert torch.autograd.gradcheck(loss, leaves)


@pytest.mark.parametrize("scope", SCOPES)
def test_the_weight_of_a_hard_negative_takes_no_gradient(scope: str) -> None:
    """Compared with the formula in which the weights are constants from each level's cosines (EmbeddingGemma)."""
    case = make_case({"own", "levels", "hardness", "excluded"}, scope)
    a, rows = case.arguments, {}
    for name in ("query_BD", "document_ND"):
        rows[name] = a[name].clone().requires_grad_()
    loss = torch.zeros((), dtype=torch.float64)
    for dim, level_weight in zip(a["matryoshka_dims"], a["matryoshka_weights"], strict=True):
        query, document = (torch.nn.functional.normalize(row[:, :dim]) for row in rows.values())
        cosine = query @ document.T
        for i, positive in enumerate(a["positive_B"].tolist()):
            own = set(a["own_BM"][i].tolist()) - {-1}
            group = range(17) if scope != "group" else (a["document_group_N"] == a["query_group_B"][i]).nonzero()[:, 0]
            kept = sorted((own if scope == "own" else own | {int(j) for j in group}) - {positive})
            start, stop = a["excluded_BX"].start_B1[i : i + 2].tolist()
            kept = [j for j in kept if j not in a["excluded_BX"].index_E[start:stop].tolist()]
            weight = torch.tensor(
                [math.exp(3 * cosine[i, j].item()) if j in own else 1.0 for j in kept], dtype=torch.float64
            )
            terms = [(cosine[i, positive] / 0.1).exp(), (weight * (cosine[i, kept] / 0.1).exp()).sum()]
            loss = loss + level_weight * (sum(terms).log() - cosine[i, positive] / 0.1) / 7
    expected = torch.autograd.grad(1.5 * loss, list(rows.values()))
    for one, other in zip(case.run("reference")[1], expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


def test_a_hard_negative_that_is_excluded_stays_out() -> None:
    """Its weight must not bring it back."""
    case = make_case({"own", "hardness"})
    everything = RaggedLists.of_padded(torch.arange(17).expand(7, 17))
    assert case.run("reference", excluded_BX=everything)[0].loss == 0


def test_without_options_it_is_the_usual_cross_entropy_of_normalised_rows() -> None:
    case = make_case(set())
    query, document = (torch.nn.functional.normalize(case.arguments[name]) for name in ("query_BD", "document_ND"))
    expected = torch.nn.functional.cross_entropy(query @ document.T / 0.1, case.arguments["positive_B"])
    torch.testing.assert_close(case.run("reference")[0].loss, expected, rtol=1e-13, atol=0)


def test_symmetric_pairs_are_the_mean_of_the_cross_entropies_of_rows_and_columns() -> None:
    """As in CLIP: document i is the positive of query i."""
    case = make_case({"symmetric"}, num_queries=9, num_documents=9)
    query, document = (torch.nn.functional.normalize(case.arguments[name]) for name in ("query_BD", "document_ND"))
    logit, target = query @ document.T / 0.1, torch.arange(9)
    expected = (
        torch.nn.functional.cross_entropy(logit, target) + torch.nn.functional.cross_entropy(logit.T, target)
    ) / 2
    torch.testing.assert_close(case.run("reference", positive_B=target)[0].loss, expected, rtol=1e-13, atol=0)


def test_all_towers_of_pairs_are_the_four_sums_of_gte() -> None:
    """log of the sum over q-d, q-q, d-d and d-q, less the positive's logit (GTE, arXiv 2308.03281)."""
    case = make_case({"query_tower", "document_tower"}, num_queries=9, num_documents=9)
    query, document = (torch.nn.functional.normalize(case.arguments[name]) for name in ("query_BD", "document_ND"))
    others = ~torch.eye(9, dtype=torch.bool)
    logits = [query @ document.T, query @ query.T, document @ document.T, document @ query.T]
    sums = [(logits[0] / 0.1).exp().sum(1), *((logit / 0.1).exp().mul(others).sum(1) for logit in logits[1:])]
    expected = (torch.stack(sums).sum(0).log() - logits[0].diagonal() / 0.1).mean()
    loss = case.run("reference", positive_B=torch.arange(9))[0].loss
    torch.testing.assert_close(loss, expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("scope", ["all", "group"])
@pytest.mark.parametrize("document_tower", [False, True])
def test_queries_that_the_caller_puts_among_the_documents_are_those_of_the_query_tower(
    scope: str, document_tower: bool
) -> None:
    """With several processes the caller must do this, because `query_tower` sees only the queries of one process."""
    towers = {"query_tower", "document_tower"} if document_tower else {"query_tower"}
    case = make_case({"query_key", "levels", "symmetric", "positives", "margin", *towers}, scope)
    expected, (by_query, by_document) = case.run("reference")
    arguments = case.arguments
    num_queries, num_documents = len(arguments["query_BD"]), len(arguments["document_ND"])
    table = torch.cat([arguments["document_ND"], arguments["query_BD"]])
    query_row_B = num_documents + torch.arange(num_queries)
    changes = {"document_ND": table, "query_row_B": query_row_B, "query_tower": False}
    if scope == "group":
        changes["document_group_N"] = torch.cat([arguments["document_group_N"], arguments["query_group_B"]])
    output, (query_part, by_table) = case.run("reference", **changes)
    assert_equal_stats(output.stats, expected.stats, 1e-12)
    torch.testing.assert_close(output.loss, expected.loss, rtol=1e-13, atol=0)
    torch.testing.assert_close(query_part + by_table[num_documents:], by_query, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(by_table[:num_documents], by_document, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("scope", SCOPES)
def test_one_positive_is_the_same_in_either_argument_and_in_both(scope: str) -> None:
    case = make_case({"own", "symmetric", "margin", "document_key"}, scope)
    positive_B = case.arguments["positive_B"]
    padded = torch.stack([torch.full_like(positive_B, -1), positive_B, positive_B], dim=1)
    expected = case.run("reference")[0].loss
    assert torch.equal(case.run("reference", positive_BP=padded)[0].loss, expected)
    assert torch.equal(case.run("reference", positive_BP=padded, positive_B=None)[0].loss, expected)


@pytest.mark.parametrize("scope", SCOPES)
def test_a_query_whose_every_candidate_is_dropped_has_loss_zero_and_no_gradient(scope: str) -> None:
    case = make_case({"own", "levels", "symmetric", "positives"}, scope)
    excluded = RaggedLists.of_padded(torch.arange(17).expand(7, 17))
    output, gradients = case.run("reference", excluded_BX=excluded)
    assert output.loss == 0
    assert all(gradient.abs().max() < 1e-16 for gradient in gradients)
    assert not output.stats.lse_KB.isinf().any()
    assert output.stats.mean_negative_similarity_B.isnan().all()


def test_no_queries_and_no_documents_give_loss_zero() -> None:
    output = make_case({"own", "levels", "symmetric"}, num_queries=0, num_documents=1).run("reference")[0]
    assert output.loss == 0
    empty = torch.zeros(0, 12)
    assert (
        info_nce(empty, empty, torch.zeros(0, dtype=torch.int64), temperature=0.1, implementation="reference").loss == 0
    )
