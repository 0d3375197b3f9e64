"""`plan(seed, step, bank)`: pure, complete, and never a known positive among the negatives."""

import json
from pathlib import Path

import numpy as np
import pytest

from harness.data.config import NegativesConfig, PromptsConfig
from harness.data.plan import known_positives as known
from harness.data.plan.plan import plan
from harness.data.table.tokenisation import Tokeniser
from harness.types import PairPart, QueryPart, RaggedLists
from tests.ranks import run_ranks
from tests.tiny import make_data, make_model, make_recipe, text


def raw_texts(tasks, made, rows):
    """The raw texts behind table rows."""
    return [tasks[made.texts.source_T[row]].data.read_texts(np.array([made.texts.text_T[row]]))[0][0] for row in rows]


def source_rows(path):
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def as_json(made):
    def plain(value):
        return np.asarray(value[:] if isinstance(value, RaggedLists) else value).tolist()

    parts = [{f: plain(getattr(p, f)) for f in p.__dataclass_fields__} for p in made.parts]
    return json.dumps([made.texts.source_T.tolist(), made.texts.text_T.tolist(), made.texts.length_T.tolist(), parts])


def test_the_plan_of_a_step_does_not_depend_on_what_was_planned_before(three_tasks):
    """This is why resume needs the step number only, and why ranks agree without talking."""
    alone = as_json(plan(three_tasks, seed=1, step=17))
    for step in range(1, 17):
        plan(three_tasks, seed=1, step=step)
    assert as_json(plan(three_tasks, seed=1, step=17)) == alone


def test_another_seed_or_step_gives_another_plan(three_tasks):
    assert len({as_json(plan(three_tasks, seed=s, step=t)) for s, t in [(0, 1), (1, 1), (0, 2)]}) == 3


def test_an_epoch_visits_every_example_of_every_task_exactly_once(three_tasks):
    """Quotas 8, 6, 4 over 40, 30, 32 rows: epochs of 5, 5 and 8 steps; three epochs of each, in different orders."""
    for index, (rows, quota) in enumerate([(40, 8), (30, 6), (32, 4)]):
        orders = []
        for epoch in range(3):
            steps = range(epoch * rows // quota + 1, (epoch + 1) * rows // quota + 1)
            parts = [plan(three_tasks, seed=0, step=step).parts[index] for step in steps]
            seen = np.concatenate([p.row_S if isinstance(p, PairPart) else p.row_B for p in parts])
            assert sorted(seen) == list(range(rows))
            orders.append(seen.tolist())
        assert orders[0] != orders[1] != orders[2]


def test_an_epoch_is_whole_even_if_the_quota_does_not_divide_it(open_):
    task = open_("retrieval", [{"query": text(i), "positive": text(100 + i)} for i in range(7)], quota=3)
    seen = np.concatenate([plan([task], seed=0, step=step).parts[0].row_B for step in range(1, 8)])
    for epoch in range(3):
        assert sorted(seen[7 * epoch : 7 * epoch + 7]) == list(range(7))


def test_every_positive_of_a_query_is_used_in_turn(open_):
    rows = [{"query": text(i), "positive": [text(100 + 3 * i + j) for j in range(3)]} for i in range(4)]
    task = open_("retrieval", rows)
    used = {row: set() for row in range(4)}
    for step in range(1, 4):
        made = plan([task], seed=0, step=step)
        part = made.parts[0]
        positives = raw_texts([task], made, part.document_N[part.positive_BP[:, 0]])
        for row, positive in zip(part.row_B, positives, strict=True):
            used[row].add(positive)
    assert used == {i: set(rows[i]["positive"]) for i in range(4)}


def test_queries_positives_and_negatives_are_those_of_the_row(three_tasks):
    made = plan(three_tasks, seed=3, step=2)
    part = made.parts[0]
    source = source_rows(three_tasks[0].data.path)
    for i, row in enumerate(part.row_B):
        assert raw_texts(three_tasks, made, [part.query_B[i]]) == [source[row]["query"]]
        assert raw_texts(three_tasks, made, [part.document_N[part.positive_BP[i, 0]]])[0] in source[row]["positive"]
        negatives = part.negative_BM[i][part.negative_BM[i] >= 0]
        assert raw_texts(three_tasks, made, part.document_N[negatives]) == source[row]["negative"][:2]


def test_pairs_and_scores_are_those_of_the_row(three_tasks):
    made = plan(three_tasks, seed=3, step=2)
    part = made.parts[1]
    source = source_rows(three_tasks[1].data.path)
    for i, row in enumerate(part.row_S):
        assert raw_texts(three_tasks, made, [part.text1_S[i], part.text2_S[i]]) == [
            source[row]["text1"],
            source[row]["text2"],
        ]
        assert part.score_S[i] == source[row]["score"]


def test_classification_takes_the_same_label_as_positive_and_other_labels_as_negatives(three_tasks):
    made = plan(three_tasks, seed=3, step=2)
    part = made.parts[2]
    source = source_rows(three_tasks[2].data.path)
    label_of = {row["text"]: row["label"] for row in source}
    for i in range(4):
        query, positive = raw_texts(three_tasks, made, [part.query_B[i], part.document_N[part.positive_BP[i, 0]]])
        assert label_of[query] == label_of[positive]
        assert query != positive
        for negative in raw_texts(three_tasks, made, part.document_N[part.negative_BM[i]]):
            assert label_of[negative] != label_of[query]


def test_texts_with_equal_tokens_are_encoded_once(open_):
    """Equal after prompt and truncation: upper case, and words beyond max_length, make no difference here."""
    long = text(50, 10)
    rows = [
        {"query": text(1), "positive": long + " aral"},
        {"query": text(1).upper(), "positive": long + " btin"},
        {"query": text(2), "positive": text(51)},
    ]
    task = open_("retrieval", rows, quota=3, max_length=8)
    made = plan([task], seed=0, step=1)
    assert len(made.texts) == 4
    assert len(made.parts[0].document_N) == 2


def test_a_prompt_makes_query_and_document_different_texts(open_):
    rows = [{"query": text(i), "positive": text(i)} for i in range(3)]
    assert len(plan([open_("retrieval", rows, "plain", quota=3)], seed=0, step=1).texts) == 3
    prompted = open_("retrieval", rows, "prompted", quota=3, prompts=PromptsConfig(query="aral "))
    assert len(plan([prompted], seed=0, step=1).texts) == 6


def excluded_texts(tasks, made, part, query):
    """For the query with this text: the documents of the step that are masked for it."""
    position = raw_texts(tasks, made, part.query_B).index(query)
    excluded = part.excluded_BX[position]
    return set(raw_texts(tasks, made, part.document_N[excluded[excluded >= 0]]))


def test_a_known_positive_that_was_not_sampled_is_never_a_negative(open_):
    """b's sampled positive is another known positive of a: without the mask a would be pushed away from it."""
    shared = text(100)
    rows = [{"query": text(1), "positive": [text(101), shared]}, {"query": text(2), "positive": shared}]
    task = open_("retrieval", rows, quota=2)
    for step in range(1, 5):
        made = plan([task], seed=0, step=step)
        sampled = dict(
            zip(
                raw_texts([task], made, made.parts[0].query_B),
                raw_texts([task], made, made.parts[0].document_N[made.parts[0].positive_BP[:, 0]]),
                strict=True,
            )
        )
        expected = {shared} if sampled[text(1)] != shared else set()
        assert excluded_texts([task], made, made.parts[0], text(1)) == expected


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
    made = plan([first, second], seed=0, step=1)
    assert excluded_texts([first, second], made, made.parts[0], text(1)) == {text(102)}
    assert excluded_texts([first, second], made, made.parts[0], text(2)) == set()
    assert excluded_texts([first, second], made, made.parts[1], text(1)) == {text(100)}


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
    sorts, matches = [], known._matches
    monkeypatch.setattr(known, "_matches", lambda key, other: sorts.append(len(other)) or matches(key, other))
    made = plan(tasks, seed=0, step=1)
    assert len(sorts) == len(made.parts) == 4


def test_texts_of_the_same_label_are_never_negatives_of_each_other(open_):
    rows = [{"text": text(i), "label": i % 2} for i in range(8)]
    task = open_("classification", rows, quota=8, negatives=NegativesConfig(scope="task", per_query=2))
    made = plan([task], seed=0, step=1)
    part = made.parts[0]
    label_of = {row["text"]: row["label"] for row in rows}
    for i, query in enumerate(raw_texts([task], made, part.query_B)):
        kept = set(range(len(part.document_N))) - set(part.excluded_BX[i].tolist()) - {int(part.positive_BP[i, 0])}
        labels = {label_of[t] for t in raw_texts([task], made, part.document_N[sorted(kept)])}
        assert labels == {1 - label_of[query]}


def test_a_document_equal_to_the_query_is_never_its_negative(open_):
    rows = [{"query": text(1), "positive": text(100)}, {"query": text(2), "positive": text(1)}]
    task = open_("retrieval", rows, quota=2)
    made = plan([task], seed=0, step=1)
    assert excluded_texts([task], made, made.parts[0], text(1)) == {text(1)}


def test_with_scope_own_just_the_known_positives_among_a_querys_own_negatives_are_excluded(open_):
    """Against the definition, by loops over the source rows; all pairs of one label would be a table of B x N."""
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
        made = plan(tasks, seed=0, step=step)
        for part in made.parts:
            assert part.excluded_BX[:].shape[1] <= part.negative_BM.shape[1]
            for i, query in enumerate(raw_texts(tasks, made, part.query_B)):
                known = {query} | {p for row in rows if row["query"] == query for p in np.atleast_1d(row["positive"])}
                labels = {row["label"] for row in labelled if row["text"] == query}
                known |= {row["text"] for row in labelled if row["label"] in labels}
                own_N = sorted(set(part.negative_BM[i].tolist()) - {-1, int(part.positive_BP[i, 0])})
                names = raw_texts(tasks, made, part.document_N[own_N]) if own_N else []
                expected = {n for n, name in zip(own_N, names, strict=True) if name in known}
                assert set(part.excluded_BX[i].tolist()) - {-1} == expected
                num_excluded += len(expected)
    assert num_excluded > 10


def test_a_document_whose_truncated_tokens_equal_a_known_positives_is_excluded_with_scope_own(open_):
    """Two raw texts share one row of the table; that row must not be pushed away from either's query."""
    long = text(50, 10)
    rows = [
        {"query": text(1), "positive": [text(60), long + " aral"], "negative": long + " btin"},
        {"query": text(2), "positive": text(61), "negative": long + " aral"},
    ]
    own = NegativesConfig(scope="own", per_query=1)
    task = open_("retrieval", rows, quota=2, max_length=8, negatives=own)
    made = [plan([task], seed=0, step=step) for step in (1, 2)]
    widths = [len(one.parts[0].excluded_pairs()[0]) for one in made]
    assert sorted(widths) == [0, 1]  # once it is the sampled positive itself, once it is excluded


def test_classification_negatives_are_different_rows_and_all_others_where_there_are_fewer(open_):
    """Nine rows of one label and three of another: the first have 3 rows to choose from, the others 9."""
    rows = [{"text": text(i), "label": "a" if i < 9 else "b"} for i in range(12)]
    negatives = NegativesConfig(scope="own", per_query=5)
    task = open_("classification", rows, quota=12, negatives=negatives)
    drawn = set()
    for step in range(1, 41):
        part = plan([task], seed=0, step=step).parts[0]
        for row, negative_M in zip(part.row_B, part.negative_BM, strict=True):
            given = negative_M[negative_M >= 0].tolist()
            assert len(set(given)) == len(given) == (3 if row < 9 else 5)
            if row == 9:
                drawn.add(tuple(sorted(raw_texts([task], plan([task], seed=0, step=step), part.document_N[given]))))
    assert len(drawn) > 20  # of the 126 subsets


@pytest.mark.parametrize(("scope", "expected"), [("task", {"faq"}), ("step", {"faq", "intents"}), ("own", {"faq"})])
def test_the_scope_decides_whose_documents_stand_in_the_table(open_, three_tasks, tmp_path, scope, expected):
    path = tmp_path / "data" / "retrieval.jsonl"
    faq = open_("retrieval", path, "faq", quota=8, negatives=NegativesConfig(scope=scope, per_query=2))
    tasks = [faq, *three_tasks[1:]]
    made = plan(tasks, seed=0, step=1)
    part = made.parts[0]
    assert isinstance(part, QueryPart)
    assert {tasks[t].config.name for t in made.texts.source_T[part.document_N]} == expected
    assert len(np.unique(part.document_N)) == len(part.document_N)


def test_alternate_gives_one_task_a_step_in_proportion_to_the_quotas(three_tasks):
    """Quotas 8, 6, 4: in 9 steps tasks come 4, 3 and 2 times, and each walks through its own epoch undisturbed."""
    made = [plan(three_tasks, seed=0, step=step, balance="alternate") for step in range(1, 91)]
    assert all(len(m.parts) == 1 for m in made)
    names = [m.parts[0].task for m in made]
    assert {name: names.count(name) for name in set(names)} == {"faq": 40, "similar": 30, "intents": 20}
    faq = np.concatenate([m.parts[0].row_B for m in made if m.parts[0].task == "faq"])
    assert sorted(faq[:40]) == list(range(40))


def plan_on_a_rank(folder: str) -> list[str]:
    """Runs on a rank: the plans of a few steps, from data this rank opened itself."""
    from harness.config import load_recipe
    from harness.run.tasks import open_tasks

    loaded = load_recipe(f"{folder}/tiny.yaml")
    tasks = open_tasks(loaded, Tokeniser(loaded.config.model.name_or_path))
    return [as_json(plan(tasks, seed=0, step=step)) for step in (1, 2, 50)]


@pytest.mark.distributed
def test_all_ranks_compute_the_same_plan(tmp_path):
    """They open the data at the same time, too: one builds the index, the others wait for it."""
    make_model(tmp_path / "model")
    make_data(tmp_path)
    make_recipe(tmp_path)
    first, second = run_ranks(2, plan_on_a_rank, str(tmp_path))
    assert first == second
    assert len(set(first)) == 3


def test_texts_saved_are_those_that_separate_columns_would_encode_again(open_):
    """Two queries share a positive and a negative; a pair is twice the first query: 9 texts, 5 of them unique."""
    rows = [{"query": text(i), "positive": text(10), "negative": [text(20), text(21)][: 1 + i]} for i in range(2)]
    searched = open_("retrieval", rows, quota=2, negatives={"per_query": 2})
    alike = open_("sts", [{"text1": text(0), "text2": text(0), "score": 1.0}], name="sts", quota=1)
    made = plan([searched, alike], seed=0, step=1)
    assert len(made.texts) == 5
    assert made.texts_saved == 2 + 2 + 3 + 2 - 5
