"""The losses `teacher_cosine` and `teacher_similarity`: embeddings should lie as a teacher's vectors of the same texts.

The first wants the same vectors, so that teacher and student must have as many dimensions; the second wants the same
similarities among the texts, and takes a teacher of any size.
"""

from __future__ import annotations

import numpy as np
import torch
from fused_contrastive.cosine import prefix_cosines, prefix_inverse_norms
from torch import Tensor

from harness.losses.distillation import own_similarities
from harness.losses.geometry.pairwise import share_of, sum_over_pairs
from harness.losses.geometry.term import term_of_task
from harness.losses.interface import LossTerm, StepShare, TaskLossSettings, embeddings_at, on_device_of
from harness.types import QueryPart, TeacherRows


def teacher_cosine_term(task: TaskLossSettings, part: QueryPart, table_TD: Tensor, share: StepShare) -> LossTerm:
    """loss_i = 1 - cos(q_i, t(q_i)) + mean over p of (1 - cos(p, t(p))) + mean over n of (1 - cos(n, t(n))).

    p and n are the sampled positives and own negatives of query i, t(x) is the teacher's vector of text x; the last
    mean is left out if the teacher has no vectors of negatives, or the query no negatives. EmbeddingGemma's embedding
    matching (arXiv 2509.20354: queries, positives and hard negatives), after EmbedDistill (arXiv 2301.12005), with the
    cosine loss of Jasper and Stella (arXiv 2412.19048); for rows of length 1 that is half the squared distance. Of all
    dimensions, once: EmbeddingGemma has no Matryoshka levels here either.
    """
    teacher = _teacher_of(part)
    queries = part.share(share.index, share.count)
    row_BC, vector_BCV = references(part, teacher, queries)
    owner_E, column_E = np.nonzero(row_BC >= 0)
    vector_EV = on_device_of(table_TD, vector_BCV[owner_E, column_E].astype(np.float32))
    student_ED = embeddings_at(table_TD, row_BC[owner_E, column_E])
    dtype = torch.promote_types(student_ED.dtype, torch.float32)
    cosine_E = prefix_cosines(student_ED.to(dtype), vector_EV.to(dtype), (table_TD.shape[1],))[0]
    mean_of_side_E = on_device_of(table_TD, _weights_of_sides(part, row_BC)[owner_E, column_E]).to(dtype)
    loss = (mean_of_side_E * (1 - cosine_E)).sum()
    weighted_loss = task.weight * loss / share.sum_of_query_weights
    return LossTerm(weighted_loss, loss.detach() / len(part.query_B), own_similarities(part, table_TD, share))


def teacher_similarity_term(task: TaskLossSettings, part: QueryPart, table_TD: Tensor, share: StepShare) -> LossTerm:
    """mean over all pairs of texts x, y of the task in the step of (cos(x, y) - cos(t(x), t(y)))^2.

    The texts are its queries, their sampled positives and, if the teacher has vectors of them, their own negatives,
    each reference once; x = y counts, and is 0. The similarity loss of Jasper and Stella (arXiv 2412.19048), known
    as similarity-preserving distillation (arXiv 1907.09682) before. The teacher's dimensions need not be the student's.
    Summed over the Matryoshka levels with their weights, each compared with the teacher's whole vectors.
    """
    row_BC, vector_BCV = references(part, _teacher_of(part))
    is_text_BC = row_BC >= 0
    teacher_NV = on_device_of(table_TD, vector_BCV[is_text_BC].astype(np.float32))
    teacher_NV = teacher_NV.to(torch.promote_types(table_TD.dtype, torch.float32))
    teacher_NV = teacher_NV * prefix_inverse_norms(teacher_NV, (teacher_NV.shape[1],))[0][:, None]

    def squared_error(cosine_AN: Tensor, block: slice) -> Tensor:
        return (cosine_AN - teacher_NV[block] @ teacher_NV.T).square()

    student_ND = embeddings_at(table_TD, row_BC[is_text_BC])
    own = share_of(len(student_ND), share.index, share.count)
    dims, weights = share.levels(table_TD.shape[1])
    loss = sum_over_pairs(student_ND, own, squared_error, dims, weights) / len(student_ND) ** 2
    return term_of_task(loss, task, part, table_TD, share)


def references(part: QueryPart, teacher: TeacherRows, queries: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
    """The texts of these queries that the teacher has vectors of: (rows of the table [B, C], -1 padded; [B, C, V])."""
    rows = [part.query_B[queries, None], _rows(part, part.positive_BP[queries])]
    vectors = [teacher.query_BV[queries, None], teacher.positive_BPV[queries]]
    if teacher.negative_BMV is not None:
        rows.append(_rows(part, part.negative_BM[queries]))
        vectors.append(teacher.negative_BMV[queries])
    return np.concatenate(rows, axis=1), np.concatenate(vectors, axis=1)


def _rows(part: QueryPart, place_BC: np.ndarray) -> np.ndarray:
    return np.where(place_BC >= 0, part.document_N[np.maximum(place_BC, 0)], -1)


def _weights_of_sides(part: QueryPart, row_BC: np.ndarray) -> np.ndarray:
    """[B, C]: 1 / the number of texts of the same query and the same side (itself, positives, negatives)."""
    weight_BC, start = np.zeros(row_BC.shape), 0
    for width in (1, part.positive_BP.shape[1], row_BC.shape[1] - 1 - part.positive_BP.shape[1]):
        side = slice(start, start + width)
        weight_BC[:, side] = 1 / np.maximum((row_BC[:, side] >= 0).sum(axis=1, keepdims=True), 1)
        start += width
    return weight_BC


def _teacher_of(part: QueryPart) -> TeacherRows:
    assert part.teacher is not None  # the plan gives vectors to every task with a loss that needs them
    return part.teacher
