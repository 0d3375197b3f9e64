"""What is asked of mteb is found or refused in one line; prompts, averages and random numbers are as they should be."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.cli.parts.mteb_options import mteb_request
from harness.evaluation.mteb import available
from harness.evaluation.mteb.available import require_mteb, unchanged_process
from harness.evaluation.mteb.outcome import Outcome, TaskScores, average
from harness.evaluation.mteb.prompts import TaskPrompts, check_template, read_prompts
from harness.evaluation.mteb.published import _DATA_SETS, CONAN_V1, compared_with_conan, missing_data_sets
from harness.evaluation.mteb.select import Selection, selected_tasks
from harness.prompts import ModelPrompts, PromptChoice
from tests.unit.evaluation.mteb.conftest import TASKS


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (Selection(tasks=("STS13x",)), "--tasks: got STS13x, expected the name of a task .*; did you mean STS13?"),
        (Selection(benchmark="MTEB(cmn,v1)"), r"--benchmark: got 'MTEB\(cmn,v1\)', .*; did you mean MTEB\(cmn, v1\)?"),
        (Selection(tasks=("STS12",), languages=("xx",)), "--language: got xx, expected the three letters of ISO 639-3"),
        (Selection(tasks=("STS12",), languages=("cmn",)), "--language: got cmn, but STS12 has eng-Latn; leave it out"),
        (Selection(benchmark="MTEB(cmn, v1)", languages=("fra",)), "--language: got fra, which no task of MTEB"),
        (Selection(tasks=("CIFAR10ZeroShot",)), "--tasks: got CIFAR10ZeroShot, a task of .* expected one of texts"),
        (Selection(task_file=Path("nothing.py")), "--task-file: got nothing.py, expected a Python file"),
        (Selection(task_file=Path(__file__)), "--task-file: got .*test_parts.py, which defines no task"),
    ],
)  # fmt: skip
def test_a_mistake_in_what_is_asked_of_mteb_is_one_line(selection: Selection, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        selected_tasks(selection)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "positional", "message"),
    [
        ({}, [], "DATA: got nothing, expected files or folders"),
        ({"revision": "x"}, ["a"], "--revision: is for mteb, expected --benchmark or --tasks, too"),
        ({"template": "x"}, [], "--instruction-template: is for mteb"),
        ({"languages": ["eng"]}, ["a"], "--language: is for mteb"),
        ({"benchmark": "b"}, ["data"], "DATA: got data beside tasks of mteb"),
        ({"tasks": ["STS12"]}, ["my/data"], "--tasks: got my/data, a path"),
    ],
)
def test_options_of_mteb_and_data_of_ones_own_are_not_mixed(
    given: dict[str, Any], positional: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        mteb_request(given, positional, None, ignore_identical_ids=False)


def test_names_after_the_first_task_are_tasks_too() -> None:
    request = mteb_request({"tasks": ["T2Retrieval"]}, ["STS12"], None, ignore_identical_ids=False)
    assert request == {"tasks": ("T2Retrieval", "STS12"), "data": None}
    assert mteb_request({}, ["data"], None, ignore_identical_ids=True) is None


def test_without_mteb_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    require_mteb("--tasks")
    monkeypatch.setattr(available, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"--tasks: needs the package mteb, which is not installed; pip install"):
        require_mteb("--tasks")
    monkeypatch.setattr(available, "find_spec", importlib.util.find_spec)
    monkeypatch.setattr(available, "version", lambda name: "1.39.7")
    with pytest.raises(ValueError, match=r"got mteb 1.39.7, expected mteb 2.26 or later"):
        require_mteb("--tasks")


@pytest.mark.parametrize("draw", [random.random, np.random.random, lambda: float(torch.rand(()))])
def test_a_run_draws_the_same_with_and_without_mteb(draw: Callable[[], float]) -> None:
    """mteb sets the seeds of the whole process when it makes a task."""
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    draw()
    expected = draw()
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    draw()
    with unchanged_process():
        (task,) = selected_tasks(Selection(tasks=("STS12",)))
    assert draw() == expected
    assert task.metadata.name == "STS12"


STORED = ModelPrompts(
    {"query": "Q ", "passage": "P ", "STS": "S ", "TinyReranking-query": "R ", "other": "O "}, "other"
)


def test_prompts_are_looked_up_by_mtebs_names_and_then_by_our_roles() -> None:
    """`passage` is what e5 calls documents; mteb knows only `document`, and would put nothing before them."""
    tasks = {task.metadata.name: task.metadata for task in selected_tasks(Selection(task_file=TASKS))}
    stored = {name: TaskPrompts(STORED).of_task(task) for name, task in tasks.items()}
    assert stored["TinyRetrieval"] == {"query": "Q ", "document": "P "}
    assert stored["TinyReranking"] == {"query": "R ", "document": "P "}
    assert (stored["TinySTS"], stored["TinyPairs"]) == ({"sentence": "S "}, {"sentence": "O "})
    given = TaskPrompts(STORED, given={"Retrieval-document": "D ", "TinySTS": ""})
    assert given.of_task(tasks["TinyRetrieval"]) == {"query": "Q ", "document": "D "}
    assert given.of_task(tasks["TinySTS"]) == {"sentence": ""}
    chosen = TaskPrompts(STORED, PromptChoice("q: ", "d: "))
    assert chosen.of_task(tasks["TinyRetrieval"]) == {"query": "q: ", "document": "d: "}
    assert chosen.of_task(tasks["TinySTS"]) == {"sentence": "q: "}
    told = TaskPrompts(STORED, template="Instruct: {instruction}\nQuery: ", instructions={"TinyRetrieval": "Find it."})
    assert told.of_task(tasks["TinyRetrieval"]) == {"query": "Instruct: Find it.\nQuery: ", "document": "P "}


def test_a_name_of_prompts_that_means_nothing_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "prompts.yaml"
    file.write_text("{query: 'q: ', TinySTS: 's: ', Retrieval-document: ''}")
    assert read_prompts(file, ["TinySTS"]) == {"query": "q: ", "TinySTS": "s: ", "Retrieval-document": ""}
    file.write_text("{sentence: 'q: '}")
    with pytest.raises(ValueError, match="got the name sentence, expected query, document, a type of task"):
        read_prompts(file, ["TinySTS"])


def test_prompts_and_templates_with_what_would_stand_there_as_it_is_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "prompts.yaml"
    for prompt, message in (("'Instruct: x\\nQuery: '", "got a backslash"), ("'{text}'", "got the place {text}")):
        file.write_text(f"{{query: {prompt}}}")
        with pytest.raises(ValueError, match=f"query: {message}"):
            read_prompts(file, ["TinySTS"])
    with pytest.raises(ValueError, match="--instruction-template: got a backslash and the letter n"):
        check_template("Instruct: {instruction}\\nQuery: ")
    check_template("Instruct: {instruction}\nQuery: ")


def scores_of(name: str, kind: str, by_split: dict[str, Any], score: float | None = 0.5) -> TaskScores:
    return TaskScores(name, kind, "main", score, by_split, {})


def test_an_average_is_unknown_unless_every_task_has_a_score() -> None:
    assert average("a", [0.5, 0.7]).score == pytest.approx(0.6)
    assert (average("a", [0.5, None]).score, average("a", [0.5, None]).scored) == (None, 1)
    assert average("a", [0.5], 2).score is None
    assert average("a", []).score is None


def test_only_categories_with_all_their_data_sets_stand_beside_the_published_numbers() -> None:
    """Pairs are compared by the average precision of the cosine, as C-MTEB reports them, not by mteb 2's accuracy."""
    pairs = {"validation": [{"hf_subset": "default", "main_score": 0.9, "max_accuracy": 0.9, "cosine_ap": 0.8}]}
    sts = {"test": [{"hf_subset": "default", "cosine_spearman": 0.5}]}
    tasks = [scores_of("Ocnli", "PairClassification", pairs), scores_of("Cmnli", "PairClassification", pairs)]
    tasks += [scores_of(name, "STS", sts) for name, _ in _DATA_SETS["STS"][:-1]]
    rows = {row.ours.name: row for row in compared_with_conan(Outcome(tasks))}
    assert rows["PairClassification"].ours.score == pytest.approx(80.0)
    assert rows["PairClassification"].difference == pytest.approx(80.0 - 91.66)
    assert (rows["STS"].ours.score, rows["STS"].ours.scored, rows["STS"].ours.total) == (None, 7, 8)
    assert (rows["all tasks"].ours.scored, rows["all tasks"].ours.total) == (9, 35)
    assert "STS22" in missing_data_sets(Outcome(tasks))
    subsets = {"test": [{"hf_subset": "en", "cosine_spearman": 0.1}, {"hf_subset": "zh", "cosine_spearman": 0.7}]}
    rows = {row.ours.name: row for row in compared_with_conan(Outcome([*tasks, scores_of("STS22", "STS", subsets)]))}
    assert rows["STS"].ours.score == pytest.approx(100 * (7 * 0.5 + 0.7) / 8)


def test_the_published_averages_are_those_of_35_data_sets_that_mteb_knows() -> None:
    """arXiv 2408.15710: the average over all is the mean over the data sets, weighted by their number."""
    sizes = {kind: len(sets) for kind, sets in _DATA_SETS.items()}
    assert sum(sizes.values()) == 35
    assert sum(CONAN_V1[kind] * size for kind, size in sizes.items()) / 35 == pytest.approx(72.62, abs=0.01)
    names = tuple(name for sets in _DATA_SETS.values() for name, _ in sets)
    tasks = {task.metadata.name: task for task in selected_tasks(Selection(tasks=names))}
    for sets in _DATA_SETS.values():
        for name, subset in sets:
            assert subset is None or subset in tasks[name].metadata.hf_subsets
