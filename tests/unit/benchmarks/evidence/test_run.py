"""Runs of the evidence: the starting model, scores per query, and a run that is stopped and goes on."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from transformers import AutoModel

from benchmarks.evidence import benchmark, score
from benchmarks.evidence.arms import CURVE, SIZES
from benchmarks.evidence.benchmark import Experiment
from benchmarks.evidence.inputs.start import starting_model, write_cut_model
from benchmarks.evidence.plan import Planned
from benchmarks.evidence.recipes import Place, Run, recipe
from benchmarks.runner.command_line import write_json
from benchmarks.runner.data import write_beir, write_rows
from benchmarks.runner.process import StoppedError, stops_its_commands
from harness.cli.parts.opened_model import open_model
from harness.evaluation.runner import evaluate, load
from tests.tiny import make_model, text

SIZE = replace(SIZES["tiny"], curve_steps=120, most_steps=4, least_steps=4)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("start") / "model")


def test_a_cut_model_has_the_first_layers_and_a_fresh_one_only_their_embeddings(model: Path, tmp_path: Path) -> None:
    whole = AutoModel.from_pretrained(model)
    for name, fresh in (("cut", False), ("fresh", True), ("again", True)):
        write_cut_model(model, tmp_path / name, 1, fresh=fresh)
    cut, fresh_model, again = (AutoModel.from_pretrained(tmp_path / name) for name in ("cut", "fresh", "again"))
    assert cut.config.num_hidden_layers == fresh_model.config.num_hidden_layers == 1
    weights, old, new = (dict(m.named_parameters()) for m in (whole, cut, fresh_model))
    for name in old:
        assert torch.equal(old[name], weights[name])
        is_matrix_of_layer = name.startswith("encoder.") and weights[name].dim() == 2
        assert torch.equal(new[name], weights[name]) != is_matrix_of_layer or name.startswith("pooler")
    assert all(torch.equal(a, b) for a, b in zip(fresh_model.parameters(), again.parameters(), strict=True))
    assert (tmp_path / "cut" / "tokenizer.json").exists()


def test_a_name_that_is_no_cut_is_a_model_of_the_users_own(tmp_path: Path) -> None:
    assert starting_model("some/model", tmp_path) == "some/model"
    assert not list(tmp_path.iterdir())


def write_docstrings(root: Path, place: Place) -> None:
    rows = [{"query": text(i, 4), "positive": [text(100 + i, 8)], "negative": []} for i in range(12)]
    write_rows(place.data / "train" / "docstrings.jsonl", rows)
    for part in ("dev", "test"):
        documents = {f"d{i}": text(200 + i, 8) for i in range(12)}
        write_beir(
            place.data / part / f"docstrings_{part}",
            {f"q{i}": text(300 + i, 3) for i in range(6)},
            documents,
            {f"q{i}": {f"d{i}": 1} for i in range(6)},
        )


@pytest.fixture
def experiment(model: Path, tmp_path: Path) -> Experiment:
    place = Place(tmp_path / "root", tmp_path / "out", str(model))
    write_docstrings(place.root, place)
    return Experiment(SIZE, place, 6, 3)


def test_the_scores_of_each_query_have_the_harness_s_score_as_their_mean(experiment: Experiment) -> None:
    folder = str(experiment.place.data / "test" / "docstrings_test")
    encode = open_model(experiment.place.start, 16, None, "fp32").encode
    found = score.scores_of(encode, load([folder]))
    assert len(found["values"]) == 6
    assert found["score"] == pytest.approx(evaluate(encode, [folder])["docstrings_test"]["ndcg_at_10"], abs=1e-12)
    assert 0 < found["score"] < 1


def test_texts_and_pairs_have_values_of_their_own_with_the_harness_s_score_as_their_mean(
    experiment: Experiment, tmp_path: Path
) -> None:
    """Without them a bootstrap would draw three seeds alone."""
    for part, first in (("train", 0), ("test", 30)):
        rows = [{"text": text(first + i), "label": f"label{i % 2}"} for i in range(20)]
        write_rows(tmp_path / "intents" / f"{part}.jsonl", rows)
    write_rows(
        tmp_path / "pairs.jsonl", [{"text1": text(i), "text2": text(i + i % 3), "score": i % 3} for i in range(9)]
    )
    encode = open_model(experiment.place.start, 16, None, "fp32").encode
    for path, metric, count in ((tmp_path / "intents", "accuracy", 20), (tmp_path / "pairs.jsonl", "spearman", 9)):
        found = score.scores_of(encode, load([str(path)]))
        (expected,) = evaluate(encode, [str(path)]).values()
        assert (found["metric"], len(found["values"])) == (metric, count)
        assert found["score"] == pytest.approx(expected[metric], abs=1e-12)
        assert len(set(found["values"])) > 1


def test_drawing_pseudo_values_gives_the_spread_that_drawing_pairs_gives_the_correlation() -> None:
    rng = np.random.default_rng(0)
    first_S = rng.normal(size=150)
    second_S = np.round(2 * (0.8 * first_S + 0.6 * rng.normal(size=150)))  # with ties, as graded pairs have
    value_S = score.pseudo_values(first_S, second_S)
    assert value_S.mean() == pytest.approx(spearmanr(first_S, second_S).statistic, abs=1e-12)
    drawn = rng.integers(0, 150, (400, 150))
    spread = np.std([spearmanr(first_S[pairs], second_S[pairs]).statistic for pairs in drawn])
    assert np.std(value_S[drawn].mean(axis=1)) == pytest.approx(spread, rel=0.15)


def test_a_run_that_sigterm_stops_goes_on_from_there_and_is_recorded_once(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real training in a process of its own, stopped by the signal that the benchmark gets."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    run = Run(CURVE, 1e-3, 0)
    folder, planned = experiment.place.run_folder(run), [Planned(run, tested=False)]

    def stop_after_some_steps() -> None:
        metrics = folder / "metrics.jsonl"
        for _ in range(6000):  # a busy machine takes minutes to start a run
            if metrics.exists() and len(metrics.read_text().splitlines()) > 3:
                break
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop_after_some_steps).start()
    with stops_its_commands(), pytest.raises(StoppedError):
        experiment.run(planned, jobs=1)
    assert not experiment.results.trained_file(run).exists()
    stopped_at = len((folder / "metrics.jsonl").read_text().splitlines())
    assert 3 < stopped_at < SIZE.curve_steps

    with stops_its_commands():
        experiment.run(planned, jobs=1)
    assert json.loads((folder / "run.json").read_text())["resumed_from"] == stopped_at
    trained = experiment.results.trained(run)
    assert trained is not None
    assert trained.steps == SIZE.curve_steps
    assert trained.dev[0]["docstrings_dev"] > 0
    assert not (folder / "checkpoints").exists()


def test_the_runs_left_are_those_of_the_parts_that_are_asked_for(experiment: Experiment) -> None:
    """`--part mixture` after the negatives said "51 of 20 runs trained"."""
    about = {"arm": "static", "rate": SIZE.rates[0], "seed": 0, "seconds": 7200.0, "dev": {}}
    write_json(experiment.results.trained_file(Run("static", SIZE.rates[0], 0)), about)
    assert experiment.progress().startswith("1 of 3 runs trained, the others have about 4.0 hours")
    assert replace(experiment, parts=("mixture",)).progress().startswith("0 of 3 runs trained")


def test_an_arm_has_as_many_queries_as_make_the_tokens_of_another(experiment: Experiment) -> None:
    for arm, tokens in (("in_batch", 7391), ("static", 5064)):
        run = Run(arm, SIZE.rates[0], 0)
        folder = experiment.place.run_folder(run)
        folder.mkdir(parents=True)
        (folder / "recipe.yaml").write_text(json.dumps(recipe(run, SIZE, 4, 97, experiment.place)))
        steps = [{"step": step, "num_tokens": tokens + of_step} for step, of_step in ((1, 9), (2, -9))]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in steps))
    whole = replace(experiment, in_batch_quota=97)
    assert whole.quota_without_negatives("in_batch_as_static") == round(97 * 5064 / 7391) == 66
    assert whole.quota_without_negatives("in_batch") == whole.quota_without_negatives("cbb") == 97


def test_finished_work_is_not_repeated_and_a_tested_run_leaves_no_model(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def train(_: str, recipe: Path) -> None:
        seen.append(recipe.stem)
        folder = experiment.place.out / "runs" / recipe.stem
        (folder / "model").mkdir(parents=True)
        (folder / "recipe.yaml").write_text(recipe.read_text())
        (folder / "metrics.jsonl").write_text('{"step": 1, "seconds": 2.5}\n')
        entry = {"step": 4, "dataset": "docstrings_dev", "metrics": {"ndcg_at_10": 0.5, "map_at_10": 0.4}}
        (folder / "evaluation.json").write_text(json.dumps([entry]))

    def test(module: str, _: str, file: Path, *rest: Any) -> None:
        seen.append(file.stem)
        file.parent.mkdir(parents=True)
        file.write_text('{"datasets": {}}')

    monkeypatch.setattr(benchmark, "harness", train)
    monkeypatch.setattr(benchmark, "run_module", test)
    run = Run("in_batch", 1e-3, 0)
    for tested in (False, False, True, True):
        experiment.run([Planned(run, tested)], jobs=1)
    assert seen == ["in_batch-0.001-0"] * 2  # trained once, tested once
    trained = experiment.results.trained(run)
    assert trained is not None
    assert (trained.dev_score(), trained.seconds) == (0.5, 2.5)
    assert not (experiment.place.run_folder(run) / "model").exists()
