"""Looking ahead encodes the negatives of the next queries in the plan, within a budget of texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from harness.data.bank.history import BankHistory
from harness.data.bank.negatives import ListedCandidates, NegativeBank
from harness.data.config import NegativesConfig, PromptsConfig, TaskConfig
from harness.data.data_config import DataConfig
from harness.data.plan.plan import plan
from harness.data.plan.task import Task
from harness.data.table.index import open_task
from harness.data.table.tokenisation import Tokeniser
from harness.mining.upcoming import Upcoming, UpcomingScores
from tests.tiny import make_model, text, write_jsonl

QUOTA, NUM_ROWS, SLOTS = 4, 20, 3


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> list[Task]:
    """A task of queries with one to four negatives, of which every third has its own prompt, and a task of pairs."""
    folder = tmp_path_factory.mktemp("upcoming")
    tokeniser = Tokeniser(str(make_model(folder / "model")))
    rows = [
        {
            "query": text(i, 4),
            "pos": [text(1000 + i)],
            "neg": [text(3000 + (5 * i + j) % 61) for j in range(1 + i % 4)],
            **({"prompt": "own: "} if i % 3 == 0 else {}),
        }
        for i in range(NUM_ROWS)
    ]
    pairs = [{"text1": text(i), "text2": text(50 + i), "score": i % 5} for i in range(9)]
    return [
        _open(folder, tokeniser, "faq", "retrieval", rows),
        _open(folder, tokeniser, "similar", "sts", pairs),
    ]


def _open(folder: Path, tokeniser: Tokeniser, name: str, kind: str, rows: list[dict]) -> Task:
    path = write_jsonl(folder / f"{name}.jsonl", rows)
    retrieval = {"negatives": NegativesConfig(per_query=SLOTS), "prompts": PromptsConfig(query="q: ", document="d: ")}
    config = TaskConfig(name=name, kind=kind, path=str(path), quota=QUOTA, **(retrieval if kind == "retrieval" else {}))
    data = open_task(config, str(path), DataConfig(cache=str(folder / "cache")), tokeniser, 24, 24)
    bank = BankHistory(NegativeBank(data.num_rows, ListedCandidates(data), SLOTS)) if kind == "retrieval" else None
    return Task(config, data, bank, 24, 24)


class Encoder:
    """Embeds a text by its hash and records the texts."""

    def __init__(self) -> None:
        self.given: list[tuple[str, str]] = []

    def of(self, task: Task) -> Encoder:
        assert task.config.name == "faq"
        return self

    def __call__(self, texts: Sequence[str], role: str) -> np.ndarray:
        self.given += [(role, text) for text in texts]
        return np.array([embedding(text) for text in texts], dtype=np.float32)


def embedding(text: str) -> np.ndarray:
    return np.random.default_rng(list(text.encode())).normal(size=8).astype(np.float32)


def look(tasks: list[Task], first_step: int, last_step: int, budget: int) -> tuple[UpcomingScores | None, Encoder]:
    encoder = Encoder()
    upcoming = Upcoming(tasks, encoder.of, seed=5, balance="cbb", budget=budget)
    return upcoming(first_step, last_step).get("faq"), encoder


def rows_of(tasks: list[Task], *steps: int) -> list[int]:
    return [int(row) for step in steps for row in plan(tasks, seed=5, step=step).parts[0].row_B]


def cost(row: int) -> int:
    return 1 + min(SLOTS, 1 + row % 4)


def test_the_similarities_are_the_cosines_of_the_texts_that_the_steps_will_hold(tasks) -> None:
    found, _ = look(tasks, 2, 3, 1_000)
    assert found is not None
    assert found.row_B.tolist() == sorted(set(rows_of(tasks, 2, 3)))
    for row, similarity_M in zip(found.row_B, found.similarity_BM, strict=True):
        first = tasks[0].data.row_start_R1[row]
        query_text = tasks[0].data.read_texts(np.array([first]))[0][0]
        negatives = [text for text, _ in tasks[0].data.read_texts(first + 2 + np.arange(min(SLOTS, 1 + row % 4)))]
        query = embedding(("own: " if row % 3 == 0 else "q: ") + query_text).astype(np.float64)
        documents = [embedding("d: " + negative).astype(np.float64) for negative in negatives]
        expected = [query @ d / np.linalg.norm(query) / np.linalg.norm(d) for d in documents]
        np.testing.assert_allclose(similarity_M[: len(expected)], expected, rtol=1e-12)
        assert np.isnan(similarity_M[len(expected) :]).all()


@pytest.mark.parametrize("budget", [2, 7, 11, 23, 40])
def test_the_nearest_queries_come_first_and_the_budget_is_never_exceeded(tasks, budget) -> None:
    found, encoder = look(tasks, 1, 5, budget)
    coming = rows_of(tasks, 1, 2, 3, 4, 5)
    spent = np.cumsum([cost(row) for row in coming])
    expected = coming[: int(np.searchsorted(spent, budget, side="right"))]
    assert (found.row_B.tolist() if found else []) == sorted(expected)
    assert len(encoder.given) <= budget
    if expected:
        assert len(encoder.given) == len(set(encoder.given))  # no text is encoded twice


def test_steps_after_the_last_are_not_looked_at(tasks) -> None:
    found, _ = look(tasks, 4, 4, 1_000)
    assert found is not None
    assert found.row_B.tolist() == sorted(rows_of(tasks, 4))
    assert look(tasks, 5, 4, 1_000)[0] is None


def test_a_query_that_comes_in_several_steps_is_judged_once(tasks) -> None:
    found, _ = look(tasks, 1, 3 * NUM_ROWS // QUOTA, 10_000)
    assert found is not None
    assert found.row_B.tolist() == list(range(NUM_ROWS))
