"""Ranking anew between two steps: the files, the weights they name, and the old rankings that stay on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.data.bank.file import BankFacts
from harness.data.plan.task import Task
from harness.mining import remine
from harness.mining.config import RemineConfig
from harness.mining.remine import Reranking
from tests.tiny import text


def encode(texts: list[str], role: str) -> np.ndarray:
    return np.array([np.random.default_rng(list(one.encode())).normal(size=8) for one in texts], dtype=np.float32)


Shown = tuple[str, str, int, int]  # task, stage, texts done, of so many


class Encoder:
    def __call__(self, texts: list[str], role: str) -> np.ndarray:
        return encode(texts, role)

    def read_and_encode(self, read, order_T: np.ndarray, role: str) -> np.ndarray:
        return encode(read(np.arange(len(order_T))), role)


class Weights:
    """Model weights that change at every step. Counts how often they were hashed."""

    def __init__(self) -> None:
        self.step, self.hashed = 0, 0

    def identity(self) -> dict[str, str]:
        self.hashed += 1
        return {"weights": f"hash of step {self.step}", "pooling": "mean"}


@pytest.fixture
def tasks(open_) -> list[Task]:
    rows = [
        {"query": text(i, 4), "positive": text(100 + i), "negative": [text(200 + 2 * i), text(201 + 2 * i)]}
        for i in range(6)
    ]
    return [open_("retrieval", rows, name) for name in ("faq", "forum")]


@pytest.fixture
def weights() -> Weights:
    return Weights()


@pytest.fixture
def shown() -> list[Shown]:
    return []


@pytest.fixture
def reranking(tmp_path: Path, weights: Weights, shown: list[Shown]) -> Reranking:
    return Reranking(
        RemineConfig(candidates=4),
        folder=tmp_path / "run" / "banks",
        checkpoints=tmp_path / "run" / "checkpoints",
        encoder_of=lambda task: Encoder(),
        identity=weights.identity,
        offset_of=lambda task: 0,
        progress_of=lambda task: lambda stage, done, of: shown.append((task.config.name, stage, done, of)),
    )


def test_a_ranking_shows_from_its_begin_on_how_far_it_is(
    reranking: Reranking, tasks: list[Task], shown: list[Shown]
) -> None:
    """Training waits for it, minutes before the first step of the demo: without a line it would seem to hang."""
    reranking(tasks, 4)
    stages = [("encoding queries", 6), ("encoding documents", 18), ("searching", 6)]
    assert shown == [(name, stage, done, of) for name in ("faq", "forum") for stage, of in stages for done in (0, of)]


def said_of_the_weights(reranking: Reranking, step: int, task: str) -> str:
    return BankFacts.read(reranking.folder / f"step-{step}" / task).ranked_by["weights"]


def test_every_ranking_names_the_weights_it_was_made_with_although_one_object_makes_them_all(
    reranking: Reranking, tasks: list[Task], weights: Weights
) -> None:
    """A run has one `Reranking`. If it kept the hash of its first ranking, later rankings would name wrong weights."""
    for step in (4, 8):
        weights.step = step
        reranking(tasks, step)
    assert said_of_the_weights(reranking, 4, "faq") == "hash of step 4"
    assert said_of_the_weights(reranking, 8, "faq") == "hash of step 8"


def test_the_weights_are_hashed_once_for_all_tasks_of_a_ranking(
    reranking: Reranking, tasks: list[Task], weights: Weights
) -> None:
    """Under ZeRO-3 the hash gathers the whole model."""
    found = reranking(tasks, 4)
    assert list(found) == ["faq", "forum"]
    assert weights.hashed == 1


def test_what_was_ranked_is_reopened_from_disk(reranking: Reranking, tasks: list[Task]) -> None:
    found, rows, ranks = reranking(tasks, 4)["faq"], np.arange(6), np.tile(np.arange(4), (6, 1))
    again = reranking.reopen(tasks[0], 4)
    assert (found.count(rows) == 4).all()
    assert np.array_equal(found.text_ids(rows, ranks), again.text_ids(rows, ranks))
    assert np.array_equal(found.scores(rows, ranks), again.scores(rows, ranks))


def test_rankings_stay_that_are_in_use_or_that_a_checkpoint_names(
    reranking: Reranking, tasks: list[Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (2, 4, 6, 8):
        reranking(tasks, step)
    asked: list[Path] = []
    states = [{"step": 5, "rankings": [4]}, {"step": 1}]
    monkeypatch.setattr(remine, "kept_states", lambda folder: asked.append(folder) or states)
    reranking.keep({0, 8})
    assert {path.name for path in reranking.folder.iterdir()} == {"step-4", "step-8"}
    assert asked == [reranking.checkpoints]


def test_the_files_of_rankings_are_those_that_a_checkpoint_must_find_again(
    reranking: Reranking, tasks: list[Task]
) -> None:
    for step in (2, 4):
        reranking(tasks, step)
    files = reranking.files({0, 4})
    assert {path.parent.parent.name for path in files} == {"step-4"}
    assert {path.parent.name for path in files} == {"faq", "forum"}
    assert len(files) == 2 * 4  # three arrays and bank.json
