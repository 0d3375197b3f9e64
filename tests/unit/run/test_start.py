"""A run that is continued says what is not as it was."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from torch import nn
from transformers import LlamaConfig, LlamaModel

from harness.config import load_recipe
from harness.engine.checkpoint import Checkpoint
from harness.run import start
from harness.run.folder import RunFolder
from harness.run.start import has_dropout, load_checkpoint, warn_of_lost_records, warn_of_other_evaluation_data
from tests.tiny import make_recipe

FACT = {"name": "faq", "hash": "a", "prompts": {"query": "", "document": ""}, "counts": {}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ""),
        ({"name": "new", "hash": "b"}, ""),
        ({"hash": "b"}, "evaluation data faq: other files than at the run's earlier start"),
        ({"prompts": {"query": "q: ", "document": ""}}, "faq: other prompts than"),
        ({"hash": "b", "counts": {"own_documents": 1}}, "faq: other files and counts of what is left out than"),
    ],
)
def test_evaluation_data_that_changed_since_the_earlier_scores_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], words: str
) -> None:
    folder = RunFolder.of(load_recipe(str(make_recipe(tmp_path))).config)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(json.dumps({"evaluation_data": [FACT]}))
    warn_of_other_evaluation_data([{**FACT, **change}], folder)
    printed = " ".join(capsys.readouterr().err.split())
    assert words in printed
    assert bool(words) == bool(printed)


def test_rows_and_scores_that_the_files_have_lost_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RunFolder.of(load_recipe(str(make_recipe(tmp_path))).config)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text('{"step": 1}\n{"step": 4}\n')
    scores = [{"step": 0, "dataset": "faq", "metrics": {}}]
    (tmp_path / "run" / "evaluation.json").write_text(json.dumps(scores))
    warn_of_lost_records(folder, 4)
    printed = " ".join(capsys.readouterr().err.split())
    assert "got no rows of 2 of the 4 steps that are trained (the first: 2), expected one per step" in printed
    assert "evaluation.json" not in printed
    (tmp_path / "run" / "evaluation.json").unlink()
    (tmp_path / "run" / "metrics.jsonl").write_text('{"step": 1}\n')
    warn_of_lost_records(folder, 1)
    printed = " ".join(capsys.readouterr().err.split())
    assert "got no scores of the starting model" in printed
    assert "metrics.jsonl" not in printed


def test_dropout_is_on_by_the_recipes_rate_or_the_models_own() -> None:
    with_dropout = nn.Sequential(nn.Dropout(0.1))
    assert [has_dropout(with_dropout, rate) for rate in (None, 0.0, 0.2)] == [True, False, True]
    assert not has_dropout(nn.Sequential(nn.Dropout(0.0)), None)


def test_dropout_of_attention_that_has_no_module_of_its_own_is_on_too() -> None:
    sizes = {"vocab_size": 8, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 1, "num_key_value_heads": 1}
    models = [LlamaModel(LlamaConfig(**sizes, **heads, attention_dropout=rate)) for rate in (0.0, 0.1)]
    assert [has_dropout(model, None) for model in models] == [False, True]


@pytest.mark.parametrize("change", ["output=/proc/run", "data.cache=/proc/cache"])
def test_a_place_that_cannot_be_written_to_is_told_before_data_or_model_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setattr(start, "build_run", lambda *_: pytest.fail("began to read"))
    loaded = load_recipe(str(make_recipe(tmp_path)), [change])
    with pytest.raises(ValueError, match=rf"^{change.partition('=')[0]}: got /proc/.*cannot be written to"):
        start.start_or_continue(loaded, RunFolder.of(loaded.config))


@pytest.mark.parametrize(
    ("saved_by", "line"),
    [
        ((1, 1), ""),
        ((2, 1), "2 ranks at ZeRO stage 1 wrote the checkpoint, 1 rank at ZeRO stage 1 continue it"),
        ((1, 3), "1 rank at ZeRO stage 3 wrote the checkpoint, 1 rank at ZeRO stage 1 continue it"),
    ],
)
def test_other_ranks_and_another_stage_are_said_when_a_checkpoint_is_continued(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    saved_by: tuple[int, int],
    line: str,
) -> None:
    monkeypatch.setattr(RunFolder, "go_on_from", lambda *_: None)
    loaded: list[Any] = []
    engine = SimpleNamespace(load=lambda *arguments: loaded.append(arguments), stage=1)
    config = load_recipe(str(make_recipe(tmp_path))).config
    run = SimpleNamespace(engine=engine, negatives=SimpleNamespace(load_state=lambda arrays: None), config=config)
    np.savez(tmp_path / "arrays.npz")
    state = {"step": 2, "world_size": saved_by[0], "zero_stage": saved_by[1]}
    load_checkpoint(run, RunFolder.of(config), Checkpoint(tmp_path, state))  # type: ignore[arg-type]
    assert loaded == [(tmp_path, saved_by)]
    said = capsys.readouterr().out
    assert line in said
    assert ("divided anew" in said) == bool(line)
