"""Which examples and which of their texts a step holds: modes, several positives, lists of any length, scores."""

import numpy as np
import pytest

from harness.data.config import NegativesConfig
from harness.data.plan.plan import plan
from harness.types import PairPart
from tests.tiny import text
from tests.unit.data.plan.test_plan import raw_texts


def rows_of(part):
    return part.row_S if isinstance(part, PairPart) else part.row_B


def retrieval_rows(count, first):
    return [{"query": text(first + i), "positive": text(1000 + first + i)} for i in range(count)]


@pytest.fixture
def sources(open_):
    """Two retrieval sources with quotas 6 and 2 over 40 and 24 rows, pairs and labels beside them."""
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
    made = homogeneous(sources, 40)
    chosen = [part.task for parts in made for part in parts if part.task in ("many", "few")]
    assert len(chosen) == 40
    assert (chosen.count("many"), chosen.count("few")) == (30, 10)
    assert {len(rows_of(part)) for parts in made for part in parts if part.task in ("many", "few")} == {8}


def test_homogeneous_gives_tasks_of_another_kind_what_cbb_gives_them(sources):
    for step, parts in enumerate(homogeneous(sources, 12), start=1):
        balanced = {part.task: part for part in plan(sources, seed=0, step=step).parts}
        others = [part for part in parts if part.task in ("pairs", "labels")]
        assert [part.task for part in others] == ["pairs", "labels"]
        for part in others:
            assert rows_of(part).tolist() == rows_of(balanced[part.task]).tolist()


def test_in_every_mode_a_task_walks_through_whole_epochs_of_its_own(sources):
    """Whatever turns it gets: the first rows it gives are each of its rows once."""
    for balance in ("cbb", "alternate", "homogeneous"):
        made = [plan(sources, seed=0, step=step, balance=balance).parts for step in range(1, 92)]
        for task in sources:
            rows = np.concatenate([rows_of(part) for parts in made for part in parts if part.task == task.config.name])
            assert len(rows) >= task.data.num_rows
            for epoch in range(len(rows) // task.data.num_rows):
                seen = rows[epoch * task.data.num_rows : (epoch + 1) * task.data.num_rows]
                assert sorted(seen) == list(range(task.data.num_rows)), (balance, task.config.name)


def test_alternate_gives_examples_in_proportion_to_the_square_of_the_quotas(sources):
    """Quotas 6, 3, 2, 2: in 13 steps so many turns, each with as many examples."""
    made = [plan(sources, seed=0, step=step, balance="alternate").parts for step in range(1, 27)]
    examples = {task.config.name: 0 for task in sources}
    for (part,) in made:
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


def listed(tasks, made, part, place_BM, i):
    return raw_texts(tasks, made, part.document_N[place_BM[i][place_BM[i] >= 0]])


def test_queries_have_all_their_positives_and_as_many_negatives_as_there_are(open_):
    """Lists of different lengths, also no negative at all, in one step."""
    task = open_("retrieval", LISTS, positives="all", negatives=NegativesConfig(per_query=2))
    for step in (1, 2):
        made = plan([task], seed=0, step=step)
        part = made.parts[0]
        assert sorted(part.row_B) == [0, 1, 2, 3]
        for i, row in enumerate(part.row_B):
            assert listed([task], made, part, part.positive_BP, i) == LISTS[row]["pos"]
            assert listed([task], made, part, part.negative_BM, i) == LISTS[row]["neg"][:2]
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
        made = plan([task], seed=0, step=step)
        part = made.parts[0]
        for place_BM, score_BM in (
            (part.positive_BP, part.positive_score_BP),
            (part.negative_BM, part.negative_score_BM),
        ):
            assert (np.isnan(score_BM) == (place_BM < 0)).all()
            for i in range(4):
                names = listed([task], made, part, place_BM, i)
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
