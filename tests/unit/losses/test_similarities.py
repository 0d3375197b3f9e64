"""The similarities that a step reports: to the positives and to the negatives that are kept; unknown is NaN."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from harness.losses.objective import step_metrics
from harness.types import QueryPart, RaggedLists
from tests.unit.losses.test_objective import objective, plan, table


def test_the_metrics_hold_the_similarities_to_positives_and_own_negatives() -> None:
    """An own negative that a mask leaves out does not count."""
    rows, step = table(), plan("intents")
    metrics = objective()(step, rows).metrics
    unit, part = F.normalize(rows.detach(), dim=1), step.parts[0]
    assert isinstance(part, QueryPart)
    cosine = unit[part.query_B] @ unit[part.document_N].T
    positive = cosine[range(5), part.positive_BP[:, 0]].mean()
    own = []
    for i, negatives in enumerate(part.negative_BM):
        left_out = {-1, int(part.positive_BP[i, 0]), *part.excluded_BX[i].tolist()}
        kept = [n for n in negatives.tolist() if n not in left_out]
        own += [cosine[i, kept].mean()] if kept else []
    torch.testing.assert_close(metrics["positive_similarity"], positive)
    assert step_metrics(metrics)["negative_similarity"] == pytest.approx(float(torch.stack(own).mean()))
    assert metrics["queries_with_negatives"] == len(own)


def test_queries_without_own_negatives_report_their_denominator() -> None:
    rows, step = table(), plan("faq")
    part = step.parts[0]
    assert isinstance(part, QueryPart)
    unit = F.normalize(rows.detach(), dim=1)
    cosine = unit[part.query_B] @ unit[part.document_N].T
    means = []
    for i, row in enumerate(cosine):
        left_out = {part.positive_BP[i, 0], *part.excluded_BX[i]}
        kept = [j for j in range(15) if j not in left_out and row[j] <= row[part.positive_BP[i, 0]] + 0.3]
        means += [row[kept].mean()] if kept else []
    metrics = objective()(step, rows).metrics
    assert step_metrics(metrics)["negative_similarity"] == pytest.approx(float(torch.stack(means).mean()))
    assert metrics["queries_with_negatives"] == len(means)


def test_the_similarity_of_negatives_is_unknown_if_no_query_has_a_negative() -> None:
    """0 would read as: the negatives are as far from the queries as can be."""
    none = np.zeros((1, 0), np.int64)
    part = QueryPart(
        "intents",
        np.arange(1),
        np.array([3]),
        np.array([5]),
        np.array([[0]]),
        none,
        none,
        RaggedLists.of_padded(none),
        False,
    )
    output = objective()(replace(plan(), parts=(part,)), table())
    assert output.loss == output.metrics["queries_with_negatives"] == 0
    assert math.isnan(step_metrics(output.metrics)["negative_similarity"])
