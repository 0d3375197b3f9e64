"""The comparison with sentence-transformers: both sides use the same rows in the same order; the verdict can fail."""

from __future__ import annotations

import gzip
import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

from benchmarks.peers.benchmark import judge, median_of_other, write_pairs
from benchmarks.peers.commands import CommandResult
from benchmarks.peers.sides import Settings, Side, train_ours, train_theirs
from tests.ranks import run_ranks
from tests.tiny import make_model, text

PAIRS = 24


def settings_in(folder: Path, *, batch: int = 8, steps: int = 3) -> Settings:
    return Settings(folder, str(folder / "model"), batch, steps, "fp32", None)


def make_model_of_128_positions(folder: Path) -> None:
    """The tiny model with as many positions as the recipe's longest text has tokens."""
    config = BertConfig.from_pretrained(make_model(folder, dropout=0.1), max_position_embeddings=128)
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)


def source_in(folder: Path) -> Path:
    path = folder / "train.jsonl.gz"
    pairs = [{"query": text(i, 2 + i % 5), "positive": text(1000 + i, 4 + i % 9)} for i in range(PAIRS)]
    with gzip.open(path, "wt", encoding="utf-8") as stream:
        stream.writelines(json.dumps(pair) + "\n" for pair in pairs)
    return path


def side(losses: list[float], learning_rates: list[float] | None = None) -> Side:
    rates = learning_rates or [1e-5] * len(losses)
    return Side(losses, [1.0] * len(losses), rates, 1.0, 1.0, 1, 1, {})


@pytest.mark.skipif(find_spec("accelerate") is None, reason="sentence-transformers' Trainer needs accelerate")
def test_both_sides_give_the_same_losses_on_the_same_rows(tmp_path: Path) -> None:
    """The model folder has dropout 0.1. With dropout, or with rows in another order, the losses would differ."""
    make_model_of_128_positions(tmp_path / "model")
    settings = settings_in(tmp_path)
    write_pairs(source_in(tmp_path), PAIRS, settings)
    ((ours, plan),) = run_ranks(1, train_ours, settings)
    (theirs,) = run_ranks(1, train_theirs, settings, plan.rows)
    assert sorted(row for step in plan.rows for row in step) == list(range(PAIRS))
    assert plan.rows[0] != list(range(8)), "rows in the file's order would prove nothing"
    assert plan.masked_pairs == plan.repeated_documents == [0, 0, 0]
    assert ours.losses == pytest.approx(theirs.losses, rel=1e-4)
    assert ours.gradient_norms == pytest.approx(theirs.gradient_norms, rel=1e-3)
    assert len(set(ours.losses)) == 3


def test_of_another_trainer_the_median_round_counts_unless_a_round_failed() -> None:
    rounds = [CommandResult(speed, 1) for speed in (9.0, 5.0, 7.0)]
    assert median_of_other(rounds) == rounds[2]
    assert median_of_other([*rounds, CommandResult(problem="killed")]).problem == "killed"


def test_a_step_beyond_the_bound_fails_the_comparison() -> None:
    assert judge(side([1.0, 2.03]), side([1.0, 2.0]))["failed_steps"] == []
    assert judge(side([1.0, 2.05]), side([1.0, 2.0]))["failed_steps"] == [2]


def test_a_loss_that_is_not_a_number_fails_the_comparison() -> None:
    assert judge(side([float("nan"), 2.0]), side([1.0, 2.0]))["failed_steps"] == [1]


def test_curves_of_different_learning_rates_are_not_compared() -> None:
    with pytest.raises(ValueError, match=r"learning rates: got \[2e-05\] on our side"):
        judge(side([1.0], [2e-5]), side([1.0], [1e-5]))


def test_curves_of_different_lengths_are_not_compared() -> None:
    with pytest.raises(ValueError, match="argument 2 is longer"):
        judge(side([1.0]), side([1.0, 2.0]))


def test_more_than_one_epoch_is_refused(tmp_path: Path) -> None:
    """After one epoch a step may hold a pair twice, which the two sides count differently."""
    with pytest.raises(ValueError, match="at most one epoch of 24 pairs"):
        write_pairs(source_in(tmp_path), PAIRS, settings_in(tmp_path, steps=4))


def test_more_pairs_than_the_file_has_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--pairs: got 25, expected at most the 24 rows"):
        write_pairs(source_in(tmp_path), PAIRS + 1, settings_in(tmp_path))
