"""The losses about where embeddings lie: limits, other libraries, blocks of rows, the recipe's weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sentence_transformers.sentence_transformer.losses import GlobalOrthogonalRegularizationLoss
from torch import Tensor

from harness.losses.config import LossConfig
from harness.losses.geometry.pairwise import sum_over_pairs
from harness.losses.interface import TaskLossSettings
from harness.losses.objective import Objective
from harness.types import QueryPart, RaggedLists, StepPlan, StepTexts, TeacherRows

QUERIES, DIM = 5, 8
DOUBLE = torch.float64


def part(teacher_dim: int = DIM, teacher: TeacherRows | None = None) -> QueryPart:
    """Query i is text i, its positive text 5 + i, its negative text 10 + i."""
    random, number = np.random.default_rng(2), np.arange(QUERIES)
    teacher = teacher or TeacherRows(
        random.normal(size=(QUERIES, teacher_dim)),
        random.normal(size=(QUERIES, 1, teacher_dim)),
        random.normal(size=(QUERIES, 1, teacher_dim)),
    )
    return QueryPart(
        task="faq",
        row_B=number,
        query_B=number,
        document_N=np.arange(QUERIES, 3 * QUERIES),
        positive_BP=number[:, None],
        negative_BM=QUERIES + number[:, None],
        rank_BM=number[:, None],
        excluded_BX=RaggedLists.of_padded(np.full((QUERIES, 0), -1)),
        own_negatives_only=False,
        teacher=teacher,
    )


def loss_of(query_part: QueryPart, rows: Tensor, *losses: str, weights: dict[str, float] | None = None) -> Tensor:
    texts = StepTexts(np.zeros(len(rows), np.int32), np.arange(len(rows)), np.ones(len(rows), np.int64))
    settings = TaskLossSettings("faq", losses=losses)
    objective = Objective([settings], LossConfig(weights=weights or {}), None, None)
    return objective(StepPlan(1, texts, (query_part,)), rows).loss


def rows(seed: int = 0, dim: int = DIM) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(3 * QUERIES, dim, generator=generator, dtype=DOUBLE) + 0.5).requires_grad_()


def test_spread_out_has_the_gradient_of_sentence_transformers_global_orthogonal_regularisation() -> None:
    """Theirs is smaller by 1 / dimensions for each of the two sides, a constant; here both means are above that."""
    theirs = GlobalOrthogonalRegularizationLoss(model=None, mean_weight=0.0, aggregation="sum")  # type: ignore[arg-type]
    table = rows()
    expected = theirs.compute_loss_from_embeddings([table[:QUERIES], table[QUERIES : 2 * QUERIES]])["gor_second_moment"]
    assert expected > 0.1
    loss = loss_of(part(), table, "spread_out")
    torch.testing.assert_close(loss, expected + 2 / DIM, rtol=1e-12, atol=0)
    gradients = [torch.autograd.grad(value, table)[0] for value in (loss, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)


def test_spread_out_is_0_for_texts_at_right_angles_and_counts_a_repeated_text_once() -> None:
    """A text that is the positive of two queries is no neighbour of itself."""
    table = torch.eye(3 * QUERIES, dtype=DOUBLE)
    assert loss_of(part(), table, "spread_out") == 0
    shared = replace(part(), positive_BP=np.zeros((QUERIES, 1), dtype=np.int64))
    assert loss_of(shared, table, "spread_out") == 0


def test_a_student_with_its_teachers_vectors_has_no_loss_and_their_lengths_do_not_matter() -> None:
    table = rows()
    scaled = (3 * table).detach().numpy()
    teacher = TeacherRows(scaled[:QUERIES], scaled[QUERIES : 2 * QUERIES, None], scaled[2 * QUERIES :, None])
    for loss in ("teacher_cosine", "teacher_similarity"):
        assert loss_of(part(teacher=teacher), table, loss).item() == pytest.approx(0, abs=1e-12)
        assert loss_of(part(), table, loss) > 0.1


def test_teacher_cosine_is_half_the_squared_distance_of_rows_of_length_1() -> None:
    """As EmbedDistill and EmbeddingGemma write it, but for the half."""
    table, given = rows(), part()
    assert given.teacher is not None
    assert given.teacher.negative_BMV is not None
    vectors = [given.teacher.query_BV, given.teacher.positive_BPV[:, 0], given.teacher.negative_BMV[:, 0]]
    teacher = F.normalize(torch.from_numpy(np.concatenate(vectors)), dim=1)
    squared = (F.normalize(table, dim=1) - teacher).square().sum(1) / 2
    torch.testing.assert_close(loss_of(given, table, "teacher_cosine"), squared.sum() / QUERIES)


def test_teacher_similarity_is_the_mean_squared_error_of_the_similarity_matrices_whatever_the_teachers_size() -> None:
    """As a matrix product over all texts: Jasper and Stella's formula."""
    table, given = rows(), part(teacher_dim=37)
    assert given.teacher is not None
    assert given.teacher.negative_BMV is not None
    vectors = [given.teacher.query_BV, given.teacher.positive_BPV[:, 0], given.teacher.negative_BMV[:, 0]]
    teacher, student = F.normalize(torch.from_numpy(np.concatenate(vectors)), dim=1), F.normalize(table, dim=1)
    expected = F.mse_loss(student @ student.T, teacher @ teacher.T)
    torch.testing.assert_close(loss_of(given, table, "teacher_similarity"), expected)


def test_blocks_of_rows_change_neither_the_sum_over_pairs_nor_its_gradient() -> None:
    """A step of many texts is compared block by block; each block is computed again in the backward pass."""

    def value(cosine_AN: Tensor, block: slice) -> Tensor:
        return (cosine_AN - 0.1 * torch.arange(block.start, block.stop, dtype=DOUBLE)[:, None]).square()

    found = []
    for size in (1024, 4):
        table = rows()
        total = sum_over_pairs(table, slice(1, 12), value, (3, DIM), (0.5, 1.0), size)
        found.append((total, *torch.autograd.grad(total, table)))
    for whole, in_blocks in zip(*found, strict=True):
        torch.testing.assert_close(in_blocks, whole, rtol=1e-12, atol=1e-14)


def test_a_weight_multiplies_one_loss_of_a_task() -> None:
    table = rows()
    contrastive, spread = (loss_of(part(), table, name) for name in ("info_nce", "spread_out"))
    both = loss_of(part(), table, "info_nce", "spread_out", weights={"spread_out": 7.0})
    torch.testing.assert_close(both, contrastive + 7 * spread)
