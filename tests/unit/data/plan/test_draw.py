"""The examples and texts that a step draws: modes, several positives, lists of any length, scores."""

import numpy as np
import pytest

from harness.data.config import NegativesConfig
from harness.data.plan.plan import plan
from harness.types import PairPart
from tests.tiny import text
from tests.unit.data.plan.texts import raw_texts, source_rows


def rows_of(part):
    return part.row_S if isinstance(part, PairPart) else part.row_B


def retrieval_rows(count, first):
    return [{"query": text(first + i), "positive": text(1000 + first + i)} for i in range(count)]


@pytest.fixture
def sources(open_):
    """Two retrieval tasks with quotas 6 and 2 over 40 and 24 rows, one task of pairs and one of labels."""
    pairs = [{"text1": text(i), "text2": text(i + 1), "score": i % 3} for i in range(9)]
    labelled = [{"text": text(500 + i), "label": i % 2} for i in range(8)]
    return [
        open_("retrieval", retrieval_rows(40, 0), "many", quota=6),
        open_("sts", pairs, "pairs", quota=3),
        open_("retrieval", retrieval_rows(24, 200), "few", quota=2),
        open_("classification", labelled, "labels", quota=2, negatives=NegativesConfig(scope="own", per_query=1)),
    ]


def homogeneous(tasks, num_steps):
    return [plan(tasks, seed=0, step=step, balance="homogeneous").parts for step in range(1, num_steps + 1)]


def test_homogeneous_takes_all_retrieval_queries_of_a_step_from_one_source_in_proportion_to_the_quotas(sources):
    step_plan = homogeneous(sources, 40)
    chosen = [part.task for parts in step_plan for part in parts if part.task in ("many", "few")]
    assert len(chosen) == 40
    assert (chosen.count("many"), chosen.count("few")) == (30, 10)
    assert {len(rows_of(part)) for parts in step_plan for part in parts if part.task in ("many", "few")} == {8}


def test_homogeneous_gives_tasks_of_another_kind_what_cbb_gives_them(sources):
    for step, parts in enumerate(homogeneous(sources, 12), start=1):
        balanced = {part.task: part for part in plan(sources, seed=0, step=step).parts}
        others = [part for part in parts if part.task in ("pairs", "labels")]
        assert [part.task for part in others] == ["pairs", "labels"]
        for part in others:
            assert rows_of(part).tolist() == rows_of(balanced[part.task]).tolist()


def test_in_every_mode_a_task_walks_through_whole_epochs_of_its_own(sources):
    """Whenever a task gets a turn: every epoch of it contains each of its rows once."""
    for balance in ("cbb", "alternate", "homogeneous"):
        step_plan = [plan(sources, seed=0, step=step, balance=balance).parts for step in range(1, 92)]
        for task in sources:
            rows = np.concatenate(
                [rows_of(part) for parts in step_plan for part in parts if part.task == task.config.name]
            )
            assert len(rows) >= task.data.num_rows
            for epoch in range(len(rows) // task.data.num_rows):
                seen = rows[epoch * task.data.num_rows : (epoch + 1) * task.data.num_rows]
                assert sorted(seen) == list(range(task.data.num_rows)), (balance, task.config.name)


def test_alternate_gives_examples_in_proportion_to_the_square_of_the_quotas(sources):
    """Quotas 6, 3, 2, 2: in 13 steps a task has as many turns as its quota, each with as many examples."""
    step_plan = [plan(sources, seed=0, step=step, balance="alternate").parts for step in range(1, 27)]
    examples = {task.config.name: 0 for task in sources}
    for (part,) in step_plan:
        examples[part.task] += len(rows_of(part))
    assert examples == {"many": 72, "pairs": 18, "few": 8, "labels": 8}


def test_without_a_retrieval_task_homogeneous_is_cbb(sources):
    tasks = [sources[1], sources[3]]
    for step in (1, 2):
        balanced, found = (plan(tasks, seed=0, step=step, balance=balance).parts for balance in ("cbb", "homogeneous"))
        assert [rows_of(part).tolist() for part in found] == [rows_of(part).tolist() for part in balanced]


LISTS = [
    {"query": text(1), "pos": [text(11), text(12), text(13)], "neg": [text(21)]},
    {"query": text(2), "pos": [text(14)], "neg": []},
    {"query": text(3), "pos": [text(15), text(16)], "neg": [text(22), text(23), text(24)]},
    {"query": text(4), "pos": [text(17)], "neg": [text(25), text(26)]},
]
SCORES = [([3.0, 2.5, 2.0], [-1.0]), ([1.0], []), ([0.5, 0.25], [0.1, -0.2, 5.0]), ([9.0], [-3.0, -4.0])]


def listed(tasks, step_plan, part, place_BM, i):
    return raw_texts(tasks, step_plan, part.document_N[place_BM[i][place_BM[i] >= 0]])


def test_queries_have_all_their_positives_and_as_many_negatives_as_there_are(open_):
    """One step contains lists of different lengths, also queries without a negative."""
    task = open_("retrieval", LISTS, positives="all", negatives=NegativesConfig(per_query=2))
    for step in (1, 2):
        step_plan = plan([task], seed=0, step=step)
        part = step_plan.parts[0]
        assert sorted(part.row_B) == [0, 1, 2, 3]
        for i, row in enumerate(part.row_B):
            assert listed([task], step_plan, part, part.positive_BP, i) == LISTS[row]["pos"]
            assert listed([task], step_plan, part, part.negative_BM, i) == LISTS[row]["neg"][:2]
            own = set(part.positive_BP[i].tolist()) - {-1}
            assert not own & set(part.excluded_BX[i].tolist())


def test_by_default_a_query_has_one_positive_a_step(open_):
    task = open_("retrieval", LISTS, negatives=NegativesConfig(per_query=2))
    assert plan([task], seed=0, step=1).parts[0].positive_BP.shape == (4, 1)


def test_a_task_in_which_no_query_has_a_negative_is_planned(open_):
    rows = [{"query": row["query"], "pos": row["pos"], "neg": []} for row in LISTS]
    part = plan([open_("retrieval", rows, negatives=NegativesConfig(per_query=3))], seed=0, step=1).parts[0]
    assert part.negative_BM.shape == (4, 3)
    assert (part.negative_BM == -1).all()


def scored(scores=SCORES):
    return [row | {"pos_scores": pos, "neg_scores": neg} for row, (pos, neg) in zip(LISTS, scores, strict=True)]


@pytest.mark.parametrize("positives", ["one", "all"])
def test_a_ranker_s_scores_follow_the_texts_they_belong_to(open_, positives):
    settings = {"loss": ("info_nce", "kl"), "positives": positives, "negatives": NegativesConfig(per_query=2)}
    task = open_("retrieval", scored(), **settings)
    score_of = {
        name: score
        for row in scored()
        for side in ("pos", "neg")
        for name, score in zip(row[side], row[f"{side}_scores"], strict=True)
    }
    for step in (1, 2, 3):
        step_plan = plan([task], seed=0, step=step)
        part = step_plan.parts[0]
        for place_BM, score_BM in (
            (part.positive_BP, part.positive_score_BP),
            (part.negative_BM, part.negative_score_BM),
        ):
            assert (np.isnan(score_BM) == (place_BM < 0)).all()
            for i in range(4):
                names = listed([task], step_plan, part, place_BM, i)
                assert score_BM[i][place_BM[i] >= 0] == pytest.approx([score_of[name] for name in names])


def test_scores_that_no_loss_asks_for_stay_out_of_the_plan(open_):
    part = plan([open_("retrieval", scored(), negatives=NegativesConfig(per_query=2))], seed=0, step=1).parts[0]
    assert part.positive_score_BP is None
    assert part.negative_score_BM is None


@pytest.mark.parametrize(("side", "line"), [("pos_scores", 3), ("neg_scores", 1)])
def test_a_row_without_scores_is_named_when_its_task_distils(open_, side, line):
    rows = scored()
    del rows[line - 1][side]
    with pytest.raises(
        ValueError, match=rf"task\.jsonl:{line}: {side}: got no score, .* task task has loss margin_mse"
    ):
        open_("retrieval", rows, loss=("margin_mse",), negatives=NegativesConfig(per_query=2))
    open_("retrieval", rows, negatives=NegativesConfig(per_query=2))


def test_an_epoch_visits_every_example_of_every_task_exactly_once(three_tasks):
    """Quotas 8, 6, 4 over 40, 30, 32 rows: epochs of 5, 5 and 8 steps. Three epochs, all in different orders."""
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
        step_plan = plan([task], seed=0, step=step)
        part = step_plan.parts[0]
        positives = raw_texts([task], step_plan, part.document_N[part.positive_BP[:, 0]])
        for row, positive in zip(part.row_B, positives, strict=True):
            used[row].add(positive)
    assert used == {i: set(rows[i]["positive"]) for i in range(4)}


def test_classification_takes_the_same_label_as_positive_and_other_labels_as_negatives(three_tasks):
    step_plan = plan(three_tasks, seed=3, step=2)
    part = step_plan.parts[2]
    source = source_rows(three_tasks[2].data.path)
    label_of = {row["text"]: row["label"] for row in source}
    for i in range(4):
        query, positive = raw_texts(three_tasks, step_plan, [part.query_B[i], part.document_N[part.positive_BP[i, 0]]])
        assert label_of[query] == label_of[positive]
        assert query != positive
        for negative in raw_texts(three_tasks, step_plan, part.document_N[part.negative_BM[i]]):
            assert label_of[negative] != label_of[query]


def test_classification_negatives_are_different_rows_and_all_others_where_there_are_fewer(open_):
    """Nine rows of one label and three of another: the nine have 3 possible negatives, the three have 9."""
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
    assert len(drawn) > 20  # of 126 possible subsets


def test_alternate_gives_one_task_a_step_in_proportion_to_the_quotas(three_tasks):
    """Quotas 8, 6, 4: in 9 steps the tasks have 4, 3 and 2 turns, and each continues its own epoch at its next turn."""
    step_plan = [plan(three_tasks, seed=0, step=step, balance="alternate") for step in range(1, 91)]
    assert all(len(m.parts) == 1 for m in step_plan)
    names = [m.parts[0].task for m in step_plan]
    assert {name: names.count(name) for name in set(names)} == {"faq": 40, "similar": 30, "intents": 20}
    faq = np.concatenate([m.parts[0].row_B for m in step_plan if m.parts[0].task == "faq"])
    assert sorted(faq[:40]) == list(range(40))
