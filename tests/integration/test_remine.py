"""Runs that rank their negatives anew or look ahead: continued after a kill, and the files they keep."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from harness.config import load_recipe
from harness.data.plan.plan import plan
from harness.engine.checkpoint import read_arrays
from harness.run.startup.mining import begin_unranked
from harness.run.tasks import check_settings, load_tokeniser, open_tasks
from harness.types import QueryPart
from tests.integration.test_resume import _die, outcome, train
from tests.ranks import run_ranks
from tests.tiny import text, write_jsonl
from tests.unit.cli.command_line import invoke

pytestmark = pytest.mark.distributed

LIVELY = (
    "training.steps=10",
    "training.dropout=0.4",
    "training.learning_rate=1e-3",
    "mining.remine.candidates=12",
    "tasks.faq.negatives.offset=1",
)
REMINE = (*LIVELY, "mining.rule=v2", "mining.floor=0.9", "mining.ceiling=2", "mining.remine.every=4")


def train_and_die(folder: str, output: str, settings: tuple[str, ...], place: str) -> None:
    """Runs on a rank: train until the ranking after step 4 and kill every rank there, at the named place."""
    import harness.search.embeddings as embedding
    from harness.mining.bank_writer import BankWriter

    def embeddings(*arguments, original=embedding.embeddings):
        rows = original(*arguments)
        if place == f"with the {arguments[4].name} encoded" and "step-4" in str(arguments[4]):
            _die()
        return rows

    def finish(self, facts, original=BankWriter.finish):
        if place == "before its facts are written" and "step-4" in str(self.out):
            _die()
        original(self, facts)
        if place == "when it is done" and "step-4" in str(self.out):
            _die()

    embedding.embeddings, BankWriter.finish = embeddings, finish
    train(folder, output, settings)


@pytest.fixture(scope="module")
def ranked(folder: Path) -> tuple[str, ...]:
    """Settings: a query comes every second step and has four negatives; all negatives are ranked for each query."""
    rows = [
        {"query": text(i, 4), "positive": text(1000 + i), "negative": [text(3000 + 4 * i + j) for j in range(4)]}
        for i in range(12)
    ]
    return (f"tasks.faq.path={write_jsonl(folder / 'ranked.jsonl', rows).name}",)


@pytest.fixture(scope="module")
def uninterrupted(folder: Path, ranked: tuple[str, ...]) -> tuple[list[dict], list[dict], bytes]:
    run_ranks(2, train, str(folder), "whole", (*ranked, *REMINE))
    return outcome(folder / "whole")


@pytest.mark.parametrize(
    "place",
    ["with the queries encoded", "with the documents encoded", "before its facts are written", "when it is done"],
)
def test_a_run_killed_while_it_ranks_anew_equals_the_uninterrupted_one_bit_for_bit(
    folder, ranked, uninterrupted, place
):
    output, settings = place.replace(" ", "_"), (*ranked, *REMINE)
    with pytest.raises(AssertionError, match="no result"):
        run_ranks(2, train_and_die, str(folder), output, settings, place)
    run_ranks(2, train, str(folder), output, settings)
    assert json.loads((folder / output / "run.json").read_text())["resumed_from"] == 2
    assert outcome(folder / output) == uninterrupted


def test_a_run_killed_before_a_new_ranking_counts_goes_on_with_both_banks(folder, ranked, uninterrupted):
    """The checkpoint after step 4 holds the old bank, from which step 5 draws, and the name of the new bank."""
    settings = (*ranked, *REMINE)
    with pytest.raises(AssertionError, match="no result"):
        run_ranks(2, train, str(folder), "pending", settings, "after step 5")
    saved = read_arrays(folder / "pending" / "checkpoints" / "step-00000004")
    assert (saved["faq/first_step"].tolist(), saved["faq/ranked_after"].tolist()) == ([0, 6], [0, 4])
    run_ranks(2, train, str(folder), "pending", settings)
    assert json.loads((folder / "pending" / "run.json").read_text())["resumed_from"] == 4
    assert outcome(folder / "pending") == uninterrupted


def test_new_rankings_change_what_is_trained_on_and_are_reported(folder, ranked, uninterrupted):
    run_ranks(2, train, str(folder), "kept", (*ranked, *REMINE, "mining.remine.every=0"))
    rows, kept = uninterrupted[0], outcome(folder / "kept")[0]
    assert [row["queries_reranked"] for row in rows] == [0, 0, 0, 12, 0, 0, 0, 12, 0, 0]
    assert next(row["step"] for row, other in zip(rows, kept, strict=True) if row["loss"] != other["loss"]) == 6
    assert all(row["queries_reranked"] == 0 for row in kept)


def test_only_rankings_that_a_checkpoint_may_go_on_with_are_kept(folder, uninterrupted):
    """When the ranking after step 8 is made, the newest checkpoint (step 6) uses the ranking after step 4."""
    assert {path.name for path in (folder / "whole" / "banks").iterdir()} == {"step-4", "step-8"}


def test_without_checkpoints_only_rankings_in_use_are_kept(folder, ranked):
    settings = (*ranked, *LIVELY, "mining.remine.every=2", "checkpoint.every=0")
    run_ranks(1, train, str(folder), "unsaved", settings)
    assert {path.name for path in (folder / "unsaved" / "banks").iterdir()} == {"step-6", "step-8"}


def test_a_checkpoint_whose_ranking_is_damaged_is_passed_over(folder, ranked, uninterrupted):
    settings = (*ranked, *REMINE)
    with pytest.raises(AssertionError, match="no result"):
        run_ranks(2, train, str(folder), "damaged", settings, "after step 5")
    candidates = folder / "damaged" / "banks" / "step-4" / "faq" / "candidate_RC.npy"
    os.truncate(candidates, candidates.stat().st_size - 4)
    run_ranks(2, train, str(folder), "damaged", settings)
    assert json.loads((folder / "damaged" / "run.json").read_text())["resumed_from"] == 2
    assert outcome(folder / "damaged") == uninterrupted


def test_a_run_that_looks_ahead_continues_bit_for_bit(folder, ranked):
    settings = (*ranked, *LIVELY, "mining.rule=v2", "mining.floor=0.94", "mining.check=upcoming", "mining.interval=2")
    run_ranks(2, train, str(folder), "ahead", settings)
    with pytest.raises(AssertionError, match="no result"):
        run_ranks(2, train, str(folder), "ahead_killed", settings, "after step 5")
    run_ranks(2, train, str(folder), "ahead_killed", settings)
    assert outcome(folder / "ahead_killed") == outcome(folder / "ahead")
    rows = outcome(folder / "ahead")[0]
    judged = [row["step"] for row in rows if row["negatives_replaced"]]
    assert judged
    assert all(step % 2 == 0 for step in judged)


def test_looking_ahead_does_not_change_a_step_but_by_its_decisions(folder, ranked):
    """Looking ahead encodes with dropout off: with a rule that replaces nothing, training is unchanged."""
    never = ("mining.rule=v2", "mining.floor=-9", "mining.ceiling=1e-9", "mining.check=upcoming", "mining.interval=1")
    for name, settings in (("never", never), ("none", ())):
        run_ranks(2, train, str(folder), name, (*ranked, *LIVELY, *settings))
    losses = [[row["loss"] for row in outcome(folder / name)[0]] for name in ("never", "none")]
    np.testing.assert_array_equal(*losses)


def test_a_ranking_too_short_for_a_first_window_is_refused_at_the_start(folder, ranked):
    settings = (*ranked, "mining.remine.every=2", "mining.remine.candidates=11")
    with pytest.raises(AssertionError, match="got 11, expected at least 12: task faq passes over 10"):
        run_ranks(1, train, str(folder), "short", settings)


AT_START = (
    *LIVELY, "mining.remine.at_start=true", "tasks.faq.path=plain.jsonl", "mining.rule=v2", "mining.floor=0.9",
    "mining.start=ranking",
)  # fmt: skip


@pytest.fixture(scope="module")
def ranked_at_start(folder: Path) -> tuple[list[dict], list[dict], bytes]:
    """A run whose rows have no negatives: the starting model finds them."""
    write_jsonl(folder / "plain.jsonl", [{"query": text(i, 4), "positive": text(1000 + i)} for i in range(12)])
    run_ranks(2, train, str(folder), "from_the_start", AT_START)
    return outcome(folder / "from_the_start")


def test_a_ranking_at_the_start_is_the_one_that_mine_makes_of_the_starting_model(folder, ranked_at_start):
    """With rows that have no negatives: every query has own ones from the first step on."""
    run = folder / "from_the_start"
    mined = folder / "mined_apart"
    options = ["--queries", folder / "plain.jsonl", "--candidates", "12", "--max-length", "24", "--out", mined]
    done = invoke("mine", str(folder / "model"), *map(str, options), "--pooling", "mean")
    assert done.exit_code == 0, done.output
    ours = run / "banks" / "step-0" / "faq" / "candidate_RC.npy"
    np.testing.assert_array_equal(np.load(ours), np.load(mined / "candidate_RC.npy"))
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(row["negative_similarity_watched"]) for row in rows)
    assert sum(row["negatives_replaced"] for row in rows) > 0


def test_a_plan_counts_the_negatives_that_a_ranking_at_the_start_will_find(folder, ranked_at_start):
    """Nothing is ranked for a plan: other rows' documents stand in, so that memory and seconds are those of the run."""
    loaded = load_recipe(f"{folder}/tiny.yaml", list(AT_START))
    tasks = open_tasks(loaded, load_tokeniser(loaded.config.model))
    begin_unranked(loaded.config, tasks)
    part = plan(tasks, seed=0, step=1, balance=loaded.config.loss.balance).parts[0]
    assert isinstance(part, QueryPart)
    for positives, negatives in zip(part.positive_BP.tolist(), part.negative_BM.tolist(), strict=True):
        assert min(negatives) >= 0
        assert len({*positives, *negatives}) == len(positives) + len(negatives)
    settings = (word for setting in AT_START for word in ("--set", setting))
    done = invoke("plan", f"{folder}/tiny.yaml", *settings)
    own = part.negative_BM.size
    assert re.search(rf"^. faq +. +{len(part.query_B)} +. +\d+ +. +{own} ", done.output, re.MULTILINE), done.output


@pytest.mark.parametrize("place", ["after step 1", "after step 5"])
def test_a_run_that_ranked_at_its_start_continues_bit_for_bit(folder, ranked_at_start, place):
    """Killed before the first checkpoint it ranks again, later it reads what was ranked."""
    output = f"start_{place[-1]}"
    with pytest.raises(AssertionError, match="no result"):
        run_ranks(2, train, str(folder), output, AT_START, place)
    run_ranks(2, train, str(folder), output, AT_START)
    assert outcome(folder / output) == ranked_at_start


def test_a_bank_beside_a_ranking_at_the_start_is_refused(folder):
    settings = ["mining.remine.at_start=true", "tasks.faq.negatives.bank=somewhere"]
    with pytest.raises(ValueError, match=r"^tasks.faq.negatives.bank: got somewhere with mining.remine.at_start"):
        check_settings(load_recipe(f"{folder}/tiny.yaml", settings).config)
