"""Runs that train a part of a model: what they store, that they continue bit for bit, and what they export."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from harness.cli.export import export_run
from harness.data.table.tokenisation import Tokeniser
from harness.encoder.load import config_of_folder, load_encoder
from tests.integration.test_resume import outcome, train
from tests.ranks import run_ranks
from tests.tiny import text
from tests.unit.encoder.models import change_json

pytestmark = pytest.mark.distributed

SHORT = (
    "training.steps=4", "training.learning_rate=0.02", "training.warmup_ratio=0", "evaluation.every=0",
    "checkpoint.every=2",
)  # fmt: skip
LORA = ("model.lora.rank=4", "model.lora.dropout=0.2", "model.projection_dim=32")
PARTS = {
    "lora": (*LORA, "deepspeed=zero1"),
    "lora3": (*LORA, "model.lora.dora=true", "deepspeed=zero3"),
    "frozen": ("model.freeze.embeddings=true", "model.freeze.layers=1", "training.layer_decay=0.5", "deepspeed=zero1"),
}
TEXTS = [text(i, 2 + 3 * i) for i in range(5)]


def embed(place) -> np.ndarray:
    encoder, tokeniser = load_encoder(config_of_folder(str(place))).eval(), Tokeniser(str(place))
    with torch.no_grad():
        return encoder(*tokeniser.pad(tokeniser.encode(TEXTS, 24)).on(torch.device("cpu"))).numpy()


@pytest.fixture(scope="module")
def runs(folder):
    """Every kind of run, once undisturbed and once killed after its third step and continued."""
    for name, settings in PARTS.items():
        run_ranks(2, train, str(folder), name, (*SHORT, *settings))
        with pytest.raises(AssertionError, match="no result"):
            run_ranks(2, train, str(folder), f"{name}_killed", (*SHORT, *settings), "after step 3")
        run_ranks(2, train, str(folder), f"{name}_killed", (*SHORT, *settings))
    return folder


def test_other_ranks_and_another_stage_continue_several_rates_and_frozen_weights(runs):
    """Without dropout, whose masks depend on the ranks. Moments in the wrong group would show at once."""
    settings = (*SHORT, *PARTS["frozen"], "training.dropout=0", "training.weight_decay=0.1")
    run_ranks(2, train, str(runs), "whole", settings)
    with pytest.raises(AssertionError, match="no result"):
        run_ranks(2, train, str(runs), "moved_on", settings, "after step 3")
    run_ranks(1, train, str(runs), "moved_on", (*settings, "deepspeed=zero3"))
    whole, found = (load_file(runs / name / "model" / "model.safetensors") for name in ("whole", "moved_on"))
    for name, weight in found.items():
        assert torch.allclose(weight, whole[name], atol=1e-4), name


@pytest.mark.parametrize("name", PARTS)
def test_a_run_that_trains_a_part_continues_bit_for_bit(runs, name):
    assert json.loads((runs / f"{name}_killed" / "run.json").read_text())["resumed_from"] == 2
    assert outcome(runs / f"{name}_killed") == outcome(runs / name)


@pytest.mark.parametrize("name", ["lora", "lora3"])
def test_the_exported_model_and_the_adapter_embed_as_one_and_not_as_the_model_before(runs, name):
    """A merge that was left out would give the embeddings of the model before: the merged folder is no adapter."""
    merged, adapter = embed(runs / name / "model"), embed(runs / name / "adapter")
    assert abs(merged - adapter).max() < 1e-5
    assert not any("lora" in key for key in load_file(runs / name / "model" / "model.safetensors"))
    assert (runs / name / "model" / "2_Dense").is_dir()
    with_projection = runs / f"{name}_base"
    shutil.copytree(runs / name / "model", with_projection)
    before = load_file(runs / "model" / "model.safetensors")
    torch_names = load_file(with_projection / "model.safetensors").keys()
    from safetensors.torch import save_file

    save_file({key: before[key] for key in torch_names}, with_projection / "model.safetensors", {"format": "pt"})
    assert abs(embed(with_projection) - merged).max() > 1e-3


def test_the_adapter_is_one_that_peft_and_sentence_transformers_load(runs):
    from peft import PeftModel
    from sentence_transformers import SentenceTransformer
    from transformers import AutoModel

    place = str(runs / "lora" / "adapter")
    expected = embed(place)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = SentenceTransformer(place, device="cpu").encode(TEXTS)
    assert abs(found - expected).max() < 1e-5
    base = json.loads((runs / "lora" / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert base == str(runs / "model")
    weights = PeftModel.from_pretrained(AutoModel.from_pretrained(base), place).state_dict()
    stored = load_file(runs / "lora" / "adapter" / "adapter_model.safetensors")
    name = "base_model.model.encoder.layer.1.attention.self.query.lora_B"
    assert torch.equal(weights[f"{name}.default.weight"], stored[f"{name}.weight"])


def test_an_export_whose_merge_is_left_out_is_refused(runs, monkeypatch):
    """The comparison is with the adapter's own outputs, not with the folder's weights read twice."""
    from peft.tuners.lora import Linear

    monkeypatch.setattr(Linear, "merge", lambda self, **_: None)
    with pytest.raises(ValueError, match="do not use this export"):
        export_run(runs / "lora" / "checkpoints" / "step-00000004", runs / "unmerged")
    monkeypatch.undo()
    export_run(runs / "lora" / "checkpoints" / "step-00000004", runs / "merged")
    assert abs(embed(runs / "merged") - embed(runs / "lora" / "model")).max() < 1e-6


@pytest.mark.parametrize("name", ["lora", "lora3"])
def test_a_checkpoint_holds_the_trained_weights_and_their_moments_alone(runs, name):
    """12 bytes a weight in the optimizer; DeepSpeed's files have a few thousand more for names and settings."""
    checkpoint = runs / name / "checkpoints" / "step-00000004"
    trained = sum(w.numel() for w in load_file(checkpoint / "model" / "adapter_model.safetensors").values())
    trained += sum(w.numel() for w in load_file(checkpoint / "model" / "2_Dense" / "model.safetensors").values())
    states = [torch.load(file, weights_only=False) for file in checkpoint.rglob("*model_states.pt")]
    held = {key for state in states for key, value in state["module"].items() if value.numel()}
    assert not any("base_layer" in key or "embeddings" in key for key in held)
    optimizer = sum(file.stat().st_size for file in checkpoint.rglob("*optim_states.pt"))
    total = sum(w.numel() for w in load_file(runs / name / "model" / "model.safetensors").values())
    assert 12 * trained < optimizer < 12 * total / 2
    assert not (checkpoint / "model" / "model.safetensors").exists()


def test_frozen_weights_stay_and_are_in_every_model_and_checkpoint(runs):
    """Adam decays a weight that is given to it even without a gradient."""
    before, after = (load_file(runs / name / "model.safetensors") for name in ("model", "frozen/model"))
    stored = load_file(runs / "frozen" / "checkpoints" / "step-00000004" / "model" / "model.safetensors")
    assert stored.keys() == after.keys() >= before.keys() - {"embeddings.position_ids"}
    for name, weight in after.items():
        is_frozen = name.startswith(("embeddings.", "encoder.layer.0.", "pooler."))
        assert torch.equal(weight, before[name]) is is_frozen, name
        assert torch.equal(weight, stored[name])


def test_a_checkpoint_beside_another_base_model_is_refused(runs):
    """The checkpoint has no weights of the base: on another one the adapter would be another model."""
    from safetensors.torch import save_file

    shutil.copytree(runs / "lora", runs / "moved", ignore=shutil.ignore_patterns("model"))
    shutil.copytree(runs / "lora" / "checkpoints", runs / "moved" / "checkpoints", dirs_exist_ok=True)
    change_json(runs / "moved" / "run.json", finished=False)
    file = runs / "model" / "model.safetensors"
    weights = load_file(file)
    changed = weights | {"embeddings.LayerNorm.bias": weights["embeddings.LayerNorm.bias"] + 1}
    save_file(changed, file, {"format": "pt"})
    try:
        with pytest.raises(AssertionError, match="got another frozen weights than it was trained with"):
            run_ranks(2, train, str(runs), "moved", (*SHORT, *PARTS["lora"]))
    finally:
        save_file(weights, file, {"format": "pt"})


def test_an_adapter_is_trained_on_as_it_is(runs):
    """model.name_or_path is an adapter's folder: the new adapter stands on the same base, and starts where it ended."""
    settings = ("training.steps=1", "training.learning_rate=1e-9", "evaluation.every=0", "deepspeed=zero3")
    run_ranks(1, train, str(runs), "further", (*settings, f"model.name_or_path={runs / 'lora' / 'adapter'}"))
    assert abs(embed(runs / "further" / "model") - embed(runs / "lora" / "adapter")).max() < 1e-5
    settings_of = [
        json.loads((runs / name / "adapter" / "adapter_config.json").read_text()) for name in ("lora", "further")
    ]
    assert settings_of[0]["base_model_name_or_path"] == settings_of[1]["base_model_name_or_path"]
