"""Trainings from Python: several in one process, from rows in memory, and on ranks of their own."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

import harness
from harness import STOP, Callback, Recipe, Training, evaluate, mine, train
from tests.tiny import make_model, text

QUESTIONS = [
    {"query": text(i, 4), "positive": text(1000 + i, 6), "negative": [text(3000 + (i * 7 + j) % 50, 6) for j in (0, 1)]}
    for i in range(24)
]
PAIRS = [{"text1": text(i, 5), "text2": text(i + i % 3, 5), "score": float(i % 6)} for i in range(16)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("python")
    make_model(folder / "model")
    return folder


def recipe(folder: Path, name: str, **changes: Any) -> Recipe:
    made = Recipe(
        name=name,
        model={"name_or_path": folder / "model", "pooling": "mean", "max_length": 24},
        tasks=[
            {"name": "questions", "kind": "retrieval", "path": QUESTIONS, "quota": 8, "negatives": {"per_query": 2}},
            {"name": "pairs", "kind": "sts", "path": Dataset.from_list(PAIRS), "quota": 4},
        ],
        training={"steps": 2, "learning_rate": 1e-3, "micro_batch_tokens": 128},
        evaluation={"data": {"similar": PAIRS}, "every": 2},
        checkpoint={"every": 2},
        data={"cache": folder / "cache"},
        output=folder / name,
    )
    return made.changed(changes) if changes else made


class Seen(Callback):
    """Notes the steps, and asks for the end after the second."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def on_step(self, step: int, metrics: Any) -> Any:
        self.steps.append(step)
        return STOP if step == 2 else None


def losses(training: Training) -> list[float]:
    return [row["loss"] for row in training.metrics]


def process_state() -> tuple[Any, ...]:
    loggers = [len(logging.getLogger(name).filters) for name in ("DeepSpeed", "torch", "transformers")]
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)]
    set_by_libraries = ("KMP_", "PYTEST_")  # faiss and scikit-learn set theirs when they are imported
    variables = {name: value for name, value in os.environ.items() if not name.startswith(set_by_libraries)}
    return (
        variables,
        loggers,
        handlers,
        list(warnings.filters),
        warnings.formatwarning,
        torch.random.get_rng_state().tolist(),
    )


def test_a_training_after_others_has_the_bits_of_one_alone_and_leaves_the_process_as_it_was(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Groups, ports, DeepSpeed's globals and generators outlive a training unless they are put away; the first of
    these three ends with an error in the middle of a step, and the second has another ZeRO stage."""
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))  # as here: sums in the same order
    importlib.import_module("harness.trainer")  # what libraries set when they are imported stays
    before = process_state()
    with monkeypatch.context() as patched:
        patched.setattr("harness.trainer.replay", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(recipe(folder, "failing"))
    assert not torch.distributed.is_initialized()
    other = train(recipe(folder, "other", deepspeed="zero3"))
    after_others = train(recipe(folder, "third"))
    alone = train(recipe(folder, "alone"), ranks=1)
    for now, earlier in zip(process_state(), before, strict=True):
        assert now == earlier
    assert losses(after_others) == losses(alone)
    assert len(losses(other)) == 2
    assert after_others.finished
    assert after_others.scores == alone.scores != after_others.scores_before
    assert after_others.load().encode(["moktin"]).shape == (1, 32)
    # What the failed one has left does not stand in the way. A callback sees every step, and stops the run by a word.
    seen = Seen()
    again = train(recipe(folder, "failing", **{"training.steps": 3}), callbacks=[seen])
    assert seen.steps == [1, 2]
    assert again.finished
    assert len(losses(again)) == 2
    assert losses(again)[0] == losses(alone)[0]
    with pytest.raises(ValueError, match=r"^callbacks: got 1 with ranks 2"):
        train(recipe(folder, "x"), callbacks=[seen], ranks=2)


def test_a_trained_model_is_scored_and_mines_rows_in_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "home"))
    scores = evaluate(folder / "model", {"similar": PAIRS}, dims=[8])
    assert set(scores["similar"]) >= {"spearman", "spearman@8"}
    bank = mine(
        folder / "model", QUESTIONS, folder / "bank", candidates=4, corpus=[{"text": text(i, 6)} for i in range(40)]
    )
    assert (bank / "bank.json").is_file()
    intents = [{"text": text(i, 5), "label": f"label{i % 2}"} for i in range(24)]
    judged = {
        "corpus": [{"_id": f"d{i}", "title": "", "text": text(1000 + i, 6)} for i in range(8)],
        "queries": [{"_id": f"q{i}", "text": text(i, 4)} for i in range(8)],
        "qrels": [{"query-id": f"q{i}", "corpus-id": f"d{i}", "score": 1} for i in range(8)],
    }
    scores = evaluate(folder / "model", {"intents": {"train": intents, "test": intents}, "faq": judged})
    assert "accuracy" in scores["intents"]
    assert "ndcg_at_10" in scores["faq"]


def test_a_mistake_is_one_line_and_an_exception(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"^Recipe: training.steps: got the text \"2\", expected a whole number$"):
        recipe(folder, "x").__class__(**{**recipe(folder, "x").loaded.given, "training": {"steps": "2"}})
    with pytest.raises(ValueError, match=r"^changes: training.stepz: unknown key; did you mean steps"):
        recipe(folder, "x", **{"training.stepz": 2})
    with pytest.raises(ValueError, match=r"tasks.a.path: row 2: got a value that no file of rows can hold"):
        Recipe(name="x", tasks=[{"name": "a", "path": [{"query": "a"}, {"query": {1, 2}}]}])
    with pytest.raises(ValueError, match=r"evaluation.data: got rows in memory without a name"):
        Recipe(name="x", evaluation={"data": Dataset.from_list(PAIRS)})
    with pytest.raises(ValueError, match=r"^recipe: got int, expected a Recipe"):
        train(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^ranks: got 0"):
        train(recipe(folder, "x"), ranks=0)


class Scores(Callback):
    """Scores the starting model in the middle of a run."""

    def __init__(self, model: Path) -> None:
        self.model = model

    def on_step(self, step: int, metrics: Any) -> Any:
        evaluate(self.model, {"similar": PAIRS})


def test_a_second_call_while_one_runs_is_refused_and_the_next_one_is_not(folder: Path) -> None:
    """Its end took the group of the first along: the next checkpoint failed inside DeepSpeed."""
    with pytest.raises(ValueError, match=r"^harness: got a call of .* while another one runs in this process"):
        train(recipe(folder, "nested"), callbacks=[Scores(folder / "model")])
    assert "similar" in evaluate(folder / "model", {"similar": PAIRS})


def test_a_process_group_of_the_users_own_is_neither_used_nor_destroyed(folder: Path) -> None:
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        for call in (lambda: evaluate(folder / "model", {"similar": PAIRS}), lambda: train(recipe(folder, "grouped"))):
            with pytest.raises(ValueError, match=r"^torch.distributed: got a process group that this process has"):
                call()
            assert torch.distributed.is_initialized()
    finally:
        torch.distributed.destroy_process_group()


def test_equal_rows_are_the_same_file_and_other_rows_another(folder: Path) -> None:
    """The cache is keyed by files, so a copy of the rows under another name would be read and stored anew each time."""
    first, same = recipe(folder, "one"), recipe(folder, "one")
    assert first == same
    path = Path(str(first.config.tasks[0].path))
    assert path.name == "questions.jsonl"
    changed = {**first.loaded.given["tasks"][0], "path": [*QUESTIONS[1:], QUESTIONS[0]]}
    other = Recipe(**{**first.loaded.given, "tasks": [changed]})
    assert Path(str(other.config.tasks[0].path)).parent != path.parent
    pairs = Dataset.from_list(PAIRS)
    shuffled = pairs.shuffle(seed=1)  # rows behind an index
    stored = Recipe(
        **{**first.loaded.given, "tasks": [{**changed, "name": "p", "kind": "sts", "negatives": {}, "path": shuffled}]}
    )
    assert Dataset.from_parquet(str(stored.config.tasks[0].path), cache_dir=folder / "hf")["text1"] == shuffled["text1"]


def test_the_package_is_imported_without_anything_heavy() -> None:
    """`harness --help` and a mistake in a recipe answer at once."""
    code = "import sys, harness; harness.Recipe; sys.exit(any(m in sys.modules for m in ('torch', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", code], check=False, env=os.environ).returncode == 0
    assert set(harness.__all__) <= set(dir(harness))
    with pytest.raises(AttributeError, match="has no attribute 'trains'"):
        _ = harness.trains
