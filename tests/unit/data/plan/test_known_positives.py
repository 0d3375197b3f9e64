"""A known positive of a query is never among its negatives."""

import numpy as np

from harness.data.config import NegativesConfig
from harness.data.plan import known_positives as known
from harness.data.plan.plan import plan
from tests.tiny import text
from tests.unit.data.plan.texts import raw_texts


def excluded_texts(tasks, step_plan, part, query):
    """The documents of the step that are masked for the query with this text."""
    position = raw_texts(tasks, step_plan, part.query_B).index(query)
    excluded = part.excluded_BX[position]
    return set(raw_texts(tasks, step_plan, part.document_N[excluded[excluded >= 0]]))


def test_a_known_positive_that_was_not_sampled_is_never_a_negative(open_):
    """The sampled positive of b is a known positive of a. Without the mask, a would be pushed away from it."""
    shared = text(100)
    rows = [{"query": text(1), "positive": [text(101), shared]}, {"query": text(2), "positive": shared}]
    task = open_("retrieval", rows, quota=2)
    for step in range(1, 5):
        step_plan = plan([task], seed=0, step=step)
        sampled = dict(
            zip(
                raw_texts([task], step_plan, step_plan.parts[0].query_B),
                raw_texts([task], step_plan, step_plan.parts[0].document_N[step_plan.parts[0].positive_BP[:, 0]]),
                strict=True,
            )
        )
        expected = {shared} if sampled[text(1)] != shared else set()
        assert excluded_texts([task], step_plan, step_plan.parts[0], text(1)) == expected


def test_the_positive_of_an_equal_query_in_another_row_or_task_is_never_a_negative(open_):
    first = open_(
        "retrieval",
        [{"query": text(1), "positive": text(100)}, {"query": text(2), "positive": text(101)}],
        "first",
        quota=2,
        negatives=NegativesConfig(scope="step"),
    )
    second = open_(
        "retrieval",
        [{"query": text(1), "positive": text(102)}, {"query": text(3), "positive": text(103)}],
        "second",
        quota=2,
        negatives=NegativesConfig(scope="step"),
    )
    step_plan = plan([first, second], seed=0, step=1)
    assert excluded_texts([first, second], step_plan, step_plan.parts[0], text(1)) == {text(102)}
    assert excluded_texts([first, second], step_plan, step_plan.parts[0], text(2)) == set()
    assert excluded_texts([first, second], step_plan, step_plan.parts[1], text(1)) == {text(100)}


def test_the_documents_of_a_part_are_sorted_once_however_many_tasks_there_are(open_, monkeypatch):
    tasks = [
        open_(
            "retrieval",
            [{"query": text(10 * n + i), "positive": text(100 + i)} for i in range(3)],
            f"task{n}",
            quota=3,
            negatives=NegativesConfig(scope="step"),
        )
        for n in range(4)
    ]
    sorts, matches = [], known.matches
    monkeypatch.setattr(known, "matches", lambda key, other: sorts.append(len(other)) or matches(key, other))
    step_plan = plan(tasks, seed=0, step=1)
    assert sorts.count(12) == len(step_plan.parts) == 4  # the other joins are those of a part's 3 queries
    assert set(sorts) == {3, 12}


def test_texts_of_the_same_label_are_never_negatives_of_each_other(open_):
    rows = [{"text": text(i), "label": i % 2} for i in range(8)]
    task = open_("classification", rows, quota=8, negatives=NegativesConfig(scope="task", per_query=2))
    step_plan = plan([task], seed=0, step=1)
    part = step_plan.parts[0]
    label_of = {row["text"]: row["label"] for row in rows}
    for i, query in enumerate(raw_texts([task], step_plan, part.query_B)):
        kept = set(range(len(part.document_N))) - set(part.excluded_BX[i].tolist()) - {int(part.positive_BP[i, 0])}
        labels = {label_of[t] for t in raw_texts([task], step_plan, part.document_N[sorted(kept)])}
        assert labels == {1 - label_of[query]}


def test_a_document_equal_to_the_query_is_never_its_negative(open_):
    rows = [{"query": text(1), "positive": text(100)}, {"query": text(2), "positive": text(1)}]
    task = open_("retrieval", rows, quota=2)
    step_plan = plan([task], seed=0, step=1)
    assert excluded_texts([task], step_plan, step_plan.parts[0], text(1)) == {text(1)}


def test_with_scope_own_just_the_known_positives_among_a_querys_own_negatives_are_excluded(open_):
    """Compared with loops over the source rows. Listing all pairs of a label would need B x N entries."""
    rows = [
        {"query": text(i), "positive": [text(100 + i), text(120 + i)], "negative": [text(100 + (i + 1) % 12), text(i)]}
        for i in range(10)
    ]
    # Equal queries in other rows, a known positive listed as a negative, and labels that make documents positives.
    rows += [{"query": text(i), "positive": text(100 + (i + 1) % 12), "negative": [text(120 + i)]} for i in range(6)]
    labelled = [{"text": text(i % 10 if i < 10 else 91 + i), "label": f"label {i % 3}"} for i in range(22)]
    own = NegativesConfig(scope="own", per_query=2)
    tasks = [
        open_("retrieval", rows, "faq", quota=16, negatives=own),
        open_("classification", labelled, "intents", quota=11, negatives=own),
    ]
    num_excluded = 0
    for step in range(1, 4):
        step_plan = plan(tasks, seed=0, step=step)
        for part in step_plan.parts:
            for i, query in enumerate(raw_texts(tasks, step_plan, part.query_B)):
                assert len(part.excluded_BX[i]) <= part.negative_BM.shape[1]
                known = {query} | {p for row in rows if row["query"] == query for p in np.atleast_1d(row["positive"])}
                labels = {row["label"] for row in labelled if row["text"] == query}
                known |= {row["text"] for row in labelled if row["label"] in labels}
                own_N = sorted(set(part.negative_BM[i].tolist()) - {-1, int(part.positive_BP[i, 0])})
                names = raw_texts(tasks, step_plan, part.document_N[own_N]) if own_N else []
                expected = {n for n, name in zip(own_N, names, strict=True) if name in known}
                assert set(part.excluded_BX[i].tolist()) - {-1} == expected
                num_excluded += len(expected)
    assert num_excluded > 10


def test_a_document_whose_truncated_tokens_equal_a_known_positives_is_excluded_with_scope_own(open_):
    """Two raw texts share one row of the table; neither of their queries may be pushed away from it."""
    long = text(50, 10)
    rows = [
        {"query": text(1), "positive": [text(60), long + " aral"], "negative": long + " btin"},
        {"query": text(2), "positive": text(61), "negative": long + " aral"},
    ]
    own = NegativesConfig(scope="own", per_query=1)
    task = open_("retrieval", rows, quota=2, max_length=8, negatives=own)
    step_plan = [plan([task], seed=0, step=step) for step in (1, 2)]
    widths = [len(one.parts[0].excluded_pairs()[0]) for one in step_plan]
    assert sorted(widths) == [0, 1]  # in one step it is the sampled positive, in the other it is excluded
