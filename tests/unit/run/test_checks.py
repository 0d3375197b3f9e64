"""What training and `harness plan` check before they read data or weights, and what export does with attention."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from harness.cli.parts.opened_model import open_model
from harness.cli.plan import show_plan
from harness.config import load_recipe
from harness.data.table.tokenisation import Tokeniser
from harness.encoder.load import load_encoder
from harness.engine.checkpoint import Checkpoint
from harness.engine.zero import check_deepspeed_json
from harness.prediction.machine import matrix_rate
from harness.run.export import export_model
from harness.run.folder import RunFolder
from harness.run.start import check_continuable
from harness.run.tasks import check_machine, check_recipe
from tests.own_code import make_own_code
from tests.tiny import text


def recipe(folder, *changes):
    return load_recipe(str(folder / "tiny.yaml"), changes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("model.max_length=65", "model.max_length: got 65, but"),
        ("model.matryoshka_dims=[8,40]", "model.matryoshka_dims: got 40, but the embedding has 32 dimensions"),
        ("tasks.faq.query_max_length=70", "tasks.faq: got a text length of 70"),
        ("evaluation.main_metric=faq/nonsense", "evaluation.main_metric: got"),
        ("evaluation.data=[nowhere]", "nowhere: got no such file or folder"),
        ("model.name_or_path=./nowhere", "model.name_or_path: got ./nowhere, expected a folder that exists"),
    ],
)
def test_plan_sees_the_mistakes_that_training_would_see(folder, change, words):
    for check in (lambda: check_recipe(recipe(folder, change), 1), lambda: show_plan(recipe(folder, change), 1, 1)):
        with pytest.raises(ValueError, match=r"got") as caught:
            check()
        assert words in str(caught.value)


def test_a_guide_is_checked_with_the_model_and_named_as_guide(folder):
    changes = ("guide.name_or_path=./nowhere", "tasks.faq.negatives.guide=true")
    with pytest.raises(ValueError, match=r"guide.name_or_path: got ./nowhere"):
        check_recipe(recipe(folder, *changes), 1)


def test_a_run_that_does_not_fit_on_its_disk_is_refused_at_start(folder, monkeypatch):
    """tiny.yaml keeps 2 checkpoints, and the next is written before the oldest goes: 8 + 3 · 16 bytes a weight."""
    loaded = recipe(folder)
    num_weights = sum(value.numel() for value in load_encoder(loaded.config.model).state_dict().values()) + 32 * 33
    needed = num_weights * (8 + 3 * 16)
    free = SimpleNamespace(free=needed)
    monkeypatch.setattr("harness.files.shutil.disk_usage", lambda path: free)
    check_machine(loaded)
    free.free = needed - 1
    with pytest.raises(ValueError, match=r"^output: got .*/run on a disk with 0.001 GB free, expected room for"):
        check_machine(loaded)
    free.free = num_weights * 8
    with pytest.raises(ValueError, match=r"^output: got"):
        check_machine(loaded)


def test_an_output_below_a_file_is_refused_at_start(folder):
    changed = recipe(folder, f"output={json.dumps(str(folder / 'tiny.yaml' / 'run'))}")
    with pytest.raises(ValueError, match=r"^output: got .*tiny.yaml is a file, expected a folder"):
        check_machine(changed)


def test_a_precision_that_this_cpu_multiplies_slowly_in_gets_a_warning(folder, monkeypatch, capsys):
    """Without instructions for bf16 a step took eleven times the seconds of fp32, without a word."""
    monkeypatch.setattr(matrix_rate.comm, "device", lambda: torch.device("cpu"))
    seconds = {torch.bfloat16: 0.028, torch.float16: 0.0014, torch.float32: 0.001}
    monkeypatch.setattr(matrix_rate, "least_seconds", lambda work: seconds[work().dtype])
    check_machine(recipe(folder, "training.precision=bf16"))
    line = "precision: bf16 takes 28 times the seconds of fp32 for a matrix product on this CPU; "
    assert f"training.{line}set" in "".join(capsys.readouterr())
    open_model(str(folder / "model"), None, None, "bf16")
    assert f"--{line}leave it out" in "".join(capsys.readouterr())
    for quick in ("fp16", "fp32"):
        check_machine(recipe(folder, f"training.precision={quick}"))
        assert "for a matrix product" not in "".join(capsys.readouterr())


def test_the_rates_of_products_are_measured_and_a_slow_one_is_tried_once(monkeypatch):
    assert 1e8 < matrix_rate.matrix_rate(torch.float32) < 1e14
    tries = []
    monkeypatch.setattr(matrix_rate.time, "perf_counter", lambda: float(len(tries)))
    monkeypatch.setattr(matrix_rate.time, "process_time", lambda: 100.0 * len(tries))
    assert matrix_rate.least_seconds(lambda: tries.append(1)) == 1.0
    assert len(tries) == 2  # the first warms up


def test_attention_that_needs_a_gpu_is_refused_without_one(folder, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"model.attention: got flash_attention_2, which needs a GPU"):
        check_machine(recipe(folder, "model.attention=flash_attention_2", "training.precision=bf16"))


def test_an_export_of_a_run_with_attention_for_gpus_is_compared_on_the_cpu(folder, tmp_path):
    """transformers refuses to load flash_attention_2 on a CPU. The exported config says nothing of attention."""
    loaded = recipe(folder)
    encoder, tokeniser = load_encoder(loaded.config.model).eval(), Tokeniser(str(folder / "model"))
    model = loaded.config.model.model_copy(update={"attention": "flash_attention_2"})
    run, out = RunFolder(loaded.config, tmp_path / "run"), tmp_path / "out"
    texts = [text(i) for i in range(3)]
    state = encoder.state_dict()
    assert export_model(out, run, encoder, tokeniser, model=model, weights=state, check_texts=texts) < 1e-5
    assert "attn" not in (out / "config.json").read_text() + (out / "sentence_bert_config.json").read_text()


def test_a_value_that_deepspeed_does_not_take_is_named_before_anything_is_loaded():
    with pytest.raises(ValueError, match=r'mine.json: zero_optimization.reduce_bucket_size: got the text "much"'):
        check_deepspeed_json({"zero_optimization": {"stage": 2, "reduce_bucket_size": "much"}}, "mine.json")
    check_deepspeed_json({"zero_optimization": {"stage": 2, "reduce_bucket_size": 5}}, "mine.json")


@pytest.mark.parametrize(
    ("precision", "words"),
    [
        ("fp32", "precision fp32, expected bf16 as this start has; set training.precision: fp32"),
        (None, "is bf16_weights now"),
    ],
)
def test_a_checkpoint_of_another_precision_is_refused(folder, tmp_path, precision, words):
    """One without a precision is of a version whose bf16 had weights in bf16: its state has another form."""
    run = SimpleNamespace(engine=SimpleNamespace(stage=1, precision="bf16"))
    checkpoint = Checkpoint(tmp_path, {"step": 2, "world_size": 1, "zero_stage": 1, "precision": precision})
    with pytest.raises(ValueError, match="got a checkpoint of precision") as caught:
        check_continuable(run, RunFolder(recipe(folder).config, tmp_path), checkpoint)
    assert words in str(caught.value)


def test_a_run_remembers_that_its_recipe_lets_a_models_own_code_run(folder, tmp_path):
    source = make_own_code(tmp_path / "run" / "model", folder / "model", "rememberedtiny")
    with pytest.raises(ValueError, match=r"then give --trust-remote-code$"):
        open_model(str(source), None, None, "fp32")
    with_code = open_model(str(source), None, None, "fp32", trust_remote_code=True).encode(["ral", "tin"])
    settings = (folder / "tiny.yaml").read_text().replace("max_length: 24", "max_length: 24, trust_remote_code: true")
    (tmp_path / "run" / "recipe.yaml").write_text(settings)
    encoded: list[int] = []
    opened = open_model(str(tmp_path / "run"), None, None, "fp32", on_texts=encoded.append)
    assert (opened.encode(["ral", "tin"]) == with_code).all()
    assert sum(encoded) == 2
