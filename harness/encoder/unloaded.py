"""An encoder of the size that the recipe names, without its weights: for predicting what training it will cost."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, cast

import torch
from transformers import AutoModel, PreTrainedModel

from harness.encoder.attention.direction import as_adapter_says, with_attention_mask
from harness.encoder.attention.soft_mask import SoftMask
from harness.encoder.config import ModelConfig
from harness.encoder.dropout import cheap_dropout_again
from harness.encoder.encoder import Encoder
from harness.encoder.head import build_head, module_without_weights
from harness.encoder.load import check_checkpointing, remove_pooler, set_dropout, switch_cache_off
from harness.encoder.partial.adapter import add_unloaded_adapter
from harness.encoder.partial.depth import freeze
from harness.encoder.text_model import text_model_class
from harness.model_folder.configuration import backbone_config, default_pooling
from harness.model_folder.find import in_one_line, resolve_model
from harness.model_folder.layout import folder_of_backbone, read_layout
from harness.model_folder.pooling import PoolingMode

Contexts = Callable[[], tuple[AbstractContextManager[object], AbstractContextManager[object]]]


def unloaded_encoder(
    config: ModelConfig,
    dropout: float | None = None,
    dtype: torch.dtype = torch.float32,
    contexts_again: Contexts = cheap_dropout_again,
) -> Encoder:
    """The encoder that `load_encoder` would give, with new weights in `dtype`.

    Only configurations are read. Call it inside `FakeTensorMode`, so that no memory is allocated for the weights.
    contexts_again: for gradient checkpointing, of a layer's forward and of its repetition.

    Raises:
        ValueError: no such model, or one that transformers cannot build from its configuration alone.
    """
    folder = resolve_model(config.name_or_path, config.trust_remote_code)
    layout = read_layout(folder)
    config = as_adapter_says(config, layout)
    backbone = _backbone(config, folder_of_backbone(folder, layout), dropout, dtype, contexts_again)
    backbone.pooler_is_random = True  # type: ignore[assignment]  # so that nothing of it is kept for an export
    remove_pooler(backbone)
    adapter = add_unloaded_adapter(backbone, config.lora, layout.adapter, dtype)
    pooling = cast(tuple[PoolingMode, ...], config.pooling) or layout.pooling or default_pooling(backbone.config)
    encoder = Encoder(backbone, pooling, layout=layout)
    if config.attention_mask == "soft":
        encoder.soft_mask = SoftMask(1)
        encoder.soft_mask.at_step(1)
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        encoder.head = build_head(config, layout.head, encoder.pooled_dim, dropout, 0, module_without_weights)
    finally:
        torch.set_default_dtype(default)
    encoder.adapter = adapter
    freeze(encoder, config.freeze)
    return encoder


def _backbone(
    config: ModelConfig, folder: str, dropout: float | None, dtype: torch.dtype, contexts_again: Contexts
) -> PreTrainedModel:
    settings = with_attention_mask(copy.deepcopy(backbone_config(folder, config.trust_remote_code)), config)
    if dropout is not None:
        set_dropout(settings, dropout, config.name_or_path)
    switch_cache_off(settings)
    model_class = text_model_class(settings)
    options: dict[str, Any] = {"dtype": dtype}
    if config.attention == "eager":  # flash_attention_2 keeps what PyTorch's fused attention keeps, and may be missing
        options["attn_implementation"] = config.attention
    try:
        if model_class is AutoModel:
            backbone = AutoModel.from_config(settings, trust_remote_code=config.trust_remote_code, **options)
        else:
            backbone = model_class._from_config(settings, **options)
    except (ValueError, TypeError, AttributeError, ImportError, RuntimeError) as error:
        raise ValueError(
            f"model.name_or_path: got {config.name_or_path}, which cannot be built from its configuration alone "
            f"({in_one_line(error)}), expected a model of transformers; check model.attention"
        ) from error
    if config.gradient_checkpointing:
        check_checkpointing(backbone, config.name_or_path)
        backbone.gradient_checkpointing_enable(
            gradient_checkpointing_kwargs={"use_reentrant": False, "context_fn": contexts_again}
        )
    return backbone
