"""Adapters are read as peft applies them, and written so that peft and transformers read them whole."""

from __future__ import annotations

import json

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedModel, Qwen3ForCausalLM

from harness.encoder.partial.adapter import add_adapter, write_adapter
from harness.encoder.partial.config import LoraSettings
from harness.model_folder.adapter_files import stored_adapter
from tests.golden_encoders import tiny_backbone
from tests.tiny import make_model

IDS = torch.tensor([[3, 4, 5, 6, 7]])


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("qwen3")
    torch.manual_seed(0)
    Qwen3ForCausalLM(tiny_backbone("qwen3").config).save_pretrained(folder)
    return folder


@torch.no_grad()
def states(model):
    return model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).last_hidden_state


def made_by_peft(model: PreTrainedModel, out, **settings):
    """An adapter with random weights; returns the model around it."""
    torch.manual_seed(1)
    adapted = get_peft_model(model, LoraConfig(r=4, init_lora_weights=False, **settings)).eval()
    adapted.save_pretrained(out)
    return adapted.base_model.model


def read(folder, base):
    backbone = AutoModel.from_pretrained(base).eval()
    return backbone, add_adapter(backbone, None, stored_adapter(folder), 0)


def check_read_and_written_again(expected, base, folder, tmp_path):
    backbone, config = read(folder, base)
    assert torch.equal(states(backbone), expected)
    again = tmp_path / "again"
    again.mkdir()
    state = {f"backbone.{name}": value for name, value in backbone.state_dict().items()}
    write_adapter(again, config, state, str(base))
    assert torch.equal(states(read(again, base)[0]), expected)


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["q_proj", "v_proj"], "alpha_pattern": {"model.layers.0.self_attn.q_proj": 99}},
        {"target_modules": ["q_proj", "v_proj"], "rank_pattern": {"model.layers.0.self_attn.q_proj": 2}},
        {"target_modules": r"model\.layers\.\d\.self_attn\.q_proj"},
        {"target_modules": ["q_proj", "lm_head"], "layers_to_transform": [1]},
        {"target_modules": ["q_proj"], "exclude_modules": ["model.layers.0.self_attn.q_proj"]},
    ],
    ids=str,
)
def test_patterns_written_for_a_language_model_hold_for_its_backbone(language_model, tmp_path, settings):
    """A pattern of alphas that matched nothing gave other vectors without a word."""
    model = made_by_peft(AutoModelForCausalLM.from_pretrained(language_model), tmp_path / "adapter", **settings)
    check_read_and_written_again(states(model.model), language_model, tmp_path / "adapter", tmp_path)


def test_a_pattern_of_layers_is_written_as_it_was(bert, tmp_path):
    """It is a text; sorted like a list of names, it came out as a list of letters, which no later start could read."""
    pattern = r".*\.(query|value)"
    model = made_by_peft(AutoModel.from_pretrained(bert), tmp_path / "adapter", target_modules=pattern)
    check_read_and_written_again(states(model), bert, tmp_path / "adapter", tmp_path)
    assert json.loads((tmp_path / "again" / "adapter_config.json").read_text())["target_modules"] == pattern


def test_a_dora_adapter_is_whole_in_peft_and_in_transformers(bert, tmp_path):
    """By the names that peft writes, transformers, and so sentence-transformers, loads no length of a row."""
    trained = AutoModel.from_pretrained(bert).eval()
    lora = LoraSettings(rank=4, dora=True, target_modules=("query", "value"))
    config = add_adapter(trained, lora, None, 0)
    for name, parameter in trained.named_parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.rand(parameter.shape, generator=torch.Generator().manual_seed(len(name)))
    state = {f"backbone.{name}": value for name, value in trained.state_dict().items()}
    write_adapter(tmp_path, config, state, str(bert))
    of_transformers = AutoModel.from_pretrained(bert)
    of_transformers.load_adapter(str(tmp_path))
    of_peft = PeftModel.from_pretrained(AutoModel.from_pretrained(bert), str(tmp_path))
    for reader in (of_transformers, of_peft, read(tmp_path, bert)[0]):
        assert torch.equal(states(reader.eval()), states(trained))
