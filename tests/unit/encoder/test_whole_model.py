"""A backbone is loaded whole or refused: transformers would put random numbers in place of missing weights."""

from __future__ import annotations

import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel

from harness.encoder.load import load_encoder
from harness.encoder.text_model import text_model_class
from harness.encoder.whole_model import load_whole
from harness.export.sentence_transformers_folder import verify_model
from tests.own_code import make_own_code
from tests.tiny import make_model
from tests.unit.encoder.models import TEXTS, change_json, config, embed, export


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


def changed(folder, out, change):
    """A copy of the model folder whose weights are `change(weights)`."""
    shutil.copytree(folder, out)
    weights = {name: value.clone() for name, value in change(load_file(folder / "model.safetensors")).items()}
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    return out


def refusal(folder):
    with pytest.raises(ValueError, match=r"expected") as caught:
        load_encoder(config(folder))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{folder}: got ")
    return message


def test_a_missing_layer_is_named_and_not_filled_with_random_numbers(folder, tmp_path):
    out = changed(folder, tmp_path / "out", lambda w: {k: v for k, v in w.items() if ".layer.1." not in k})
    message = refusal(out)
    assert "without 16 of 39 weights (encoder.layer.1.attention.output.LayerNorm.bias, " in message
    assert " and 13 more)" in message


@pytest.mark.parametrize("prefix", ["encoder_model.", "0.auto_model."])
def test_weights_under_another_prefix_are_refused_and_the_prefix_is_named(folder, tmp_path, prefix):
    out = changed(folder, tmp_path / "out", lambda w: {prefix + k: v for k, v in w.items()})
    assert f"the names in the file begin with '{prefix}': remove that" in refusal(out)


def test_a_config_with_fewer_layers_than_the_weights_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "out")
    change_json(tmp_path / "out" / "config.json", num_hidden_layers=1)
    message = refusal(tmp_path / "out")
    assert "with 16 weights that its class has no place for (encoder.layer.1.attention.output.LayerNorm.bias" in message


def test_weights_of_a_layer_that_stands_behind_the_backbone_are_refused(folder, tmp_path):
    """A projection that is part of the model in another project (ColBERT's `linear`) would be dropped."""
    out = changed(
        folder,
        tmp_path / "out",
        lambda w: {**{f"bert.{k}": v for k, v in w.items()}, "linear.weight": torch.zeros(8, 32)},
    )
    assert "with 1 weight that its class has no place for (linear.weight)" in refusal(out)


def test_weights_of_another_shape_are_refused_with_both_shapes(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "out")
    change_json(tmp_path / "out" / "config.json", intermediate_size=48)
    assert "encoder.layer.0.intermediate.dense.bias: [64], not [48]" in refusal(tmp_path / "out")


@pytest.mark.parametrize("number", [float("nan"), float("-inf")])
def test_weights_that_are_not_finite_are_refused_by_name(folder, tmp_path, number):
    def change(weights):
        weights["encoder.layer.1.output.dense.weight"][3, 4] = number
        return weights

    assert "infinite in 1 weight (encoder.layer.1.output.dense.weight)" in refusal(
        changed(folder, tmp_path / "out", change)
    )


@pytest.mark.parametrize(
    "values", [{"hidden_act": "gelux"}, {"num_attention_heads": 5}, {"hidden_size": "32"}, {"vocab_size": None}]
)
def test_a_config_that_transformers_cannot_use_is_one_line(folder, tmp_path, values):
    """The classes of transformers raise KeyError, TypeError and errors of their own for such values."""
    shutil.copytree(folder, tmp_path / "out")
    change_json(tmp_path / "out" / "config.json", **values)
    with pytest.raises(ValueError, match=f"transformers {transformers.__version__} cannot") as caught:
        load_encoder(config(tmp_path / "out"))
    assert "\n" not in str(caught.value)


def test_a_pooler_may_be_missing_and_is_then_not_exported(folder, tmp_path):
    """Otherwise the exported folder would hold a pooler of random numbers."""
    source = changed(folder, tmp_path / "source", lambda w: {k: v for k, v in w.items() if "pooler" not in k})
    encoder = export(source, tmp_path / "out")
    assert load_file(tmp_path / "out" / "model.safetensors").keys() == load_file(source / "model.safetensors").keys()
    assert verify_model(tmp_path / "out", TEXTS, embed(encoder, source), config(source)) < 1e-5
    load_encoder(config(tmp_path / "out"))


_SIZES = {
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 37,
}
_TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("BertForMaskedLM", _SIZES),
        ("RobertaForMaskedLM", _SIZES),
        ("ElectraForPreTraining", _SIZES),
        ("DebertaV2ForSequenceClassification", _SIZES),
        ("ModernBertForMaskedLM", {**_SIZES, "pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2}),
        ("Qwen3ForCausalLM", {**_SIZES, **_TOKENS, "num_key_value_heads": 2, "head_dim": 8}),
        ("GPTNeoXForCausalLM", _SIZES),
        ("FunnelForMaskedLM", {"vocab_size": 99, "d_model": 32, "n_head": 4, "d_head": 8, "block_sizes": [1]}),
        ("T5ForConditionalGeneration", {"vocab_size": 99, "d_model": 32, "d_kv": 8, "num_layers": 1, "num_heads": 4}),
    ],
)
def test_the_head_of_a_language_model_or_classifier_is_left_out_and_the_rest_loads(tmp_path, name, settings):
    model_class = getattr(transformers, name)
    torch.manual_seed(0)
    model = model_class(model_class.config_class(**settings))
    model.save_pretrained(tmp_path)
    loaded = load_whole(
        text_model_class(model.config), str(tmp_path), name, config=AutoConfig.from_pretrained(tmp_path)
    )
    saved = model.state_dict()
    for key, value in loaded.state_dict().items():
        if not key.startswith("pooler."):
            assert any(torch.equal(value, saved[other]) for other in saved if other.endswith(key)), key


def test_code_of_a_models_own_is_refused_if_transformers_loses_numbers_that_it_computes(folder, tmp_path):
    """transformers leaves whatever was in memory in a buffer that is not in the file."""
    more = "self.register_buffer('scale', torch.arange(1.0, 17.0), persistent=False)"
    lossy = make_own_code(tmp_path / "lossy", folder, "lossytiny", more)
    whole = make_own_code(tmp_path / "whole", folder, "wholetiny", more.replace("False", "True"))
    weights = load_file(whole / "model.safetensors")
    save_file({**weights, "scale": torch.arange(1.0, 17.0)}, whole / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="own code computes scale outside its weights"):
        load_whole(AutoModel, str(lossy), "lossy", trust_remote_code=True)
    assert load_whole(AutoModel, str(whole), "whole", trust_remote_code=True).scale[-1] == 16
