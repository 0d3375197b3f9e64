"""The losses about where embeddings lie, by loops over texts and pairs of texts: the value that one query has."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.types import QueryPart

# (part, number of the query, embeddings of all texts, dims of the levels, their weights) → the loss of the query
NaiveLoss = Callable[[QueryPart, int, Tensor, Sequence[int], Sequence[float]], Tensor]


def cosine(first: Tensor, second: Tensor) -> Tensor:
    return F.cosine_similarity(first[None], second[None])[0]


def sides_of(part: QueryPart, query: int) -> list[list[tuple[int, Tensor]]]:
    """(row of the table, the teacher's vector) of the query, of its positives, of its negatives."""
    assert part.teacher is not None
    assert part.teacher.negative_BMV is not None
    sides = [[(int(part.query_B[query]), part.teacher.query_BV[query])]]
    for places, vectors in (
        (part.positive_BP[query], part.teacher.positive_BPV[query]),
        (part.negative_BM[query], part.teacher.negative_BMV[query]),
    ):
        sides.append([(int(part.document_N[p]), v) for p, v in zip(places, vectors, strict=True) if p >= 0])
    return [[(row, torch.from_numpy(vector.astype(np.float64))) for row, vector in side] for side in sides]


def naive_teacher_cosine(
    part: QueryPart, query: int, rows: Tensor, dims: Sequence[int], weights: Sequence[float]
) -> Tensor:
    means = [
        torch.stack([1 - cosine(rows[row], vector) for row, vector in side]).mean()
        for side in sides_of(part, query)
        if side
    ]
    return torch.stack(means).sum()


def naive_teacher_similarity(
    part: QueryPart, query: int, rows: Tensor, dims: Sequence[int], weights: Sequence[float]
) -> Tensor:
    texts = [text for i in range(len(part.query_B)) for side in sides_of(part, i) for text in side]
    total = rows.new_zeros(())
    for dim, weight in zip(dims, weights, strict=True):
        for row1, vector1 in texts:
            for row2, vector2 in texts:
                error = cosine(rows[row1, :dim], rows[row2, :dim]) - cosine(vector1, vector2)
                total = total + weight * error**2 / len(texts) ** 2
    return total


def naive_spread_out(
    part: QueryPart, query: int, rows: Tensor, dims: Sequence[int], weights: Sequence[float]
) -> Tensor:
    positives = {int(part.document_N[p]) for p in part.positive_BP.flatten() if p >= 0}
    total = rows.new_zeros(())
    for side in (set(part.query_B.tolist()), positives):
        pairs = [(i, j) for i in side for j in side if i != j]
        for dim, weight in zip(dims, weights, strict=True):
            for i, j in pairs:
                total = total + weight * cosine(rows[i, :dim], rows[j, :dim]) ** 2 / len(pairs)
    return total


NAIVE_GEOMETRY_LOSS: dict[str, NaiveLoss] = {
    "teacher_cosine": naive_teacher_cosine,
    "teacher_similarity": naive_teacher_similarity,
    "spread_out": naive_spread_out,
}
