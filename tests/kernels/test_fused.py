"""`chunked` gives the reference's numbers, deterministically and without a B x N matrix."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import pytest
import torch
from fused_contrastive import info_nce
from fused_contrastive.one_pass import torch_tiles
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from tests.kernels.cases import FEATURES, LEAVES, assert_equal_outputs, grouped, make_case

SCOPES = ("all", "group", "own")
WORKSPACES = (None, 500)  # all queries and documents at once; square tiles that cut both


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
    """Own negatives leave the tiles for the listed pairs: every rule must hold in both, and levels have own weights."""
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scope", ["all", "own"])
def test_the_error_is_that_of_the_reference_in_the_same_type(scope: str, dtype: torch.dtype) -> None:
    """Against float64 on the same rounded rows; at most twice the reference's error, plus one rounding."""
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
    """Listed twice, or listed although the scope brings it anyway."""
    for scope in SCOPES:
        case = make_case({"own"}, scope)
        own = case.arguments["own_BM"]
        once = case.run("chunked")[0].loss
        twice = case.run("chunked", own_BM=torch.cat([own, own.flip(1)], dim=1))[0].loss
        torch.testing.assert_close(once, twice, rtol=1e-14, atol=0)


def test_an_own_negative_that_is_the_positive_or_excluded_is_dropped() -> None:
    case = make_case({"own"}, "own")
    positive, own = case.arguments["positive_B"], case.arguments["own_BM"]
    output, _ = case.run("chunked", own_BM=torch.stack([positive, own[:, 0]], dim=1), excluded_BX=own[:, :1])
    assert output.loss == 0
    assert output.stats.masked_B.tolist() == ((own[:, 0] >= 0) & (own[:, 0] != positive)).tolist()


@pytest.mark.parametrize("scope", SCOPES)
def test_parts_of_the_queries_with_the_global_denominator_add_up(scope: str) -> None:
    case = make_case({"own", "weights", "levels"}, scope)
    whole_loss, whole = case.run("chunked")
    denominator = case.arguments["weight_B"].sum()
    total = [torch.zeros_like(gradient) for gradient in whole]
    loss = torch.zeros(())
    for rows in (slice(0, 3), slice(3, 3), slice(3, 7)):  # one of them empty
        part = {name: value[rows] for name, value in case.arguments.items() if name.endswith(("_B", "_BD", "_BM"))}
        output, (query, document) = case.run("chunked", **part, denominator=denominator)
        loss = loss + output.loss
        total[0][rows] += query
        total[1] += document
    torch.testing.assert_close(loss, whole_loss.loss, rtol=1e-13, atol=0, check_dtype=False)
    for one, other in zip(total, whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-15)


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
    query[2, :3] = 0  # the first level only
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
    """Never a number that looks right: the caller stops on a loss that is not finite. 1e200 squared overflows."""
    case = make_case({"own", "margin"}, scope)
    case.arguments["query_BD"][3, 2] = bad
    assert case.run(implementation)[0].loss.isnan()


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("scope", SCOPES)
def test_twice_the_same_bits(scope: str) -> None:
    """Rows above torch's threading grain, documents named by many queries: the order of sums must be fixed."""
    case = make_case({"own", "levels"}, scope, num_queries=300, num_documents=310, width=64)
    (first, first_gradients), (second, second_gradients) = (case.run("chunked", torch.float32) for _ in range(2))
    assert torch.equal(first.loss, second.loss)
    for one, other in zip(first_gradients, second_gradients, strict=True):
        assert torch.equal(one, other)


def test_a_second_backward_and_a_scaled_one_are_right() -> None:
    """The first hands out the stored gradient itself; nothing done to it later may leak into the second."""
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


@pytest.mark.parametrize("implementation", ["reference", "chunked"])
def test_autocast_does_not_round_the_products(implementation: str) -> None:
    case = make_case(set())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = case.run(implementation, torch.float32)[0].loss
    assert torch.equal(cast, case.run(implementation, torch.float32)[0].loss)


@pytest.mark.parametrize(("dtype", "upstream"), [(torch.float16, 65536.0), (torch.bfloat16, 1 / 3)])
def test_an_upstream_gradient_is_multiplied_in_before_the_gradient_is_rounded(
    dtype: torch.dtype, upstream: float
) -> None:
    """A loss scale keeps float16 gradients in range; a third of a loss is no common error in bfloat16."""
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
        assert error <= 0.3 * torch.finfo(dtype).eps  # rounding each number once; a rounded 1/3 alone is 0.17 eps more


@pytest.mark.parametrize("implementation", ["reference", "chunked"])
@pytest.mark.parametrize("scope", ["group", "own"])
def test_a_document_that_is_not_finite_gives_a_nan_loss_even_if_no_denominator_holds_it(
    scope: str, implementation: str
) -> None:
    """Its gradient is NaN, too: the loss must say so."""
    case = make_case({"own"}, scope)
    if scope == "group":
        case.arguments["document_group_N"][5] = 7
    case.arguments["positive_B"].fill_(0)
    case.arguments["own_BM"].fill_(1)
    case.arguments["document_ND"][5] = float("nan")
    assert case.run(implementation)[0].loss.isnan()


def test_rows_need_not_be_contiguous() -> None:
    case = make_case({"own", "levels"})
    columns_first = {name: case.arguments[name].T.contiguous().T for name in ("query_BD", "document_ND")}
    assert_equal_outputs(case.run("chunked", **columns_first), case.run("chunked"), 1e-12)


class _LargestTensor(TorchDispatchMode):
    """Elements of the largest tensor any operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(value, Tensor):
                self.elements = max(self.elements, value.untyped_storage().nbytes() // value.element_size())
        return result


@pytest.mark.parametrize("scope", SCOPES)
def test_no_tensor_grows_with_queries_times_documents(scope: str) -> None:
    """Every storage, integers and masks too, stays within the workspace or linear in B + N."""
    num_queries, num_documents, width, workspace = 700, 900, 8, 1 << 18
    features = set(FEATURES)
    case = make_case(features, scope, num_queries, num_documents, width)
    largest = {}
    for implementation in ("reference", "chunked"):
        with _LargestTensor() as watch:
            case.run(implementation, torch.float32, workspace_bytes=workspace)
        largest[implementation] = watch.elements
    assert largest["reference"] >= num_queries * num_documents
    assert largest["chunked"] <= max(workspace // 4, (num_queries + num_documents) * (width + 3))
    assert workspace // 4 < num_queries * num_documents / 8


@pytest.mark.parametrize("workspace", [1 << 19, 1 << 21])
def test_the_peak_of_all_memory_is_the_workspace_and_a_linear_rest(workspace: int) -> None:
    """By torch's own allocator; the matrix would be 16 MiB, and naive code holds three of them."""
    num_queries, num_documents, width = 2048, 2048, 16
    case = make_case({"own", "margin", "document_key"}, "all", num_queries, num_documents, width)
    for name in ("query_BD", "document_ND"):
        case.arguments[name] = case.arguments[name].float()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        case.run("chunked", torch.float32, workspace_bytes=workspace)
    events = profiled.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    peak = max(accumulate(change for _, change in changes))
    linear = 4 * (num_queries + num_documents) * (width + 1)
    assert workspace / 4 < peak <= workspace + 6 * linear


@pytest.mark.parametrize("implementation", ["reference", "chunked"])
@pytest.mark.parametrize("scope", ["all", "own"])
def test_a_copy_of_the_positive_is_kept_at_margin_zero_and_is_no_success(scope: str, implementation: str) -> None:
    """A copy of the positive in another row: rounding must not decide, and a collapsed model is not accurate."""
    case = make_case({"levels"}, scope, num_queries=40, num_documents=80, width=33)
    document = case.arguments["document_ND"]
    document[40:] = document[:40]
    case.arguments |= {"positive_B": torch.arange(40), "own_BM": torch.arange(40, 80)[:, None]}
    stats = case.run(implementation, torch.float32, margin=0.0)[0].stats
    assert not stats.correct_B.any()
    if scope == "own":
        assert stats.masked_B.sum() == 0
