"""A run killed with SIGKILL at any moment and continued equals the uninterrupted run, bit for bit."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from harness.engine.checkpoint import read_arrays
from tests.ranks import leave_out_report, run_ranks
from tests.tiny import text, write_jsonl

pytestmark = pytest.mark.distributed

MINING = ("negative_similarity_start", "negatives_replaced", "negatives_exhausted", "false_negatives_masked")
# These columns depend on the machine.
MEASURED = ("seconds", "texts_per_second", "tokens_per_second", "memory", "graphs_kept")


def train(folder: str, output: str, settings: tuple[str, ...] = (), kill: str = "") -> None:
    """Runs on a rank: train, and kill every rank at the place that `kill` names."""
    import torch

    from harness.config import load_recipe
    from harness.engine.checkpoint import Checkpoints
    from harness.engine.zero import ZeroEngine
    from harness.trainer import train as run_training

    torch.set_num_threads(1)
    leave_out_report()
    if kill:
        _arm(kill, Checkpoints, ZeroEngine)
    changes = [f"output={folder}/{output}", *settings]
    run_training(load_recipe(f"{folder}/tiny.yaml", changes))


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _arm(kill: str, checkpoints: type, engine: type) -> None:
    from harness import comm

    place, step = kill.rsplit(" ", 1)
    name = f"step-{int(step):08d}"
    if place == "inside a save at":  # half of DeepSpeed's files are written

        def save(self, folder, original=engine.save):
            original(self, folder)
            if name in str(folder):
                for path in Path(folder).rglob("*.pt"):
                    os.truncate(path, path.stat().st_size // 2)
                _die()

        engine.save = save
    elif place == "after a save at":  # before `latest` points to the new checkpoint

        def point(self, pointer, target, original=checkpoints._point):
            if target == name:
                _die()
            original(self, pointer, target)

        checkpoints._point = point
    elif place == "after the last save at":  # before the model is exported

        def save_all(self, engine_, number, *rest, original=checkpoints.save, **options):
            folder = original(self, engine_, number, *rest, **options)
            if number == int(step):
                comm.barrier()
                _die()
            return folder

        checkpoints.save = save_all
    elif place == "while pruning at":

        def prune(self, original=checkpoints._prune):
            original(self)
            if (self.folder / name).exists():
                _die()

        checkpoints._prune = prune
    elif place == "after step":
        steps = [0]

        def step_(self, rate, original=engine.update_weights):
            norm = original(self, rate)
            steps[0] += 1
            if steps[0] == int(step):
                comm.barrier()
                _die()
            return norm

        engine.update_weights = step_


def outcome(run: Path) -> tuple[list[dict], list[dict], bytes]:
    """Everything that a run leaves and that must not depend on an interruption."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows = [{key: value for key, value in row.items() if not key.startswith(MEASURED)} for row in rows]
    return rows, json.loads((run / "evaluation.json").read_text()), (run / "model" / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def uninterrupted(folder):
    run_ranks(2, train, str(folder), "whole")
    return outcome(folder / "whole")


@pytest.mark.parametrize(
    ("kill", "resumed_from"),
    [
        ("after step 1", 0),
        ("after step 3", 2),
        ("inside a save at 4", 2),
        ("after a save at 4", 4),
        ("while pruning at 4", 4),
        ("after the last save at 6", 6),
    ],
)
def test_a_killed_and_continued_run_equals_the_uninterrupted_one_bit_for_bit(folder, uninterrupted, kill, resumed_from):
    output = kill.replace(" ", "_")
    with pytest.raises(AssertionError, match="no result"):
        run_ranks(2, train, str(folder), output, (), kill)
    assert not (folder / output / "model").exists()
    run_ranks(2, train, str(folder), output)
    assert json.loads((folder / output / "run.json").read_text())["resumed_from"] == resumed_from
    found, expected = outcome(folder / output), uninterrupted
    assert found[0] == expected[0]
    assert found[1] == expected[1]
    assert found[2] == expected[2]


def test_dropout_is_on_in_these_runs(folder):
    """Otherwise bit equality would not test the random numbers."""
    config = json.loads((folder / "model" / "config.json").read_text())
    assert config["hidden_dropout_prob"] > 0


def test_a_truncated_checkpoint_is_passed_over_and_the_one_before_it_gives_the_same_run(folder, uninterrupted):
    with pytest.raises(AssertionError, match="no result"):
        run_ranks(2, train, str(folder), "truncated", (), "after step 5")
    newest = folder / "truncated" / "checkpoints" / "step-00000004"
    weights = next(newest.rglob("*optim_states.pt"))
    os.truncate(weights, weights.stat().st_size - 1)
    run_ranks(2, train, str(folder), "truncated")
    assert json.loads((folder / "truncated" / "run.json").read_text())["resumed_from"] == 2
    assert outcome(folder / "truncated") == uninterrupted


@pytest.mark.parametrize(
    "settings",
    [
        ("deepspeed=zero0",),
        ("deepspeed=zero2",),
        ("deepspeed=zero3",),
        ("training.precision=bf16",),
        ("training.precision=bf16_weights",),
    ],
    ids=lambda settings: settings[0],
)
def test_every_stage_and_precision_continues_bit_for_bit_and_exports(folder, settings):
    whole, killed = (f"{name}_{settings[0]}" for name in ("whole", "killed"))
    run_ranks(2, train, str(folder), whole, settings)
    with pytest.raises(AssertionError, match="no result"):
        run_ranks(2, train, str(folder), killed, settings, "after step 3")
    run_ranks(2, train, str(folder), killed, settings)
    assert json.loads((folder / killed / "run.json").read_text())["resumed_from"] == 2
    assert outcome(folder / killed) == outcome(folder / whole)


@pytest.fixture(scope="module")
def ranked(folder):
    """Queries that come every second step, with 4 to 6 ranked negatives each: some lists end during the run."""
    rows = [
        {
            "query": text(i, 4),
            "positive": text(1000 + i),
            "negative": [text(3000 + 6 * i + j) for j in range(4 + i % 3)],
        }
        for i in range(12)
    ]
    return write_jsonl(folder / "ranked.jsonl", rows)


@pytest.mark.parametrize(
    "rule",
    [
        ("mining.rule=v1", "mining.interval=2", "mining.ratio=1", "mining.ceiling=2"),
        ("mining.rule=v2", "mining.floor=0.92", "mining.delay=2", "mining.ceiling=2"),
        ("mining.rule=relative", "mining.quantile=0.6", "mining.uses_above=2"),
    ],
    ids=lambda rule: rule[0],
)
def test_a_run_that_replaces_negatives_continues_bit_for_bit(folder, ranked, rule):
    """Killed when some negatives were replaced, some decisions were not yet in force, and more decisions follow."""
    lively = (
        "training.steps=10",
        "training.dropout=0.4",
        "training.learning_rate=1e-3",
        "tasks.faq.negatives.margin=0",
    )
    settings = (f"tasks.faq.path={ranked.name}", *lively, *rule)
    whole, killed = (f"{name}_{rule[0]}" for name in ("whole", "killed"))
    run_ranks(2, train, str(folder), whole, settings)
    with pytest.raises(AssertionError, match="no result"):
        run_ranks(2, train, str(folder), killed, settings, "after step 7")
    saved = read_arrays(folder / killed / "checkpoints" / "step-00000006")
    run_ranks(2, train, str(folder), killed, settings)
    assert json.loads((folder / killed / "run.json").read_text())["resumed_from"] == 6
    assert outcome(folder / killed) == outcome(folder / whole)
    rows = outcome(folder / whole)[0]
    assert saved["faq/0/replaced"].sum() > len(saved["faq/0/late_row"]) > 0
    assert sum(row["negatives_replaced"] for row in rows if row["step"] > 6) > 0
    assert all(sum(row[key] or 0 for row in rows) > 0 for key in MINING)


def test_every_row_of_the_metrics_has_the_mining_keys(uninterrupted):
    """Without a rule and a margin nothing is replaced or masked, and no negative is watched: unknown, not 0."""
    expected = {**dict.fromkeys(MINING, 0), "negative_similarity_start": None}
    assert [{key: row[key] for key in MINING} for row in uninterrupted[0]] == [expected] * 6


def test_every_row_says_how_many_repeats_of_a_text_were_not_encoded(uninterrupted):
    assert all(row["texts_saved"] > 0 for row in uninterrupted[0])


def test_prompts_and_unequal_lengths_reach_the_exported_model(folder, tmp_path):
    """The embeddings are compared without prompts: the folder only stores them, its user applies them."""
    changes = (
        "tasks.faq.prompts.query='aral '",
        "tasks.faq.prompts.document='btin '",
        "model.query_max_length=8",
        "training.steps=1",
    )
    run_ranks(1, train, str(folder), "prompted", changes)
    stored = json.loads((folder / "prompted" / "model" / "config_sentence_transformers.json").read_text())
    assert stored["prompts"] == {"query": "aral ", "document": "btin "}


def test_a_run_may_be_continued_with_other_evaluation_data(folder, uninterrupted):
    shutil.copytree(folder / "whole", folder / "evaluated")
    run_ranks(2, train, str(folder), "evaluated", ("training.steps=7", "evaluation.data=[intents]"))
    rows = json.loads((folder / "evaluated" / "evaluation.json").read_text())
    assert [row["dataset"] for row in rows if row["step"] == 7] == ["intents"]
    run_ranks(2, train, str(folder), "evaluated", ("training.steps=7", "evaluation.every=0"))


def test_a_checkpoint_is_not_continued_on_other_data(folder, uninterrupted):
    """The plan is computed from the data, so the same step would contain other texts."""
    shutil.copytree(folder / "whole", folder / "other_data")
    rows = (folder / "retrieval.jsonl").read_text().splitlines(keepends=True)
    (folder / "reversed.jsonl").write_text("".join(reversed(rows)))
    path = folder / "other_data" / "recipe.yaml"
    path.write_text(path.read_text().replace("retrieval.jsonl", "reversed.jsonl"))
    with pytest.raises(AssertionError, match="got another data than it was trained with"):
        run_ranks(2, train, str(folder), "other_data", ("training.steps=8", "tasks.faq.path=reversed.jsonl"))


def test_a_finished_run_started_again_changes_nothing(folder, uninterrupted):
    before = {path: path.stat().st_mtime_ns for path in (folder / "whole").rglob("*") if path.is_file()}
    run_ranks(2, train, str(folder), "whole")
    assert {path: path.stat().st_mtime_ns for path in (folder / "whole").rglob("*") if path.is_file()} == before


def test_a_run_of_another_recipe_is_never_overwritten(folder, uninterrupted):
    with pytest.raises(AssertionError, match=r"training.seed: 0 → 9.*set another output"):
        run_ranks(2, train, str(folder), "whole", ("training.seed=9",))


def test_fewer_steps_than_were_trained_are_refused(folder, uninterrupted):
    """Otherwise the results of the longer run would be printed as the results of this one."""
    with pytest.raises(AssertionError, match=r"training.steps: got 4, but .* has been trained for 6 steps"):
        run_ranks(2, train, str(folder), "whole", ("training.steps=4",))


def test_more_steps_continue_a_finished_run(folder, uninterrupted):
    shutil.copytree(folder / "whole", folder / "longer")
    run_ranks(2, train, str(folder), "longer", ("training.steps=7",))
    run = json.loads((folder / "longer" / "run.json").read_text())
    assert (run["resumed_from"], run["steps"]) == (6, 7)
    assert len((folder / "longer" / "metrics.jsonl").read_text().splitlines()) == 7
