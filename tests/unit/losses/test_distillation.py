"""Losses that compare a query's similarities with a ranker's scores equal loops over single numbers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.loss_table import DISTILLATION_LOSSES
from harness.losses.distillation import cosines_of_lists
from harness.losses.kl import kl
from harness.losses.margin_mse import margin_mse

NAN = float("nan")

# Query 0: two positives, one negative. Query 1: one positive, two negatives. Query 2: one positive, no negative.
POSITIVE_SCORE = torch.tensor([[3.0, 1.0], [2.0, NAN], [0.5, NAN]], dtype=torch.float64)
NEGATIVE_SCORE = torch.tensor([[-1.0, NAN], [0.5, -2.0], [NAN, NAN]], dtype=torch.float64)


def students() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    positive, negative = torch.randn(2, 3, 2, generator=generator, dtype=torch.float64)
    return positive.requires_grad_(), negative.requires_grad_()


def naive_margin_mse(positive: Tensor, negative: Tensor) -> Tensor:
    """The formula by loops over all pairs of a positive and a negative."""
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


LOSS_AND_NAIVE_FORM = {"margin_mse": (margin_mse, naive_margin_mse), "kl": (kl, naive_kl)}


@pytest.mark.parametrize("name", DISTILLATION_LOSSES)
def test_a_distillation_loss_is_its_formula_for_lists_of_any_length(name: str) -> None:
    """Compares value and gradient. Numbers in padded cells have no effect."""
    loss, naive = LOSS_AND_NAIVE_FORM[name]
    given = students()
    found, expected = loss(*given, POSITIVE_SCORE, NEGATIVE_SCORE), naive(*given)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    gradients = [torch.autograd.grad(values.sum(), given) for values in (found, expected)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-13)
        assert one.abs().sum() > 0


@pytest.mark.parametrize("name", DISTILLATION_LOSSES)
def test_a_student_that_agrees_with_its_teacher_has_no_loss_and_one_without_negatives_neither(name: str) -> None:
    """Agreement means equal up to a constant per query, because such a shift changes neither margins nor a softmax."""
    loss, _ = LOSS_AND_NAIVE_FORM[name]
    agreeing = loss(POSITIVE_SCORE.nan_to_num() + 7, NEGATIVE_SCORE.nan_to_num() + 7, POSITIVE_SCORE, NEGATIVE_SCORE)
    torch.testing.assert_close(agreeing, torch.zeros_like(agreeing), rtol=0, atol=1e-12)
    positive, negative = students()
    disagreeing = loss(positive, negative, POSITIVE_SCORE, NEGATIVE_SCORE)
    assert (disagreeing[:2] > 0.01).all()
    assert disagreeing[2] == 0


def test_kl_has_the_gradient_of_flagembeddings_cross_entropy_with_the_teachers_probabilities() -> None:
    """KL equals -sum softmax(t) * log softmax(s) up to the teacher's entropy, which is constant."""
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
