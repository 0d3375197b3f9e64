"""The balance benchmark: each way deals as its name says, and the verdict can fail."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.balance import benchmark as balance
from benchmarks.balance.benchmark import GOAL, WAYS, greedy_cut, in_order, measure, of_the_paper, verdict
from harness.types import StepPlan
from tests.golden import tiny_plan, tiny_texts
from tests.tiny import make_data, make_model, make_recipe

BUDGET = 128


def step() -> StepPlan:
    """Two tasks of 5 and 3 queries, two of 3 and 2 pairs, over 31 texts."""
    return tiny_plan([len(text) for text in tiny_texts()])


def texts_of_ranks(placed: balance.Placed) -> list[set[int]]:
    return [{int(row) for batch in batches for row in batch} for batches in placed]


@pytest.mark.parametrize("ranks", [2, 5, 8])
@pytest.mark.parametrize("way", WAYS)
def test_every_way_encodes_every_text_and_none_twice_on_a_rank(way: str, ranks: int) -> None:
    step_plan = step()
    placed = WAYS[way](step_plan, ranks, BUDGET)
    assert len(placed) == ranks
    assert set().union(*texts_of_ranks(placed)) == set(range(len(step_plan.texts)))
    for batches, texts in zip(placed, texts_of_ranks(placed), strict=True):
        assert sum(map(len, batches)) == len(texts)


def test_in_order_a_rank_has_the_texts_of_its_own_examples() -> None:
    """Of two ranks the first has queries 0 to 2 and 0 to 1, and pairs 0 to 1 and 0. Expected texts come from loops."""
    step_plan = step()
    faq, intents, similar, alike = step_plan.parts
    expected = set()
    for part, queries in ((faq, 3), (intents, 2)):
        for i in range(queries):
            documents = [*part.positive_BP[i], *part.negative_BM[i]]
            expected |= {int(part.query_B[i])} | {int(part.document_N[n]) for n in documents if n >= 0}
    for part, pairs in ((similar, 2), (alike, 1)):
        expected |= {int(row) for i in range(pairs) for row in (part.text1_S[i], part.text2_S[i])}
    assert texts_of_ranks(in_order(step_plan, 2, BUDGET))[0] == expected


def test_the_papers_placing_repeats_queries_and_positives_and_divides_the_negatives() -> None:
    """Figure 3: gpu0 to gpu3 hold the same queries and positives but different negatives; gpu4 holds the STS pairs."""
    step_plan = step()
    *searching, sentences = texts_of_ranks(of_the_paper(step_plan, 5, BUDGET))
    faq, intents, similar, alike = step_plan.parts
    pairs = [row for part in (similar, alike) for row in (*part.text1_S, *part.text2_S)]
    assert sentences == {int(row) for row in pairs}
    shared = {
        int(row)
        for part in (faq, intents)
        for row in (*part.query_B, *part.document_N[part.positive_BP[part.positive_BP >= 0]])
    }
    negatives = [int(n) for part in (faq, intents) for n in part.document_N[part.negative_BM[part.negative_BM >= 0]]]
    assert all(shared <= texts for texts in searching)
    assert sum(len(texts - shared) for texts in searching) <= len(negatives)
    assert len({frozenset(texts) for texts in searching}) == 4


def test_the_greedy_cut_fills_each_micro_batch_by_its_longest_text() -> None:
    length_T = np.array([30, 20, 9, 8, 8])
    assert [rows.tolist() for rows in greedy_cut(np.arange(5), length_T, 64)] == [[0, 1], [2, 3, 4]]


def test_figures_are_those_of_a_deal_counted_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts of 8, 8 and 4 tokens: one rank has 16 padded tokens in a micro-batch, the other 8; both have two rows."""
    step_plan = tiny_plan([8, 8, 4] + [1] * 28)
    monkeypatch.setitem(WAYS, "by hand", lambda *_: [[np.array([0, 1])], [np.array([2])]])
    row = measure("tiny", 2, BUDGET, "by hand", [step_plan])
    assert (row.largest, row.to_mean, row.worst_to_mean) == (16, 16 / 12, 16 / 12)
    assert (row.padding, row.micro_batches, row.gathered, row.texts) == (1 - 20 / 24, 1, 4, 3)


def test_the_goal_is_missed_where_a_single_step_is_above_it() -> None:
    even = replace(measure("tiny", 2, BUDGET, "ours", [step()]), to_mean=1.0, worst_to_mean=GOAL)
    other = replace(even, way="in order", worst_to_mean=2.0)
    assert verdict([even, other]).endswith("met")
    assert verdict([even, replace(even, worst_to_mean=GOAL + 0.001)]).endswith("missed")


def test_the_command_measures_a_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_model(tmp_path / "model")
    recipe = make_recipe(make_data(tmp_path))
    words = ["--recipe", str(recipe), "--ranks", "2", "--micro-batch-tokens", "64", "--steps", "2"]
    out = tmp_path / "figures.json"
    monkeypatch.setattr(sys, "argv", ["balance", "--data-root", str(tmp_path), *words, "--out", str(out)])
    with pytest.raises(SystemExit) as ended:
        balance.main()
    rows = json.loads(out.read_text())
    assert [row["way"] for row in rows] == list(WAYS)
    assert ended.value.code == int(rows[0]["worst_to_mean"] > GOAL)
    assert "| there and back |" in capsys.readouterr().out
