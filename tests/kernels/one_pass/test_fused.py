"""`chunked` gives the numbers of the reference, and equal bits in repeated calls."""

from __future__ import annotations

import pytest
import torch
from fused_contrastive import RaggedLists
from fused_contrastive.one_pass import torch_tiles
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernels.cases import FEATURES, assert_equal_outputs, make_case

SCOPES = ("all", "group", "own")
WORKSPACES = (None, 500)  # all queries and documents at once; square tiles of some queries and some documents


@pytest.mark.parametrize("workspace", WORKSPACES)
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("feature", ["nothing", *FEATURES])
def test_each_feature_equals_the_reference(feature: str, scope: str, workspace: int | None) -> None:
    case = make_case({feature, "own"} if scope == "own" or feature == "hardness" else {feature}, scope)
    assert_equal_outputs(case.run("chunked", workspace_bytes=workspace), case.run("reference"), 1e-12)


@pytest.mark.parametrize("workspace", WORKSPACES)
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("feature", FEATURES)
def test_hardness_with_each_feature_equals_the_reference(feature: str, scope: str, workspace: int | None) -> None:
    """Hardness computes own negatives as listed pairs, not in tiles: every rule must hold in both, at every level."""
    case = make_case({feature, "own", "levels", "hardness"}, scope)
    assert_equal_outputs(case.run("chunked", workspace_bytes=workspace), case.run("reference"), 1e-12)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    features=st.sets(st.sampled_from(FEATURES)),
    scope=st.sampled_from(SCOPES),
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 40), st.integers(1, 9)),
    workspace=st.sampled_from(WORKSPACES),
    seed=st.integers(0, 99),
)
def test_any_combination_of_features_and_sizes_equals_the_reference(
    features: set[str], scope: str, sizes: tuple[int, int, int], workspace: int | None, seed: int
) -> None:
    case = make_case(features, scope, *sizes, seed=seed)
    assert_equal_outputs(case.run("chunked", workspace_bytes=workspace), case.run("reference"), 1e-11)


@pytest.mark.parametrize("scope", SCOPES)
def test_panels_of_a_few_queries_against_all_documents_equal_the_reference(
    scope: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_tiles, "_MAX_ROWS", 3)
    case = make_case({*FEATURES} - {"symmetric", "document_tower"}, scope)
    assert_equal_outputs(case.run("chunked"), case.run("reference"), 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scope", ["all", "own"])
def test_the_error_is_that_of_the_reference_in_the_same_type(scope: str, dtype: torch.dtype) -> None:
    """Compared with float64 on the same rounded rows: at most twice the reference's error, plus one rounding."""
    case = make_case({"own", "levels", "margin"}, scope, num_queries=61, num_documents=131, width=67)
    for name in ("query_BD", "document_ND"):
        case.arguments[name] = case.arguments[name].to(dtype)
    truth, plain, tested = (case.run(*how) for how in (("reference",), ("reference", dtype), ("chunked", dtype)))
    assert tested[0].loss.dtype == torch.float32
    assert abs(tested[0].loss - truth[0].loss) <= 2 * abs(plain[0].loss - truth[0].loss) + 1e-6
    for one, other, exact in zip(tested[1], plain[1], truth[1], strict=True):
        assert one.dtype == dtype
        rounding = torch.finfo(dtype).eps * exact.abs().max()
        assert (one - exact).abs().max() <= 2 * (other - exact).abs().max() + rounding


def test_a_document_counts_once_however_often_a_query_names_it() -> None:
    """The document is listed twice, or is listed although the scope contains it anyway."""
    for scope in SCOPES:
        case = make_case({"own"}, scope)
        own = case.arguments["own_BM"]
        once = case.run("chunked")[0].loss
        twice = case.run("chunked", own_BM=torch.cat([own, own.flip(1)], dim=1))[0].loss
        torch.testing.assert_close(once, twice, rtol=1e-14, atol=0)


def test_an_own_negative_that_is_the_positive_or_excluded_is_dropped() -> None:
    case = make_case({"own"}, "own")
    positive, own = case.arguments["positive_B"], case.arguments["own_BM"]
    output, _ = case.run(
        "chunked", own_BM=torch.stack([positive, own[:, 0]], dim=1), excluded_BX=RaggedLists.of_padded(own[:, :1])
    )
    assert output.loss == 0
    assert output.stats.masked_B.tolist() == ((own[:, 0] >= 0) & (own[:, 0] != positive)).tolist()


@pytest.mark.parametrize("scope", SCOPES)
def test_parts_of_the_queries_with_the_global_denominator_add_up(scope: str) -> None:
    case = make_case({"own", "weights", "levels"}, scope)
    whole_loss, whole = case.run("chunked")
    denominator = case.arguments["weight_B"].sum()
    total = [torch.zeros_like(gradient) for gradient in whole]
    loss = torch.zeros(())
    for rows in (slice(0, 3), slice(3, 3), slice(3, 7)):  # the second part is empty
        part = {name: value[rows] for name, value in case.arguments.items() if name.endswith(("_B", "_BD", "_BM"))}
        output, (query, document) = case.run("chunked", **part, denominator=denominator)
        loss = loss + output.loss
        total[0][rows] += query
        total[1] += document
    torch.testing.assert_close(loss, whole_loss.loss, rtol=1e-13, atol=0, check_dtype=False)
    for one, other in zip(total, whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-15)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("scope", SCOPES)
def test_twice_the_same_bits(scope: str) -> None:
    """Enough rows for several threads, and documents of many queries: the order of the sums must be fixed."""
    case = make_case({"own", "levels"}, scope, num_queries=300, num_documents=310, width=64)
    (first, first_gradients), (second, second_gradients) = (case.run("chunked", torch.float32) for _ in range(2))
    assert torch.equal(first.loss, second.loss)
    for one, other in zip(first_gradients, second_gradients, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("implementation", ["reference", "chunked"])
def test_autocast_does_not_round_the_products(implementation: str) -> None:
    case = make_case(set())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = case.run(implementation, torch.float32)[0].loss
    assert torch.equal(cast, case.run(implementation, torch.float32)[0].loss)


def test_rows_need_not_be_contiguous() -> None:
    case = make_case({"own", "levels"})
    columns_first = {name: case.arguments[name].T.contiguous().T for name in ("query_BD", "document_ND")}
    assert_equal_outputs(case.run("chunked", **columns_first), case.run("chunked"), 1e-12)
