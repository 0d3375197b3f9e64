"""`negatives.same_tower`: which queries join the documents, and which are excluded, by loops over sets."""

from __future__ import annotations

import numpy as np
import pytest

from harness.data.config import NegativesConfig
from harness.data.plan.plan import plan
from tests.tiny import text

FAQ = [
    {"query": text(1), "positive": [text(100), text(101)]},
    {"query": text(1), "positive": text(102)},  # the same query in another row
    {"query": text(2), "positive": text(101)},  # shares a positive with the first
    {"query": text(3), "positive": text(103), "negative": text(110)},
    {"query": text(4), "positive": text(3)},  # its positive is another query
    {"query": text(5), "positive": text(302)},  # its positive has a label below
    {"query": text(6), "positive": text(106)},
]
PAIRS = [
    {"query": text(1), "positive": text(200)},
    {"query": text(7), "positive": text(102)},  # shares a positive with a row of the other task
    {"query": text(8), "positive": text(201)},
    {"query": text(301), "positive": text(202)},  # the query has a label below
]
INTENTS = [{"text": text(300 + i), "label": f"label {i % 3}"} for i in range(9)]


def listed(value: object) -> set[str]:
    return {value} if isinstance(value, str) else set(value)  # type: ignore[arg-type]


def meaning(query: str) -> set[str]:
    """The set of the query, its listed positives, and the labels of all these texts."""
    texts_of_query = {query}.union(*(listed(row["positive"]) for row in FAQ + PAIRS if row["query"] == query))
    return texts_of_query | {row["label"] for row in INTENTS if row["text"] in texts_of_query}


def known_documents(query: str) -> set[str]:
    """The query, its listed positives, and every text of its own labels."""
    labels = {row["label"] for row in INTENTS if row["text"] == query}
    return {
        query,
        *(positive for row in FAQ + PAIRS if row["query"] == query for positive in listed(row["positive"])),
        *(row["text"] for row in INTENTS if row["label"] in labels),
    }


@pytest.fixture
def tasks_of(open_):
    def tasks_of(scope, same_tower):
        negatives = NegativesConfig(scope=scope, same_tower=same_tower, per_query=1)
        return [
            open_("retrieval", FAQ, "faq", quota=7, negatives=negatives),
            open_("retrieval", PAIRS, "pairs", quota=4, negatives=negatives),
            open_("classification", INTENTS, "intents", quota=5, negatives=negatives),
        ]

    return tasks_of


def raw(tasks, step_plan, rows):
    texts = step_plan.texts
    return [tasks[texts.source_T[r]].data.read_texts(texts.text_T[[r]])[0][0] for r in rows]


@pytest.mark.parametrize("scope", ["task", "step"])
def test_queries_join_the_documents_but_those_that_mean_the_same_are_excluded(tasks_of, scope):
    """Exactly these are excluded: queries with equal text, a common positive or label, or one the other's positive."""
    tasks, num_excluded, num_kept = tasks_of(scope, "queries"), 0, 0
    for step in range(1, 4):
        step_plan = plan(tasks, seed=0, step=step)
        queries = {part.task: raw(tasks, step_plan, part.query_B) for part in step_plan.parts}
        for part in step_plan.parts:
            documents = raw(tasks, step_plan, part.document_N)
            joined = {
                query for task, names in queries.items() if scope == "step" or task == part.task for query in names
            }
            assert joined <= set(documents)
            for i, query in enumerate(queries[part.task]):
                own = set(part.positive_BP[i].tolist())
                same = {other for other in joined if meaning(other) & meaning(query)}
                expected = {n for n, name in enumerate(documents) if name in same | known_documents(query)} - own
                assert set(part.excluded_BX[i].tolist()) - {-1} == expected, query
                num_excluded += len(same) - 1
                num_kept += len(joined - same)
    assert num_excluded > 20
    assert num_kept > 20


def test_without_queries_in_the_tower_the_plan_is_unchanged(tasks_of):
    for one, other in zip(
        plan(tasks_of("task", "documents"), seed=0, step=1).parts,
        plan(tasks_of("task", None), seed=0, step=1).parts,
        strict=True,
    ):
        assert np.array_equal(one.document_N, other.document_N)
        assert np.array_equal(one.excluded_pairs(), other.excluded_pairs())


def test_joining_the_queries_adds_no_text_to_the_step(tasks_of):
    """The queries are encoded anyway, so the additional negatives need no forward pass."""
    without, joined = (plan(tasks_of("step", tower), seed=0, step=1) for tower in (None, "both"))
    assert len(without.texts) == len(joined.texts)
    assert len(joined.parts[0].document_N) > len(without.parts[0].document_N)


def test_classification_tasks_draw_negatives_from_other_labels_and_see_only_those_by_default(open_):
    """The default scope is `own`, because in-batch documents of the same label would be false negatives."""
    task = open_("classification", INTENTS, "intents", quota=9, negatives=NegativesConfig(per_query=2))
    step_plan = plan([task], seed=0, step=1)
    part = step_plan.parts[0]
    assert part.own_negatives_only
    label_of = {row["text"]: row["label"] for row in INTENTS}
    for query, negative_M in zip(raw([task], step_plan, part.query_B), part.negative_BM, strict=True):
        labels = {label_of[name] for name in raw([task], step_plan, part.document_N[negative_M])}
        assert label_of[query] not in labels
        assert len(negative_M) == 2
