"""CoSENT by sorting equals the formula over all E x E ordered pairs."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from fused_contrastive import Matryoshka, cosent
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor


def pairs(num_pairs: int, width: int = 6, seed: int = 0, grades: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings in float64, and scores with few different values, so that many scores are equal."""
    generator = torch.Generator().manual_seed(seed)
    left, right = torch.randn(2, num_pairs, width, generator=generator, dtype=torch.float64)
    return (
        left.requires_grad_(),
        right.requires_grad_(),
        torch.randint(grades, (num_pairs,), generator=generator).float(),
    )


def by_loops(left: Tensor, right: Tensor, score: Tensor, temperature: float) -> float:
    cosine = torch.nn.functional.cosine_similarity(left, right).tolist()
    order = range(len(cosine))
    total = sum(math.exp((cosine[j] - cosine[i]) / temperature) for i in order for j in order if score[i] > score[j])
    return math.log1p(total)


@pytest.mark.parametrize("implementation", ["reference", "chunked"])
def test_it_is_the_sum_over_pairs(implementation: str) -> None:
    left, right, score = pairs(30)
    loss = cosent(left, right, score, temperature=0.05, implementation=implementation)
    assert loss.item() == pytest.approx(by_loops(left, right, score, 0.05), rel=1e-12)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    num_pairs=st.integers(0, 40),
    grades=st.integers(1, 40),
    temperature=st.sampled_from([0.01, 0.05, 1.0]),
    seed=st.integers(0, 50),
)
def test_sorting_equals_the_square_form_in_value_and_gradient(
    num_pairs: int, grades: int, temperature: float, seed: int
) -> None:
    left, right, score = pairs(num_pairs, seed=seed, grades=grades)
    levels = Matryoshka([2, 6], [0.5, 2.0])
    results = []
    for implementation in ("reference", "chunked"):
        loss = cosent(left, right, score, temperature=temperature, implementation=implementation, matryoshka=levels)
        results.append((loss.detach(), *torch.autograd.grad(loss, (left, right))))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-11)


def test_the_gradient_equals_finite_differences() -> None:
    left, right, score = pairs(9, width=4)
    assert torch.autograd.gradcheck(
        lambda x, y: cosent(x, y, score, temperature=0.2, matryoshka=Matryoshka([2, 4])), (left, right)
    )


@pytest.mark.parametrize(("num_pairs", "score"), [(0, None), (1, None), (5, 3.0)])
def test_without_two_different_scores_it_is_zero_with_zero_gradient(num_pairs: int, score: float | None) -> None:
    left, right, scores = pairs(num_pairs)
    loss = cosent(left, right, scores if score is None else torch.full_like(scores, score), temperature=0.05)
    gradients = torch.autograd.grad(loss, (left, right))
    assert loss == 0
    assert all(gradient.abs().sum() == 0 for gradient in gradients)


def test_opposite_order_at_a_small_temperature_stays_finite_in_float32() -> None:
    """cosine / temperature is up to +-100: exp(200) overflows float32, but its logarithm must not."""
    left = torch.tensor([[1.0, 0.0], [1.0, 0.0]], requires_grad=True)
    right = torch.tensor([[1.0, 1e-3], [-1.0, 1e-3]])
    loss = cosent(left, right, torch.tensor([0.0, 1.0]), temperature=0.01)
    assert loss.item() == pytest.approx(200, rel=1e-4)
    assert torch.autograd.grad(loss, left)[0].isfinite().all()
    assert cosent(left, right, torch.tensor([1.0, 0.0]), temperature=0.01) == 0


def test_many_equal_pairs_are_counted_without_loss_of_precision() -> None:
    """9e8 pairs of cosine 1: a running sum in float32 would stop growing at 2^24, a running log-sum-exp after about
    1e5 pairs.
    """
    row = torch.ones(60_000, 1)
    score = torch.arange(60_000) % 2
    loss = cosent(row, row, score, temperature=0.01)
    assert loss.item() == pytest.approx(math.log1p(30_000**2), rel=1e-6)


def test_a_zero_row_gets_no_gradient() -> None:
    left, right, score = pairs(8)
    with torch.no_grad():
        left[0] = 0
    gradient = torch.autograd.grad(cosent(left, right, score, temperature=0.05), left)[0]
    assert gradient.isfinite().all()
    assert gradient[0].abs().sum() == 0


@pytest.mark.parametrize("implementation", ["auto", "triton"])
def test_every_other_name_is_the_running_form(implementation: str) -> None:
    left, right, score = pairs(30)
    one, other = (
        cosent(left, right, score, temperature=0.05, implementation=how) for how in (implementation, "chunked")
    )
    assert torch.equal(one, other)


BAD = [
    ("embedding1_ED", {"embedding1_ED": torch.zeros(4, 6, dtype=torch.int64)}, "int64"),
    ("embedding2_ED", {"embedding2_ED": torch.zeros(3, 6)}, r"float32 \[3, 6\]"),
    ("embedding2_ED", {"embedding2_ED": torch.zeros(4, 6, device="meta")}, "meta"),
    ("score_E", {"score_E": torch.zeros(3)}, r"float32 \[3\]"),
    ("score_E", {"score_E": torch.full((4,), torch.nan)}, "got NaN"),
    ("temperature", {"temperature": 0.0}, "above 0"),
    ("matryoshka.dims", {"matryoshka": Matryoshka([2, 7])}, r"1 to 6 \(D\)"),
    ("matryoshka.weights", {"matryoshka": Matryoshka([6], [1.0, 1.0])}, "1 numbers"),
    ("implementation", {"implementation": "fast"}, "chunked"),
]


@pytest.mark.parametrize(("argument", "changes", "expected"), BAD)
def test_a_bad_argument_is_named(argument: str, changes: dict[str, Any], expected: str) -> None:
    arguments = {
        "embedding1_ED": torch.ones(4, 6),
        "embedding2_ED": torch.ones(4, 6),
        "score_E": torch.ones(4),
        "temperature": 0.05,
    }
    with pytest.raises(ValueError, match=f"^cosent {re.escape(argument)}: got .*, expected ") as caught:
        cosent(**(arguments | changes))
    assert caught.match(expected)
