"""The recipes that come with the package are planned and trained for two steps, with a tiny model and tiny data.

And a decoder with the soft mask is trained, continued and exported. All in one process, which keeps this cheap.
"""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from pathlib import Path

import pytest

from harness.config import RECIPES, load_recipe
from tests.ranks import leave_out_report, run_ranks
from tests.tiny import make_data, make_model, make_recipe
from tests.unit.encoder.attention.decoders import make_decoder

NAMES = sorted(path.stem for path in RECIPES.glob("*.yaml") if path.stem != "demo")  # which launch.sh runs
WITH_LORA = "qwen3_0.6b_lora"
STARTS_FROM = {"finetune": "pretrain", "conan_v1_finetune": "conan_v1_pretrain"}
DATA = {"retrieval": "retrieval.jsonl", "sts": "sts/train.jsonl", "classification": "intents/train.jsonl"}
SOFT = "model.attention_mask=soft"


def stand_in(name: str, folder: Path) -> list[str]:
    """Overrides that leave of a recipe all but its model, its data, its sizes and its length."""
    text = load_recipe(name).config
    before = STARTS_FROM.get(name)
    model = folder / "runs" / before / "model" if before else folder / ("decoder" if name == WITH_LORA else "model")
    overrides = [f"model.name_or_path={model}", "model.max_length=24", f"output={folder}/runs/{name}"]
    overrides += ["training.steps=2", f"data.cache={folder}/cache", "checkpoint.every=2", "evaluation.every=0"]
    overrides += ["evaluation.data=[]", "training.micro_batch_tokens=256"]
    if text.model.query_max_length is not None:
        overrides.append("model.query_max_length=16")
    if text.model.matryoshka_dims and text.model.projection_dim is None:
        overrides.append("model.matryoshka_dims=[8, 32]")
    for task in text.tasks:
        overrides += [f"tasks.{task.name}.path={folder / DATA[task.kind]}", f"tasks.{task.name}.quota=4"]
    return overrides


def plan_and_train(names: list[str], folder: Path) -> list[dict[str, float]]:
    """Runs on a rank. Plans and trains each recipe; returns the last row of metrics of each."""
    from harness import comm, trainer
    from harness.cli.plan import show_plan

    leave_out_report()
    warnings.simplefilter("ignore")
    comm.shutdown = lambda: None  # one process group for all
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for name in names:
            loaded = load_recipe(name, stand_in(name, folder))
            show_plan(loaded, 1, 1)
            trainer.train(loaded)
        _train_decoders(folder)
        _write_steps_of_the_mask(folder)
    return [rows(folder / "runs" / name)[-1] for name in names]


def _train_decoders(folder: Path) -> None:
    """The same run with the soft mask three times: at once; scored and mined in between; and from step 2 on again."""
    from harness import trainer
    from harness.cli.plan import show_plan

    common = [f"model.name_or_path={folder}/decoder", "model.pooling=last", SOFT, "model.soft_mask_steps=3"]
    common += ["training.steps=4", "checkpoint.every=1", "checkpoint.keep=4", "mining.rule=v2"]
    plain, looking = ["evaluation.every=0"], ["evaluation.every=1"]
    for name, changes in (("soft", plain), ("scored", looking), ("soft", [*plain, "checkpoint.resume=2"])):
        loaded = load_recipe(str(folder / "tiny.yaml"), [*common, *changes, f"output={folder}/runs/{name}"])
        show_plan(loaded, 1, 1)
        if "checkpoint.resume=2" in changes:
            (folder / "runs" / "before.jsonl").write_bytes((folder / "runs" / name / "metrics.jsonl").read_bytes())
        trainer.train(loaded)


def _write_steps_of_the_mask(folder: Path) -> None:
    """Build a run of epochs, whose number of steps is known once its data is read."""
    from harness.run.build import build_run

    changes = [f"model.name_or_path={folder}/decoder", "model.pooling=last", SOFT, f"output={folder}/runs/epochs"]
    changes += ["training.steps=null", "training.epochs=2", "training.epoch_of=faq"]
    run = build_run(load_recipe(str(folder / "tiny.yaml"), changes))
    assert run.encoder.soft_mask is not None
    (folder / "runs" / "mask.json").write_text(json.dumps([run.encoder.soft_mask.steps, run.last_step]))


def rows(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, float]]]:
    folder = tmp_path_factory.mktemp("recipes")
    make_model(folder / "model")
    make_decoder(folder / "decoder")
    make_data(folder)
    make_recipe(folder)
    names = sorted(NAMES, key=lambda name: name in STARTS_FROM)
    return folder, dict(zip(names, run_ranks(1, plan_and_train, names, folder)[0], strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_recipe_is_planned_and_trained_for_two_steps(trained, name):
    last = trained[1][name]
    assert last["step"] == 2
    assert 0 < last["loss"] < float("inf")
    assert (trained[0] / "runs" / name / "model" / "model.safetensors").is_file()


@pytest.mark.parametrize(("second", "first"), STARTS_FROM.items())
def test_a_second_stage_starts_from_the_model_that_the_first_one_leaves(second, first):
    before, after = load_recipe(first).config, load_recipe(second).config
    assert after.model.name_or_path == f"{before.output}/model"
    assert after.model.pooling == before.model.pooling


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_recipe_says_where_its_numbers_come_from(name):
    assert (RECIPES / f"{name}.yaml").read_text().startswith("# ")


def test_the_soft_mask_opens_over_its_steps_and_the_exported_model_is_bidirectional(trained):
    run = trained[0] / "runs" / "soft"
    assert [row["soft_mask_weight"] for row in rows(run)] == [1 / 3, 2 / 3, 1, 1]
    assert json.loads((run / "model" / "config.json").read_text())["is_causal"] is False
    assert "is_causal false" in (run / "model" / "README.md").read_text()


def test_scores_between_steps_leave_the_mask_of_training_as_it_was(trained):
    """Scores are those of bidirectional attention; the next step must not be."""
    losses = [[row["loss"] for row in rows(trained[0] / "runs" / name)] for name in ("soft", "scored")]
    assert losses[0] == losses[1]


def test_a_continued_run_with_the_soft_mask_is_the_same_bits(trained):
    before = [json.loads(line) for line in (trained[0] / "runs" / "before.jsonl").read_text().splitlines()]
    for key in ("loss", "gradient_norm", "soft_mask_weight"):
        assert [row[key] for row in rows(trained[0] / "runs" / "soft")] == [row[key] for row in before]


def test_a_decoder_that_pools_the_last_token_ends_every_text_with_the_end_token(trained):
    from tokenizers import Tokenizer

    exported = Tokenizer.from_file(str(trained[0] / "runs" / "soft" / "model" / "tokenizer.json"))
    assert exported.encode("aral").tokens == ["aral", "[SEP]"]


def test_the_soft_mask_of_a_run_of_epochs_opens_over_all_of_its_steps(trained):
    """The mask was made before the data was read: an assertion failed."""
    assert json.loads((trained[0] / "runs" / "mask.json").read_text()) == [10, 10]
