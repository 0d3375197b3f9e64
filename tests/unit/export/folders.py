"""Exported folders of tiny models of several kinds, which readers are tried on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import ModernBertConfig, ModernBertModel, PreTrainedModel, Qwen3Config, Qwen3Model

from harness.data.table.tokenisation import Tokeniser
from harness.encoder.load import load_encoder
from harness.export.sentence_transformers_folder import embed_on_cpu, write_model
from harness.prompts import ModelPrompts
from tests.tiny import make_model
from tests.unit.encoder.models import TEXTS, change_json, config

_SIZES: dict[str, Any] = {
    "vocab_size": 120,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "eos_token_id": 3,
    "bos_token_id": 2,
}
PROMPTS = ModelPrompts({"query": "aral: ", "STS": "betin "})


def decoder() -> PreTrainedModel:
    """A Qwen3 whose rotary base is not the one that transformers 4 assumes."""
    rope = {"rope_type": "default", "rope_theta": 1_000_000.0}
    return Qwen3Model(Qwen3Config(**_SIZES, num_key_value_heads=2, head_dim=8, rope_parameters=rope))


def modernbert() -> PreTrainedModel:
    """A ModernBERT none of whose settings is the default."""
    rope = {
        "full_attention": {"rope_type": "default", "rope_theta": 5_000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
    }
    settings = {"local_attention": 8, "global_attn_every_n_layers": 2, "rope_parameters": rope}
    return ModernBertModel(ModernBertConfig(**_SIZES, cls_token_id=2, sep_token_id=3, **settings))


BACKBONES = {"bert": (None, "mean"), "qwen3": (decoder, "last"), "modernbert": (modernbert, "cls")}


def start(folder: Path, kind: str) -> Path:
    """The folder of a model of this kind as others publish it, with a tokenizer that has special tokens of its own."""
    make_model(folder)
    make, _ = BACKBONES[kind]
    if make is None:
        return folder
    torch.manual_seed(0)
    model = make()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    settings = {"model_input_names": ["input_ids", "attention_mask"], "extra_special_tokens": ["[MASK]"]}
    change_json(folder / "tokenizer_config.json", **settings)
    (folder / "chat_template.jinja").write_text("{% for m in messages %}aral{{ m['content'] }}{% endfor %}")
    return folder


def exported(folder: Path, kind: str, prompts: ModelPrompts = PROMPTS, **settings: Any) -> tuple[Path, Any]:
    """The exported folder of a model of this kind, and the embeddings of `TEXTS` by the encoder."""
    first = settings.pop("name_or_path", None) or start(folder / "start", kind)
    given = config(first, **{"pooling": BACKBONES[kind][1], **settings})
    encoder, tokeniser = load_encoder(given).eval(), Tokeniser(given.name_or_path)
    out, state = folder / "out", {key: value.clone() for key, value in encoder.state_dict().items()}
    write_model(out, encoder, state, tokeniser.tokenizer, given, prompts=prompts, card="card")
    embedding_BD = embed_on_cpu(encoder, tokeniser, TEXTS, given.longest_text)
    return out, nn.functional.normalize(torch.from_numpy(embedding_BD), dim=1).numpy()


def in_the_layout_of_sentence_transformers_5_4(folder: Path, copy: Path) -> Path:
    """A copy as this project has exported it until now: names that only sentence-transformers >= 5.4 knows."""
    shutil.copytree(folder, copy)
    places = {"Transformer": "base.modules.transformer", "Dense": "base.modules.dense"}
    places |= {"Normalize": "base.modules.normalize", "Pooling": "sentence_transformer.modules.pooling"}
    modules = json.loads((copy / "modules.json").read_text())
    for module in modules:
        kind = module["type"].rsplit(".", 1)[-1]
        module["type"] = f"sentence_transformers.{places[kind]}.{kind}"
    (copy / "modules.json").write_text(json.dumps(modules))
    pooling = json.loads((copy / "1_Pooling" / "config.json").read_text())
    mode = next(key for key, value in pooling.items() if key.startswith("pooling_mode") and value)
    name = {"mean_tokens": "mean", "cls_token": "cls", "lasttoken": "lasttoken"}[mode.removeprefix("pooling_mode_")]
    new = {"embedding_dimension": pooling["word_embedding_dimension"], "pooling_mode": name, "include_prompt": True}
    (copy / "1_Pooling" / "config.json").write_text(json.dumps(new))
    text = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
    new = {"transformer_task": "feature-extraction", "modality_config": text, "module_output_name": "token_embeddings"}
    (copy / "sentence_bert_config.json").write_text(json.dumps(new))
    return copy
