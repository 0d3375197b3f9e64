"""`harness export --average` writes the mean of checkpoints' weights, and says how it scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from harness.cli.evaluate import evaluate_model
from harness.cli.export import export_run
from tests.integration.test_resume import train
from tests.ranks import run_ranks
from tests.tiny import text, write_jsonl

pytestmark = pytest.mark.distributed
SETTINGS = ("training.steps=6", "training.learning_rate=0.003", "checkpoint.every=2", "checkpoint.keep=3")


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    """A run that keeps the checkpoints of steps 2, 4 and 6."""
    run_ranks(1, train, str(folder), "averaged", (*SETTINGS, "evaluation.every=6"))
    return folder / "averaged"


def weights_of(run: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / f"step-{step:08d}" / "model" / "model.safetensors")


def mean_of(run: Path, *steps: int) -> dict[str, np.ndarray]:
    states = [weights_of(run, step) for step in steps]
    return {name: np.mean([state[name].double().numpy() for state in states], axis=0) for name in states[0]}


def assert_holds(model: Path, expected: dict[str, np.ndarray]) -> None:
    found = load_file(model / "model.safetensors")
    assert sorted(found) == sorted(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name].numpy(), values, rtol=1e-5, atol=1e-7)


def test_the_newest_checkpoints_are_averaged_reloaded_and_scored_on_the_runs_own_data(run, tmp_path, capsys) -> None:
    export_run(run, tmp_path / "model", average="last:2")
    said = capsys.readouterr().out
    assert_holds(tmp_path / "model", mean_of(run, 4, 6))
    assert "averaged: the mean of the float32 weights after steps 4, 6 (last:2)" in said
    assert "before: step 6 alone; after: the average" in said
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "## Averaged weights" in card
    assert "step 6" in card
    score = evaluate_model(str(tmp_path / "model"), [str(run.parent / "faq")], max_length=24)["faq"]["ndcg_at_10"]
    assert f"{score:.4f}" in card.split("## Averaged weights")[1]


def test_greedy_takes_what_raises_the_score_of_the_named_data(run, tmp_path, capsys) -> None:
    """The choice is made again here, by averaging and evaluating by hand."""
    from harness.cli.parts.opened_model import open_model
    from harness.evaluation.runner import evaluate, load
    from harness.prompts import PromptChoice

    data = str(run.parent / "sts" / "test.jsonl")
    export_run(run, tmp_path / "model", average="greedy", data=[data])
    opened = open_model(str(run), None, None, "fp32")
    loaded = load([data])

    def score(*steps: int) -> float:
        opened.encoder.load_state_dict(
            {
                name: torch.from_numpy(values).float()
                for name, values in _as_encoder(mean_of(run, *steps), opened.encoder.state_dict()).items()
            }
        )
        return evaluate(opened.encode, loaded.with_prompts(opened.model_prompts, [PromptChoice()]))["sts"]["spearman"]

    order = sorted((2, 4, 6), key=lambda step: (-score(step), -step))
    kept, best = [order[0]], score(order[0])
    for step in order[1:]:
        now = score(*kept, step)
        if now >= best:
            kept, best = [*kept, step], now
    assert_holds(tmp_path / "model", mean_of(run, *kept))
    assert f"{best:.4f}" in (tmp_path / "model" / "README.md").read_text(encoding="utf-8")


def test_greedy_with_data_that_scores_no_checkpoint_is_refused(run, tmp_path) -> None:
    """Of unknown scores none is worse than another: all checkpoints would be averaged, whatever the other data says."""
    pairs = [{"text1": text(i), "text2": text(i), "score": float(i % 3)} for i in range(8)]  # every cosine is 1
    same = write_jsonl(tmp_path / "same.jsonl", pairs)
    problem = r"^--average: got greedy, but no checkpoint of .*averaged has a score of same/spearman \("
    with pytest.raises(ValueError, match=problem) as raised:
        export_run(run, tmp_path / "model", average="greedy", data=[str(same), str(run.parent / "faq")])
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "model").exists()


def _as_encoder(weights: dict[str, np.ndarray], state: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: weights[name.removeprefix("backbone.")] for name in state}


@pytest.mark.parametrize(
    ("average", "more", "problem"),
    [
        ("last:4", {}, r"keeps 3 checkpoints \(2, 4, 6\), expected at least 4; train with checkpoint\.keep: 4"),
        ("last:2", {"step": 4}, r"--step: got 4 with --average last:2, expected one of them"),
        ("mean", {}, r"--average: got mean, expected last:N"),
    ],
)
def test_what_cannot_be_averaged_costs_a_line(run, tmp_path, average, more, problem) -> None:
    with pytest.raises(ValueError, match=problem) as raised:
        export_run(run, tmp_path / "model", average=average, **more)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "model").exists()


def test_a_run_that_keeps_an_average_is_not_averaged_again(run, tmp_path, monkeypatch) -> None:
    recipe = (run / "recipe.yaml").read_text()
    assert "ema: null" in recipe
    try:
        (run / "recipe.yaml").write_text(recipe.replace("ema: null", "ema: 0.99"))
        with pytest.raises(ValueError, match=r"training\.ema 0\.99, whose checkpoints hold averages already"):
            export_run(run, tmp_path / "model", average="last:2")
    finally:
        (run / "recipe.yaml").write_text(recipe)


def test_adapters_are_merged_before_they_are_averaged(folder, tmp_path) -> None:
    """The product of two means is not the mean of the products."""
    lora = ("model.lora={rank: 4}", "evaluation={}", "training.steps=4", "checkpoint.every=2", "checkpoint.keep=2")
    run_ranks(1, train, str(folder), "adapter_run", (*lora, "training.learning_rate=0.01"))
    run = folder / "adapter_run"
    for step in (2, 4):
        export_run(run, tmp_path / str(step), step=step)
    export_run(run, tmp_path / "model", average="last:2")
    merged = [load_file(tmp_path / str(step) / "model.safetensors") for step in (2, 4)]
    expected = {name: np.mean([state[name].double().numpy() for state in merged], axis=0) for name in merged[0]}
    assert_holds(tmp_path / "model", expected)
    assert not any("lora" in name for name in expected)
