"""Steps for the golden equalities with every kind of loss; ranks and tasks have very unequal numbers of examples."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from harness.losses.interface import TaskLossSettings
from harness.types import PairPart, QueryPart, RaggedLists, StepPlan, StepTexts, TeacherRows

_DIM = 24  # of the tiny encoder's embeddings
Mixture = Literal["uneven", "alternate", "homogeneous", "shared", "alike"]


def mixed_plan(mixture: Mixture, texts: StepTexts) -> StepPlan:
    """A step over 31 texts.

    uneven: of 3 ranks the first has no query and the last has no STS pair. Two tasks have one example each; only one of
        these examples has a loss.
    homogeneous: as `loss.balance: homogeneous` plans it: all queries are from one retrieval task.
    alternate: as `loss.balance: alternate` plans it: only STS pairs.
    alike: two queries encode alike, so they are one row and neither has the other's positive as a negative; a negative
        encodes like a positive; all negatives of a third query are masked, so it has no loss.
    shared: two contrastive tasks with scope `step`; each uses the documents of both. One of them is distilled.
    """
    similar = _pairs("similar", [23, 24, 25, 0], [26, 27, 28, 29])
    parts = {
        "uneven": (_faq(2), _single(), _vectors(), _pairs("lone", [21], [22]), similar),
        "alternate": (similar,),
        "homogeneous": (_faq(5), similar),
        "shared": (*_shared(), similar),
        "alike": (_alike(), similar),
    }
    return StepPlan(1, texts, parts[mixture])


def mixed_loss_settings() -> list[TaskLossSettings]:
    return [
        TaskLossSettings("faq", 0.1, losses=("info_nce", "kl", "spread_out"), teacher_temperature=2.0),
        TaskLossSettings("single", 0.2, 2.0, losses=("margin_mse", "teacher_cosine")),
        TaskLossSettings("joint", 0.2, 2.0),
        TaskLossSettings("vectors", 0.2, 0.5, losses=("info_nce", "teacher_cosine", "teacher_similarity")),
        TaskLossSettings("lone", losses=("angle",)),
        TaskLossSettings("similar", 0.1, 2.0, losses=("cosent", "angle")),
    ]


def _faq(num_queries: int) -> QueryPart:
    """Queries with one to three positives and with two, one or no negatives."""
    positive_BP = np.array([[0, 1, 2], [3, -1, -1], [4, 5, -1], [6, -1, -1], [7, 8, -1]])[:num_queries]
    negative_BM = np.array([[9, 10], [-1, -1], [11, -1], [3, 12], [0, 1]])[:num_queries]
    return _query_part("faq", np.arange(num_queries), np.arange(5, 18), positive_BP, negative_BM)


def _single() -> QueryPart:
    return _query_part("single", np.array([18]), np.array([3, 19, 20]), np.array([[1]]), np.array([[0, 2]]))


def _vectors() -> QueryPart:
    """Two queries with a teacher's vectors; one has two positives and no negative."""
    positive_BP, negative_BM = np.array([[0, -1], [1, 2]]), np.array([[2, 3], [-1, -1]])
    return _query_part("vectors", np.array([19, 20]), np.array([4, 5, 6, 21]), positive_BP, negative_BM)


def _shared() -> tuple[QueryPart, QueryPart]:
    documents = np.array([*range(5, 18), 20, 21, 22])
    joint = np.array([[13, -1], [14, 15]]), np.array([[0, 14], [3, -1]])
    return (
        replace(_faq(5), document_N=documents),
        _query_part("joint", np.array([18, 19]), documents, *joint),
    )


def _alike() -> QueryPart:
    part = _faq(5)
    excluded_BX = np.full((5, 13), -1)
    excluded_BX[0, 0], excluded_BX[1, :3], excluded_BX[3] = (
        3,
        (0, 1, 2),
        np.where(np.arange(13) == 6, -1, np.arange(13)),
    )
    negative_BM = part.negative_BM.copy()
    negative_BM[4] = 7, 9  # 7 is its positive
    return replace(
        part, query_B=np.array([0, 0, 2, 3, 4]), negative_BM=negative_BM, excluded_BX=RaggedLists.of_padded(excluded_BX)
    )


def _query_part(
    task: str, query_B: np.ndarray, document_N: np.ndarray, positive_BP: np.ndarray, negative_BM: np.ndarray
) -> QueryPart:
    random = np.random.default_rng(5)
    scores = [
        np.where(place >= 0, random.normal(size=place.shape), np.nan).astype(np.float32)
        for place in (positive_BP, negative_BM)
    ]
    number = np.arange(len(query_B))
    teacher = TeacherRows(
        random.normal(size=(len(query_B), _DIM)).astype(np.float16),
        random.normal(size=(*positive_BP.shape, _DIM)),
        random.normal(size=(*negative_BM.shape, _DIM)).astype(np.float32),
    )
    excluded = RaggedLists.of_padded(np.full((len(number), 0), -1))
    return QueryPart(
        task,
        number,
        query_B,
        document_N,
        positive_BP,
        negative_BM,
        negative_BM,
        excluded,
        False,
        scores[0],
        scores[1],
        teacher,
    )


def _pairs(task: str, text1: list[int], text2: list[int]) -> PairPart:
    score = np.arange(len(text1), dtype=np.float32)
    return PairPart(task, np.arange(len(text1)), np.array(text1), np.array(text2), score)
