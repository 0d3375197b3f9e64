"""The tiny encoders whose gradients the golden equalities compare."""

from __future__ import annotations

from typing import Literal

import torch
from transformers import (
    AlbertConfig,
    AlbertModel,
    BertConfig,
    BertModel,
    PreTrainedModel,
    Qwen3Config,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
)

from harness.encoder.attention.soft_mask import SoftMask
from harness.encoder.dropout import cheap_dropout_again
from harness.encoder.encoder import Encoder
from harness.encoder.partial.config import FreezeSettings, LoraSettings
from harness.encoder.partial.depth import freeze

Backbone = Literal["bert", "t5", "albert", "qwen3"]
VOCABULARY = 120


class Projection(torch.nn.Linear):
    """A Dense layer of sentence-transformers, without that library's import, which takes seconds in every rank."""

    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:  # type: ignore[override]
        return {"sentence_embedding": super().forward(features["sentence_embedding"])}


def partial_encoder(
    dropout: float, backbone: Backbone, adapter: str, *, frozen: bool, recomputed: bool, soft_mask: bool
) -> Encoder:
    """The tiny encoder with an adapter of which no part is zero, or with frozen layers."""
    encoder = tiny_encoder(dropout, backbone=backbone, soft_mask=soft_mask)
    if recomputed:
        checkpointing = {"use_reentrant": False, "context_fn": cheap_dropout_again}
        encoder.backbone.gradient_checkpointing_enable(gradient_checkpointing_kwargs=checkpointing)
    if frozen:
        freeze(encoder, FreezeSettings(embeddings=True, layers=1))
    if adapter:
        from harness.encoder.partial.adapter import add_adapter

        lora = LoraSettings(rank=4, dropout=dropout, dora=adapter == "dora")
        encoder.adapter = add_adapter(encoder.backbone, lora, None, seed=3)
        generator = torch.Generator().manual_seed(4)
        for name, weight in encoder.named_parameters():
            if ".lora_B." in name:
                weight.data.normal_(std=0.1, generator=generator)
    return encoder


def tiny_encoder(
    dropout: float = 0.0, seed: int = 7, backbone: Backbone = "bert", *, soft_mask: bool = False
) -> Encoder:
    """soft_mask: attention of the first of three steps from causal to bidirectional."""
    torch.manual_seed(seed)
    if backbone != "bert":
        encoder = Encoder(tiny_backbone(backbone), ("last", "mean"), torch.nn.ModuleList([Projection(64, 24)]))
        if soft_mask:
            encoder.soft_mask = SoftMask(3)
            encoder.soft_mask.at_step(1)
        return encoder
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    head = torch.nn.ModuleList([Projection(32, 24)])
    return Encoder(BertModel(config, add_pooling_layer=False), ("mean",), head)


def tiny_backbone(name: Backbone) -> PreTrainedModel:
    """T5 has two names for one table, ALBERT uses one layer twice, Qwen3 is a decoder with rotary positions."""
    if name == "t5":
        config = T5Config(
            vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, dropout_rate=0.0
        )
        return T5EncoderModel(config)
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    if name == "albert":
        dropouts = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        config = AlbertConfig(**sizes, embedding_size=16, intermediate_size=64, **dropouts)
        return AlbertModel(config, add_pooling_layer=False)
    config = Qwen3Config(**sizes, intermediate_size=64, num_key_value_heads=2, head_dim=8, use_cache=False)
    return Qwen3Model(config)
