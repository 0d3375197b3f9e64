"""The recipe finetune starts from the model that the recipe pretrain writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config import load_recipe
from harness.data.table.tokenisation import Tokeniser


def test_finetune_starts_from_the_model_that_pretrain_writes() -> None:
    first, second = (load_recipe(name).config for name in ("pretrain", "finetune"))
    assert second.model.name_or_path == f"{first.output}/model"
    assert second.model.pooling == first.model.pooling


def test_pretrain_has_in_batch_negatives_only_and_finetune_all_kinds_with_replacement() -> None:
    first, second = (load_recipe(name).config for name in ("pretrain", "finetune"))
    assert {(task.kind, task.scope, task.negatives.per_query) for task in first.tasks} == {("retrieval", "task", 0)}
    assert {task.kind for task in second.tasks} == {"retrieval", "sts", "classification"}
    assert second.loss.balance == "cbb"
    assert (first.mining.rule, second.mining.rule) == ("none", "v1")


def test_a_run_that_has_not_ended_yet_is_named_with_what_makes_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    expected = r"model.name_or_path: got runs/pretrain/model, .* output is runs/pretrain .*\(\./launch\.sh pretrain\)"
    with pytest.raises(ValueError, match=expected):
        Tokeniser("runs/pretrain/model")
