"""What a task cannot learn is said in one line with numbers and the knob; a task that can learn is not mentioned."""

import pytest

from harness.data.config import NegativesConfig
from harness.data.plan.nothing_to_learn import nothing_to_learn
from tests.tiny import text


def shout(number):
    return f" {text(number).upper()} "


def lines(*tasks):
    return nothing_to_learn(tasks, seed=0, balance="cbb", num_steps=100)


def pairs(*scores):
    return [{"text1": text(i), "text2": text(100 + i), "score": score} for i, score in enumerate(scores)]


FAQ = [{"query": text(i), "positive": text(100 + i), "negative": [text(200 + i), text(300 + i)]} for i in range(6)]
LABELLED = [{"text": text(i), "label": "ab"[i % 2]} for i in range(8)]
OWN = NegativesConfig(scope="own", per_query=1)


def test_tasks_that_can_learn_are_not_mentioned(open_):
    tasks = [
        open_("retrieval", FAQ, "faq", quota=3, negatives=NegativesConfig(per_query=2)),
        open_("retrieval", FAQ, "own", quota=3, negatives=OWN),
        open_("sts", pairs(0, 1, 2), "sts", quota=2),
        open_("classification", LABELLED, "labels", quota=4, negatives=OWN),
    ]
    assert lines(*tasks) == []


@pytest.mark.parametrize(
    ("scores", "quota", "expected"),
    [
        ((1, 1), 2, "all 2 scores are 1, and cosent compares pairs of different scores: its loss is always 0"),
        ((0, 1, 2), 1, "a step holds one pair, and cosent compares pairs with each other; set quota to 2"),
    ],
)
def test_pairs_of_which_no_two_differ_in_a_step_teach_nothing(open_, scores, quota, expected):
    (line,) = lines(open_("sts", pairs(*scores), "s", quota=quota))
    assert line.startswith(f"task s: {expected}")


@pytest.mark.parametrize("kind", ["retrieval", "classification"])
def test_a_step_of_one_query_has_nothing_to_spread_out(open_, kind):
    rows, losses = (FAQ if kind == "retrieval" else LABELLED), ("info_nce", "spread_out")
    settings = {"negatives": OWN, "loss": losses}
    (line,) = lines(open_(kind, rows, "t", quota=1, **settings))
    assert line.startswith(
        "task t: a step holds one query, and spread_out compares queries with each other, and positi"
    )
    assert lines(open_(kind, rows, "t", quota=2, **settings)) == []


def test_pairs_with_one_pair_of_texts_and_several_scores_are_counted(open_):
    """In either order and any spelling; a repeated score is no conflict."""
    rows = [
        {"text1": text(1), "text2": text(2), "score": 1},
        {"text1": text(2), "text2": shout(1), "score": 3},
        {"text1": text(3), "text2": text(4), "score": 2},
        {"text1": text(3), "text2": text(4), "score": 2},
    ]
    (line,) = lines(open_("sts", rows, "s", quota=2))
    assert line.startswith("task s: 2 of 4 pairs have the same two texts as another pair but another score")


def test_own_negatives_that_are_the_positive_are_counted(open_):
    rows = [{"query": text(i), "positive": text(10 + i), "negative": shout(10 + i)} for i in range(2)]
    (line,) = lines(open_("retrieval", rows, "t", quota=2, negatives=OWN))
    assert line.startswith("task t: 2 of 2 queries have no negative in a step (negatives.scope own;")


def test_queries_without_negatives_are_counted_over_an_epoch(open_):
    """One of seven queries lists its positive as its negative."""
    rows = [*FAQ, {"query": text(9), "positive": text(109), "negative": text(109)}]
    (line,) = lines(open_("retrieval", rows, "t", quota=2, negatives=OWN))
    assert line.startswith("task t: 1 of 7 queries have no negative in a step")


def test_a_quota_of_one_without_negatives_of_its_own_leaves_no_negative(open_):
    (line,) = lines(open_("retrieval", FAQ, "t", quota=1))
    assert "6 of 6 queries have no negative in a step (negatives.scope task;" in line
    assert line.endswith("raise quota, or give negatives of their own (negatives.per_query)")


def test_rows_with_one_query_in_several_spellings_are_one_query(open_):
    rows = [
        {"query": spelling(1), "positive": text(100 + i), "negative": text(200 + i)}
        for i, spelling in enumerate((text, shout))
    ]
    (line,) = lines(open_("retrieval", rows, "t", quota=2))
    assert line.startswith("task t: 2 of 2 queries have no negative in a step (negatives.scope task; all rows have the")
    (line,) = lines(open_("retrieval", rows, "own", quota=2, negatives=OWN))
    assert line.startswith("task own: all 2 rows have the same query after its prompt and the cut")


def test_a_quota_above_the_rows_says_how_often_a_row_stands_in_a_step(open_):
    (line,) = lines(open_("retrieval", FAQ, "t", quota=15))
    assert line == ("task t: a step holds 15 of its only 6 rows, each 2.5 times; lower quota to 6 or give more data")


def test_a_positive_that_is_the_query_is_counted(open_):
    rows = [*FAQ, {"query": text(9), "positive": shout(9)}, {"query": text(8), "positive": [text(8), text(108)]}]
    (line,) = lines(open_("retrieval", rows, "t", quota=4))
    assert line.startswith("task t: the positive is the query itself in 1 of 8 rows")


def test_slots_that_stay_empty_in_nearly_all_rows_are_told(open_):
    (line,) = lines(open_("retrieval", FAQ, "t", quota=4, negatives=NegativesConfig(per_query=5)))
    assert line.startswith("task t: 6 of 6 rows have fewer negatives than negatives.per_query 5 (at most 2)")


def test_texts_with_several_labels_and_labels_of_one_text_are_counted(open_):
    rows = [*LABELLED, {"text": shout(0), "label": "b"}, {"text": text(50), "label": "c"}]
    rows += [{"text": shout(50), "label": "c"}]
    first, second = lines(open_("classification", rows, "t", quota=4, negatives=OWN))[:2]
    assert first.startswith("task t: 1 text occurs with several labels")
    assert second.startswith("task t: all rows of 1 of its 3 labels (first: 'c') are one text")


def test_pairs_of_a_text_with_itself_teach_nothing(open_):
    """One of eleven pairs has two texts: that is too few to learn from, and one of three is enough."""
    same = [{"text1": text(i), "text2": shout(i), "score": i % 3} for i in range(10)]
    (line,) = lines(open_("sts", [*same, *pairs(2)], "s", quota=4))
    assert line.startswith("task s: both texts are one in 10 of 11 pairs")
    assert lines(open_("sts", [*same[:2], *[{**row, "text2": text(50)} for row in same[2:5]]], "few", quota=4)) == []


def test_a_task_whose_texts_are_all_one_is_told_whatever_its_kind(open_):
    one = text(1)
    tasks = [
        open_("retrieval", [{"query": one, "positive": one}] * 4, "retrieval", quota=2),
        open_("sts", [{"text1": one, "text2": one, "score": i} for i in range(4)], "sts", quota=2),
        open_(
            "classification", [{"text": one, "label": "ab"[i % 2]} for i in range(4)], "labels", quota=2, negatives=OWN
        ),
    ]
    told = lines(*tasks)
    assert {line.split(":")[0] for line in told} == {"task retrieval", "task sts", "task labels"}
    assert any("teach nothing" in line for line in told if line.startswith("task sts"))
    assert any("have no negative in a step" in line for line in told if line.startswith("task retrieval"))
