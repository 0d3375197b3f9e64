"""Loads an encoder with its weights, as the recipe's `model` section says or as the model folder itself says.

To add an option of the backbone: add a field to `ModelConfig` and apply it in `_load_backbone`.
"""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from harness.encoder.attention.direction import as_adapter_says, unread_key, with_attention_mask
from harness.encoder.attention.probe import check_attention_mask
from harness.encoder.config import ModelConfig
from harness.encoder.dropout import cheap_dropout_again
from harness.encoder.encoder import Encoder
from harness.encoder.head import build_head
from harness.encoder.partial.adapter import add_adapter
from harness.encoder.partial.depth import freeze
from harness.encoder.text_model import check_padding, text_model_class
from harness.encoder.whole_model import check_finite, load_whole
from harness.model_folder.configuration import (
    backbone_config,
    check_text_length,
    default_pooling,
    position_limit,
    usual_length,
)
from harness.model_folder.find import resolve_model, words_of
from harness.model_folder.layout import Layout, folder_of_backbone, read_layout
from harness.model_folder.pooling import PoolingMode
from harness.model_folder.weight_files import stored_type


def load_encoder(
    config: ModelConfig, dropout: float | None = None, seed: int = 0, *, as_stored: bool = False
) -> Encoder:
    """Load an encoder in float32 from safetensors, with the pooling and the head of its folder.

    With `projection_dim`, a folder without a Dense layer gets a new one with random weights from `seed`. Another
    pooling than the folder's, or longer texts, give a UserWarning. `dropout` replaces the dropout rates of the loaded
    modules. The backbone's config keeps the original rates, so that an export stores them. With `lora`, or a folder
    that holds an adapter, the backbone has an adapter inside and all else of it is frozen; `freeze` freezes a part.

    as_stored: give the backbone's weights the type that they have in the model's files, if it is one type. They are
        then views of the mapped files, which take no memory of this process until they are converted.

    Raises:
        ValueError: no such model, no safetensors weights, lengths or dims that do not fit, modules that cannot be
            reproduced, or `dropout` for a model without dropout.
    """
    folder = resolve_model(config.name_or_path, config.trust_remote_code)
    layout = read_layout(folder)
    config = as_adapter_says(config, layout)
    check_text_length(config.longest_text, config.name_or_path, config.trust_remote_code)
    backbone = _load_backbone(config, folder_of_backbone(folder, layout), dropout, as_stored)
    unused_state = remove_pooler(backbone)
    check_attention_mask(backbone, config)
    if config.attention != "flash_attention_2":  # which does not run on a CPU, where the model is now
        check_padding(backbone, config.name_or_path)
    _warn_of_another_use(config, layout, backbone.config)
    adapter = add_adapter(backbone, config.lora, layout.adapter, seed)
    encoder = Encoder(
        backbone,
        cast(tuple[PoolingMode, ...], config.pooling) or layout.pooling or _unnamed_pooling(config, backbone),
        layout=layout,
        normalize=_first_known(config.normalize, layout.normalize, True),
    )
    encoder.head = build_head(config, layout.head, encoder.pooled_dim, dropout, seed)
    check_finite(config.name_or_path, encoder.head.named_parameters(prefix="head"))
    encoder.unused_backbone_state, encoder.adapter = unused_state, adapter
    freeze(encoder, config.freeze)
    _check_dims(config, encoder.dim)
    return encoder


def _check_dims(config: ModelConfig, dim: int) -> None:
    if config.matryoshka_dims and config.matryoshka_dims[-1] > dim:
        raise ValueError(
            f"model.matryoshka_dims: got {config.matryoshka_dims[-1]}, but the embedding has {dim} "
            "dimensions; lower it or set model.projection_dim"
        )


def config_of_folder(
    name_or_path: str,
    *,
    max_length: int | None = None,
    pooling: PoolingMode | None = None,
    trust_remote_code: bool = False,
) -> ModelConfig:
    """The settings to load a model as it was trained, with the pooling, head and length of its folder.

    A folder that does not state them gets the pooling of `default_pooling` and at most 512 tokens. `max_length` and
    `pooling` replace the folder's values.

    Raises:
        ValueError: no such model, or a folder with modules that cannot be reproduced.
    """
    layout = read_layout(resolve_model(name_or_path, trust_remote_code))
    limit = position_limit(name_or_path, trust_remote_code)
    return ModelConfig(
        name_or_path=name_or_path,
        pooling=None if pooling is None else (pooling,),
        max_length=max_length or usual_length(layout, limit),
        trust_remote_code=trust_remote_code,
    )


def _first_known(*values: bool | None) -> bool:
    return next(value for value in values if value is not None)


def _load_backbone(config: ModelConfig, folder: str, dropout: float | None, as_stored: bool) -> PreTrainedModel:
    """The backbone in float32 or as stored, with the recipe's options: dropout, attention, gradient checkpointing."""
    settings = with_attention_mask(copy.deepcopy(backbone_config(folder, config.trust_remote_code)), config)
    own_dropout = {} if dropout is None else set_dropout(settings, dropout, config.name_or_path)
    switch_cache_off(settings)
    options: dict = {
        "trust_remote_code": config.trust_remote_code,
        "use_safetensors": True,
    }
    if config.attention != "auto":
        options["attn_implementation"] = config.attention
    options["dtype"] = dtype = getattr(torch, (stored_type(Path(folder)) if as_stored else None) or "float32")
    try:
        model_class = text_model_class(settings)
        backbone = load_whole(model_class, folder, config.name_or_path, config=settings, **options)
        if dtype != torch.float32 and not _has_float32_buffers(backbone):
            options["dtype"] = torch.float32
            backbone = load_whole(model_class, folder, config.name_or_path, config=settings, **options)
    except OSError as error:
        reason = words_of(error)
        raise ValueError(
            f"model.name_or_path: got {config.name_or_path}, expected a folder or hub name with safetensors "
            f"weights ({reason}); convert .bin weights with safetensors first"
        ) from error
    backbone.config.dtype = torch.float32  # of the weights that are trained and exported
    for name, value in own_dropout.items():
        setattr(backbone.config, name, value)
    if config.gradient_checkpointing:
        check_checkpointing(backbone, config.name_or_path)
        backbone.gradient_checkpointing_enable(
            gradient_checkpointing_kwargs={"use_reentrant": False, "context_fn": cheap_dropout_again}
        )
    return backbone


def check_checkpointing(backbone: PreTrainedModel, name: str) -> None:
    """Raise ValueError for a backbone whose class cannot compute the states of a layer again, as ALBERT's."""
    if not backbone.supports_gradient_checkpointing:
        raise ValueError(
            f"model.gradient_checkpointing: got true, but {name} is of type {backbone.config.model_type}, for which "
            "transformers has none, expected false; lower training.micro_batch_tokens to take less memory"
        )


def _has_float32_buffers(backbone: PreTrainedModel) -> bool:
    """Whether no buffer was rounded: some models (as Gemma) compute numbers in the type that they are loaded in."""
    return all(buffer.dtype == torch.float32 for buffer in backbone.buffers() if buffer.is_floating_point())


def switch_cache_off(settings: PreTrainedConfig) -> None:
    """Decoders keep the keys and values of every layer for texts that grow; an embedding needs a text only once."""
    for part in (settings, settings.get_text_config()):
        if hasattr(part, "use_cache"):
            part.use_cache = False


def remove_pooler(backbone: PreTrainedModel) -> dict[str, Tensor]:
    """Remove the backbone's own pooler and return its weights.

    The encoder pools the token states itself, so the pooler would never get a gradient. Some backbones call it without
    looking whether it is there, so something that changes nothing takes its place. A pooler that is not in the model's
    files has no weights to return.
    """
    pooler = getattr(backbone, "pooler", None)
    if pooler is None:
        return {}
    backbone.pooler = nn.Identity()
    if backbone.pooler_is_random:
        return {}
    return {f"pooler.{name}": value.float().clone() for name, value in pooler.state_dict().items()}


def set_dropout(settings: object, dropout: float, model: str) -> dict[str, float]:
    """Set every dropout rate of a configuration. Returns name → original rate."""
    own_dropout = {
        name: value
        for name, value in vars(settings).items()
        if ("dropout" in name or "pdrop" in name) and isinstance(value, float | int) and not isinstance(value, bool)
    }
    if not own_dropout and dropout > 0:
        raise ValueError(
            f"training.dropout: got {dropout}, but {model} has no dropout that could be set; set training.dropout: null"
        )
    for name in own_dropout:
        setattr(settings, name, dropout)
    return own_dropout


def _warn_of_another_use(config: ModelConfig, layout: Layout, settings: PreTrainedConfig) -> None:
    """Say where the model is used in another way than its folder says."""
    name = config.name_or_path
    if config.attention_mask is None and (line := unread_key(settings)) is not None:
        _warn(f"{name}: {line}")
    if layout.pooling is not None and config.pooling not in (None, layout.pooling):
        trained = " + ".join(layout.pooling)
        _warn(
            f"model.pooling: got {' + '.join(config.pooling or ())}, but {name} was trained with {trained}; "
            "leave model.pooling out unless the change is meant"
        )
    if layout.max_length is not None and config.longest_text > layout.max_length:
        _warn(
            f"model.max_length: got {config.longest_text} tokens, but {name} was trained with at most "
            f"{layout.max_length}; set model.max_length: {layout.max_length} unless the change is meant"
        )
    if layout.similarity not in (None, "cosine") and not layout.normalize:
        _warn(
            f"model.name_or_path: {name} says similarity_fn_name: {layout.similarity}, but texts are compared by "
            "cosine here, in training and in every score; the exported model says cosine"
        )


def _unnamed_pooling(config: ModelConfig, backbone: PreTrainedModel) -> tuple[PoolingMode, ...]:
    """The pooling of a folder that names none, which is said: another one would give other embeddings."""
    (pooling,) = default_pooling(backbone.config)
    _warn(
        f"model.pooling: {config.name_or_path} names no pooling, so it is {pooling}, as in sentence-transformers; set "
        f"model.pooling: {pooling} (--pooling {pooling}) or another one"
    )
    return (pooling,)


def _warn(text: str) -> None:
    warnings.warn(text, UserWarning, stacklevel=1)
