"""The mathematics of the losses beside InfoNCE and CoSENT, against loops over single numbers and against peers."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from sentence_transformers.util import pairwise_angle_sim
from torch import Tensor

from harness.losses.angle import angle, angle_similarities
from harness.losses.distillation import cosines_of_lists, kl, margin_mse
from harness.losses.terms import PAIR_TERMS, QUERY_TERMS
from harness.types import DISTILLATION_LOSSES, LOSSES_OF_KIND

NAN = float("nan")


def pairs(num_pairs: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(width)
    left, right = torch.randn(2, num_pairs, width, generator=generator, dtype=torch.float64)
    return left.requires_grad_(), right.requires_grad_(), torch.randint(3, (num_pairs,), generator=generator).float()


def angle_of(left: list[float], right: list[float]) -> float:
    """|sum of Re + Im of z / w|, scaled to unit length, one complex number at a time."""
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
    loss = angle(left, right, score, temperature=0.1, matryoshka_dims=[3, 6], matryoshka_weights=[0.5, 2.0])
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
    with pytest.raises(ValueError, match=r"angle matryoshka_dims: got \[9\], expected ascending numbers from 1 to 4"):
        angle(left, right, score, temperature=0.05, matryoshka_dims=[9])


def test_angle_says_which_embeddings_are_not_pairs() -> None:
    left, right, score = pairs(8, 4)
    with pytest.raises(ValueError, match=r"angle embedding2_ED: got float64 \[7, 4\] on cpu, expected the same as"):
        angle(left, right[1:], score, temperature=0.05)
    with pytest.raises(ValueError, match=r"angle embedding2_ED: got float32 .*, expected the same as"):
        angle(left, right.float(), score, temperature=0.05)
    with pytest.raises(ValueError, match=r"angle embedding1_ED: got int64 .*, expected a floating-point matrix"):
        angle(left.long(), right.long(), score, temperature=0.05)


# Two queries with two positives and one negative, one positive and two negatives; one without a negative.
POSITIVE_SCORE = torch.tensor([[3.0, 1.0], [2.0, NAN], [0.5, NAN]], dtype=torch.float64)
NEGATIVE_SCORE = torch.tensor([[-1.0, NAN], [0.5, -2.0], [NAN, NAN]], dtype=torch.float64)


def students() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    positive, negative = torch.randn(2, 3, 2, generator=generator, dtype=torch.float64)
    return positive.requires_grad_(), negative.requires_grad_()


def naive_margin_mse(positive: Tensor, negative: Tensor) -> Tensor:
    """Over the pairs of a positive and a negative that are there."""
    losses = []
    for i in range(3):
        squared = [
            ((positive[i, p] - negative[i, m]) - (POSITIVE_SCORE[i, p] - NEGATIVE_SCORE[i, m])) ** 2
            for p in range(2)
            for m in range(2)
            if not (POSITIVE_SCORE[i, p].isnan() or NEGATIVE_SCORE[i, m].isnan())
        ]
        losses.append(torch.stack(squared).mean() if squared else positive.new_zeros(()))
    return torch.stack(losses)


def naive_kl(positive: Tensor, negative: Tensor) -> Tensor:
    losses = []
    for i in range(3):
        teacher = torch.cat([POSITIVE_SCORE[i], NEGATIVE_SCORE[i]])
        there = ~teacher.isnan()
        student = torch.cat([positive[i], negative[i]])[there].log_softmax(0)
        losses.append(F.kl_div(student, teacher[there].softmax(0), reduction="sum"))
    return torch.stack(losses)


@pytest.mark.parametrize(("loss", "naive"), [(margin_mse, naive_margin_mse), (kl, naive_kl)])
def test_a_distillation_loss_is_its_formula_for_lists_of_any_length(loss, naive) -> None:  # type: ignore[no-untyped-def]
    """In value and gradient; what stands in padded cells has no part in it."""
    given = students()
    found, expected = loss(*given, POSITIVE_SCORE, NEGATIVE_SCORE), naive(*given)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    gradients = [torch.autograd.grad(values.sum(), given) for values in (found, expected)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-13)
        assert one.abs().sum() > 0


@pytest.mark.parametrize("loss", [margin_mse, kl])
def test_a_student_that_agrees_with_its_teacher_has_no_loss_and_one_without_negatives_neither(loss) -> None:  # type: ignore[no-untyped-def]
    """Up to a constant per query: a shift of all scores changes neither margins nor a softmax."""
    agreeing = loss(POSITIVE_SCORE.nan_to_num() + 7, NEGATIVE_SCORE.nan_to_num() + 7, POSITIVE_SCORE, NEGATIVE_SCORE)
    torch.testing.assert_close(agreeing, torch.zeros_like(agreeing), rtol=0, atol=1e-12)
    positive, negative = students()
    disagreeing = loss(positive, negative, POSITIVE_SCORE, NEGATIVE_SCORE)
    assert (disagreeing[:2] > 0.01).all()
    assert disagreeing[2] == 0


def test_kl_has_the_gradient_of_flagembeddings_cross_entropy_with_the_teachers_probabilities() -> None:
    """-sum softmax(t) * log softmax(s): the teacher's entropy is a constant."""
    positive, negative = (rows[:1] for rows in students())
    teacher = torch.cat([POSITIVE_SCORE[:1], NEGATIVE_SCORE[:1, :1]], 1)
    student = torch.cat([positive, negative[:, :1]], 1)
    theirs = -(student.log_softmax(1) * teacher.softmax(1)).sum()
    ours = kl(positive, negative, POSITIVE_SCORE[:1], NEGATIVE_SCORE[:1]).sum()
    for one, other in zip(*(torch.autograd.grad(v, (positive, negative)) for v in (ours, theirs)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


def test_cosines_of_lists_are_cosines_of_prefixes_and_zero_where_padded() -> None:
    table = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    document = torch.tensor([[1, -1, 2], [-1, -1, -1], [5, 4, 4]])
    found = cosines_of_lists(table, torch.tensor([0, 3, 3]), document, (2, 5))
    for level, dim in enumerate((2, 5)):
        for row, query in enumerate((0, 3, 3)):
            for column, text in enumerate(document[row].tolist()):
                expected = F.cosine_similarity(table[query, :dim], table[text, :dim], dim=0) if text >= 0 else 0.0
                assert found[level, row, column] == pytest.approx(float(expected), abs=1e-14)


def test_every_name_of_a_loss_stands_in_the_table_and_belongs_to_a_kind() -> None:
    assert set(QUERY_TERMS) == {*LOSSES_OF_KIND["retrieval"], *LOSSES_OF_KIND["classification"]}
    assert set(PAIR_TERMS) == set(LOSSES_OF_KIND["sts"])
    assert set(DISTILLATION_LOSSES) < set(QUERY_TERMS)
