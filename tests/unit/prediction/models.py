"""Tiny models of several architectures, as folders, and their encoders with real weights."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    AlbertConfig,
    AlbertModel,
    BertConfig,
    BertModel,
    Qwen3Config,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from harness.encoder.config import ModelConfig

_SIZES = {"vocab_size": 300, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
_FEED_FORWARD = {"intermediate_size": 128}


def make(kind: str, folder: Path, dropout: float = 0.0) -> Path:
    """A model with random weights: bert, albert (layers share weights), roberta, qwen3 (a decoder), t5."""
    torch.manual_seed(0)
    rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    if kind == "bert":
        model = BertModel(BertConfig(**_SIZES, **_FEED_FORWARD, **rates))
    elif kind == "albert":
        model = AlbertModel(AlbertConfig(**_SIZES, **_FEED_FORWARD, **rates, embedding_size=32))
    elif kind == "roberta":
        model = XLMRobertaModel(XLMRobertaConfig(**_SIZES, **_FEED_FORWARD, **rates))
    elif kind == "qwen3":
        model = Qwen3Model(Qwen3Config(**_SIZES, **_FEED_FORWARD, num_key_value_heads=2, head_dim=16))
    else:
        sizes = {"vocab_size": 300, "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 3, "num_heads": 4}
        model = T5EncoderModel(T5Config(**sizes, dropout_rate=dropout))
    model.save_pretrained(folder)
    return folder


def settings(folder: Path, **changes: object) -> ModelConfig:
    return ModelConfig(name_or_path=str(folder), **{"max_length": 32, "pooling": ("mean",), **changes})
