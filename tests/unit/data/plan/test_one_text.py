"""Texts that encode alike are one text in every mask: case and blanks (the tokenizer lower-cases), and cut endings."""

import pytest

from harness.data.config import NegativesConfig, PromptsConfig
from harness.data.plan.plan import plan
from tests.tiny import text
from tests.unit.data.plan.texts import raw_texts

KITCHEN, TRAVEL = PromptsConfig(query="aral "), PromptsConfig(query="btin ")


def shout(number):
    """A text that encodes like text(number)."""
    return f" {text(number).upper()} "


def excluded(tasks, step_plan, part, position):
    """The lower-cased texts of the documents that are masked for a query."""
    documents = part.excluded_BX[:][position]
    return {raw.strip().lower() for raw in raw_texts(tasks, step_plan, part.document_N[documents[documents >= 0]])}


def excluded_by_row(tasks, number=0, step=1):
    """Row → the texts that are masked for its query."""
    step_plan = plan(tasks, seed=0, step=step)
    part = step_plan.parts[number]
    return {int(row): excluded(tasks, step_plan, part, i) for i, row in enumerate(part.row_B)}


@pytest.mark.parametrize("scope", ["task", "step"])
def test_the_positives_of_two_queries_that_encode_alike_are_no_negatives_of_each_other(open_, scope):
    rows = [{"query": text(1), "positive": text(100)}, {"query": shout(1), "positive": text(101)}]
    task = open_("retrieval", rows, quota=2, negatives=NegativesConfig(scope=scope))
    assert excluded_by_row([task]) == {0: {text(101)}, 1: {text(100)}}


def test_the_queries_may_stand_in_two_tasks(open_):
    rows = [{"query": text(1), "positive": text(100)}], [{"query": shout(1), "positive": text(101)}]
    scope = NegativesConfig(scope="step")
    tasks = [open_("retrieval", one, f"task{i}", quota=1, negatives=scope) for i, one in enumerate(rows)]
    assert excluded_by_row(tasks, 0) == {0: {text(101)}}
    assert excluded_by_row(tasks, 1) == {0: {text(100)}}


def test_a_query_in_three_spellings_under_two_prompts_is_one_query(open_):
    """The first and the last spelling have neither the text nor the tokens in common: the one between joins them."""
    rows = [
        [{"query": text(1), "positive": text(100)}],  # "aral " + text(1)
        [{"query": shout(1), "positive": text(101)}],  # the same tokens as the first
        [{"query": shout(1), "positive": text(102)}],  # the text of the second, other tokens
    ]
    scope = NegativesConfig(scope="step")
    tasks = [
        open_("retrieval", one, f"task{i}", quota=1, negatives=scope, prompts=prompts)
        for i, (one, prompts) in enumerate(zip(rows, (KITCHEN, KITCHEN, TRAVEL), strict=True))
    ]
    for number in range(3):
        assert excluded_by_row(tasks, number) == {0: {text(100 + other) for other in range(3) if other != number}}


@pytest.mark.parametrize("scope", ["own", "task", "step"])
def test_a_negative_that_encodes_like_a_positive_is_masked(open_, scope):
    """Whichever positive the step draws, one negative is the other positive; the drawn one is no negative anyway."""
    rows = [{"query": text(1), "positive": [text(100), text(101)], "negative": [shout(101), shout(100)]}]
    task = open_("retrieval", rows, quota=1, negatives=NegativesConfig(scope=scope, per_query=2))
    masked = [excluded_by_row([task], step=step)[0] for step in (1, 2)]
    assert sorted(masked, key=str) == sorted([{text(100)}, {text(101)}], key=str)


def test_a_document_that_encodes_like_the_query_is_masked(open_):
    rows = [{"query": text(1), "positive": text(100)}, {"query": text(2), "positive": shout(1)}]
    assert excluded_by_row([open_("retrieval", rows, quota=2)])[0] == {text(1)}


def test_texts_that_are_equal_once_cut_are_one_text(open_):
    long = text(50, 10)
    rows = [
        {"query": f"{long} aral", "positive": text(100)},
        {"query": f"{long} btin", "positive": text(101)},
    ]
    cut, whole = (open_("retrieval", rows, f"to{n}", quota=2, max_length=n) for n in (8, 24))
    assert excluded_by_row([cut]) == {0: {text(101)}, 1: {text(100)}}
    assert excluded_by_row([whole]) == {0: set(), 1: set()}


def test_equal_documents_under_different_prompts_stay_one_text(open_):
    """Their tokens differ; the raw text is the positive of both queries."""
    rows = [{"query": text(1), "positive": text(100)}], [{"query": text(1), "positive": text(101)}]
    scope = NegativesConfig(scope="step")
    prompts = PromptsConfig(query="aral ", document="aral "), PromptsConfig()
    tasks = [
        open_("retrieval", one, f"task{i}", quota=1, negatives=scope, prompts=prompt)
        for i, (one, prompt) in enumerate(zip(rows, prompts, strict=True))
    ]
    assert excluded_by_row(tasks, 0) == {0: {text(101)}}


@pytest.mark.parametrize("scope", ["own", "task"])
def test_a_text_has_the_labels_of_all_its_spellings(open_, scope):
    """text(0) is labelled a, its loud form b: it is no negative for either label."""
    rows = [
        {"text": text(0), "label": "a"},
        {"text": shout(0), "label": "b"},
        *({"text": text(10 + i), "label": "ab"[i % 2]} for i in range(6)),
    ]
    task = open_("classification", rows, quota=2, negatives=NegativesConfig(scope=scope, per_query=2))
    for step in range(1, 30):
        step_plan = plan([task], seed=0, step=step)
        part = step_plan.parts[0]
        documents = raw_texts([task], step_plan, part.document_N)
        for i, positive in enumerate(part.positive_BP[:, 0]):
            excluded_X = part.excluded_BX[:][i]
            compared = set(part.negative_BM[i].tolist()) if scope == "own" else set(range(len(documents)))
            kept = {documents[n].strip().lower() for n in compared - set(excluded_X.tolist()) - {-1, int(positive)}}
            assert text(0) not in kept


def test_the_positive_of_a_labelled_text_is_another_text_where_there_is_one(open_):
    rows = [{"text": spelling(0), "label": "a"} for spelling in (text, shout, text, shout, text)]
    rows += [{"text": text(1), "label": "a"}, *({"text": text(2), "label": "b"} for _ in range(3))]
    task = open_("classification", rows, quota=9, negatives=NegativesConfig(per_query=1))
    for step in range(1, 12):
        part = plan([task], seed=0, step=step).parts[0]
        positive_B = part.document_N[part.positive_BP[:, 0]]
        is_itself = dict(zip(part.row_B.tolist(), (positive_B == part.query_B).tolist(), strict=True))
        assert [is_itself[row] for row in range(9)] == [False] * 6 + [True] * 3


def test_queries_that_encode_alike_are_no_negatives_of_each_other_in_the_same_tower(open_):
    rows = [
        {"query": text(1), "positive": text(100)},
        {"query": text(2), "positive": shout(100)},  # shares a positive with the first
        {"query": text(3), "positive": text(103)},
    ]
    task = open_("retrieval", rows, quota=3, negatives=NegativesConfig(scope="task", same_tower="queries"))
    masked = excluded_by_row([task])
    assert masked[0] == {text(1), text(2)}
    assert masked[1] == {text(1), text(2)}
    assert masked[2] == {text(3)}


def test_equal_tokens_cost_no_second_search(open_, monkeypatch):
    """Texts that read alike and encode alike, as nearly all do, are found in one lookup per source."""
    from harness.data.plan.query_texts import RowsOfTexts

    calls, search = [], RowsOfTexts.__init__
    monkeypatch.setattr(
        RowsOfTexts, "__init__", lambda rows, data, keys: calls.append(len(keys)) or search(rows, data, keys)
    )
    task = open_("retrieval", [{"query": text(i), "positive": text(100 + i)} for i in range(6)], quota=6)
    plan([task], seed=0, step=1)
    assert calls == [6]
    assert excluded_by_row([task])[0] == set()
