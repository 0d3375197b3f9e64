"""`triton` gives the numbers of the reference: with compiled kernels on a GPU, else in Triton's interpreter.

The interpreter computes wrong bfloat16 products, so on a CPU the tests use float32 and float16.
"""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from fused_contrastive import InfoNCEOutput
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.kernels.cases import FEATURES, Case, make_case

ON_GPU = torch.cuda.is_available()
SCOPES = ("all", "group", "own")
DTYPES = [torch.float32, torch.float16, *([torch.bfloat16] if ON_GPU else [])]
WORKSPACES = (None, 4096)  # panels of some queries and all documents; tiles that are computed twice


def assert_no_worse_than_the_reference(case: Case, dtype: torch.dtype, workspace: int | None = None) -> None:
    """Compared with float64 on the same rounded rows: at most 4 times the reference's error, plus a few roundings."""
    for name in ("query_BD", "document_ND"):
        case.arguments[name] = case.arguments[name].to(dtype)
    truth, plain = case.run("reference"), case.run("reference", dtype)
    tested = case.run("triton", dtype, workspace_bytes=workspace)
    for (name, one), (_, other), (_, exact) in zip(*map(named_numbers, (tested, plain, truth)), strict=True):
        if exact.dtype in (torch.bool, torch.int64):
            assert torch.equal(one, other), name
            continue
        one, other, exact = (torch.nan_to_num(value.double()) for value in (one, other, exact))
        if not exact.numel():
            continue
        rounding = torch.finfo(dtype if name in ("query_BD", "document_ND") else torch.float32).eps
        allowed = 4 * (other - exact).abs().max() + 8 * rounding * exact.abs().max() + 1e-7
        assert (one - exact).abs().max() <= allowed, name


def named_numbers(result: tuple[InfoNCEOutput, tuple[Tensor, ...]]) -> list[tuple[str, Tensor]]:
    output, gradients = result
    stats = [(field.name, getattr(output.stats, field.name)) for field in fields(output.stats)]
    named = [("loss", output.loss.detach()), *zip(("query_BD", "document_ND", "temperature"), gradients, strict=False)]
    return named + [(name, value) for name, value in stats if value is not None]


@pytest.mark.parametrize("workspace", WORKSPACES)
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("feature", ["nothing", *FEATURES])
def test_each_feature_equals_the_reference(feature: str, scope: str, workspace: int | None) -> None:
    features = {feature, "own"} if scope == "own" or feature == "hardness" else {feature}
    case = make_case(features, scope, num_queries=19, num_documents=37)
    assert_no_worse_than_the_reference(case, torch.float32, workspace)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    features=st.sets(st.sampled_from(FEATURES)),
    scope=st.sampled_from(("all", "group")),
    sizes=st.sampled_from([(1, 1, 1), (7, 31, 5), (13, 3, 37), (2, 97, 24), (33, 65, 48), (40, 40, 16)]),
    workspace=st.sampled_from(WORKSPACES),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 99),
)
def test_any_combination_of_features_and_sizes_equals_the_reference(
    features: set[str],
    scope: str,
    sizes: tuple[int, int, int],
    workspace: int | None,
    dtype: torch.dtype,
    seed: int,
) -> None:
    case = make_case(
        features - {"margin", "margin_full"}, scope, *sizes, seed=seed
    )  # float16 rounding can move a cosine across the margin
    assert_no_worse_than_the_reference(case, dtype, workspace)


@pytest.mark.parametrize("features", [{"levels"}, {"levels", "symmetric", "own", "excluded"}])
def test_many_tiles_in_both_directions_equal_the_reference(features: set[str]) -> None:
    """More than eight rows of tiles, so that programs process several groups, and panels have several tiles."""
    case = make_case(features, num_queries=150, num_documents=90, width=24)
    assert_no_worse_than_the_reference(case, torch.float32, 1 << 16)


@pytest.mark.gpu
@pytest.mark.skipif(not ON_GPU, reason="needs a CUDA GPU: without one the kernels are interpreted")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("features", [set(), {"levels"}, {"levels", "symmetric", "own", "excluded"}])
def test_real_sizes_on_a_gpu_equal_float64(features: set[str], dtype: torch.dtype) -> None:
    case = make_case(features, num_queries=3001, num_documents=5003, width=384)
    case.arguments = {k: v.cuda() if isinstance(v, Tensor) else v for k, v in case.arguments.items()}
    assert_no_worse_than_the_reference(case, dtype)


@pytest.mark.parametrize("features", [{"levels"}, {"levels", "symmetric", "own", "excluded"}])
def test_twice_the_same_bits(features: set[str]) -> None:
    case = make_case(features, num_queries=40, num_documents=70, width=32)
    (first, first_gradients), (second, second_gradients) = (case.run("triton", torch.float32) for _ in range(2))
    assert torch.equal(first.loss, second.loss)
    for one, other in zip(first_gradients, second_gradients, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_rows_that_are_not_finite_give_a_nan_loss(bad: float) -> None:
    case = make_case({"own", "margin"})
    case.arguments["query_BD"][3, 2] = bad
    assert case.run("triton", torch.float32)[0].loss.isnan()


def test_slopes_far_below_float16_are_kept_by_the_scale() -> None:
    """A thousand documents and a large denominator give slopes of 1e-8 and less, below the smallest float16 number."""
    case = make_case({"levels"}, num_queries=24, num_documents=1000, width=16)
    case.arguments["denominator"] = 1e5
    for name in ("query_BD", "document_ND"):
        case.arguments[name] = case.arguments[name].half()
    (_, exact), (_, half) = case.run("reference"), case.run("triton", torch.float16)
    for one, truth in zip(half, exact, strict=True):
        shown = truth.half().double()  # the gradient as far as float16 can represent it
        assert (one.double() - truth).norm() <= 0.01 * truth.norm() + 2 * (shown - truth).norm()
