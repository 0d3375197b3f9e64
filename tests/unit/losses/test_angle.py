"""The loss `angle` equals loops over complex numbers and sentence-transformers."""

from __future__ import annotations

import math

import pytest
import torch
from fused_contrastive import Matryoshka
from sentence_transformers.util import pairwise_angle_sim
from torch import Tensor

from harness.losses.angle import angle, angle_similarities


def pairs(num_pairs: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(width)
    left, right = torch.randn(2, num_pairs, width, generator=generator, dtype=torch.float64)
    return left.requires_grad_(), right.requires_grad_(), torch.randint(3, (num_pairs,), generator=generator).float()


def angle_of(left: list[float], right: list[float]) -> float:
    """|sum of Re + Im of z / w| for z and w of unit length, computed one complex number at a time."""
    half = (len(left) + 1) // 2
    left, right = ([*row, *[0.0] * (2 * half - len(row))] for row in (left, right))
    z = [complex(left[h], left[half + h]) for h in range(half)]
    w = [complex(right[h], right[half + h]) for h in range(half)]
    norms = [math.sqrt(sum(abs(number) ** 2 for number in row)) for row in (z, w)]
    quotients = [a * b.conjugate() / (norms[0] * norms[1]) for a, b in zip(z, w, strict=True)]
    return abs(sum(quotient.real + quotient.imag for quotient in quotients))


@pytest.mark.parametrize("width", [2, 5, 8])
def test_the_angle_similarity_is_that_of_complex_numbers_and_of_sentence_transformers(width: int) -> None:
    left, right, _ = pairs(20, width)
    found = angle_similarities(left, right)
    expected = [angle_of(*rows) for rows in zip(left.tolist(), right.tolist(), strict=True)]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(found, pairwise_angle_sim(left, right), rtol=1e-12, atol=1e-13)


def test_angle_is_cosents_sum_over_ordered_pairs_at_every_level_in_value_and_gradient() -> None:
    left, right, score = pairs(15, 6)
    loss = angle(left, right, score, temperature=0.1, matryoshka=Matryoshka([3, 6], [0.5, 2.0]))
    expected = torch.zeros((), dtype=torch.float64)
    for dim, weight in ((3, 0.5), (6, 2.0)):
        similarity = pairwise_angle_sim(left[:, :dim], right[:, :dim]) / 0.1
        ordered = [(similarity[j] - similarity[i]).exp() for i in range(15) for j in range(15) if score[i] > score[j]]
        expected = expected + weight * torch.stack(ordered).sum().log1p()
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)
    gradients = (torch.autograd.grad(value, (left, right)) for value in (loss, expected))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def test_angle_gives_a_zero_row_no_gradient_and_names_dims_that_do_not_fit() -> None:
    left, right, score = pairs(8, 4)
    with torch.no_grad():
        left[0] = 0
    gradient = torch.autograd.grad(angle(left, right, score, temperature=0.05), left)[0]
    assert gradient.isfinite().all()
    assert gradient[0].abs().sum() == 0
    with pytest.raises(ValueError, match=r"angle matryoshka\.dims: got \[9\], expected ascending numbers from 1 to 4"):
        angle(left, right, score, temperature=0.05, matryoshka=Matryoshka([9]))


def test_angle_says_which_embeddings_are_not_pairs() -> None:
    left, right, score = pairs(8, 4)
    with pytest.raises(ValueError, match=r"angle embedding2_ED: got float64 \[7, 4\] on cpu, expected the same as"):
        angle(left, right[1:], score, temperature=0.05)
    with pytest.raises(ValueError, match=r"angle embedding2_ED: got float32 .*, expected the same as"):
        angle(left, right.float(), score, temperature=0.05)
    with pytest.raises(ValueError, match=r"angle embedding1_ED: got int64 .*, expected a floating-point matrix"):
        angle(left.long(), right.long(), score, temperature=0.05)
