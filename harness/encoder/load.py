"""Loads an encoder with its weights, as the recipe's `model` section says or as the model folder itself says.

To add an option of the backbone: add a field to `ModelConfig` and apply it in `_load_backbone`.
"""

from __future__ import annotations

import copy
import warnings

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel

from harness.encoder.config import ModelConfig
from harness.encoder.encoder import Encoder
from harness.model_folder.configuration import backbone_config, position_limit
from harness.model_folder.find import resolve_model
from harness.model_folder.layout import Layout, read_layout
from harness.model_folder.pooling import PoolingMode


def load_encoder(config: ModelConfig, dropout: float | None = None, seed: int = 0) -> Encoder:
    """Load an encoder in float32 from safetensors; a new projection gets random weights from `seed`.

    If the Dense layer of a sentence-transformers folder has `projection_dim` outputs, it becomes the projection.
    Another pooling than the folder's gives a UserWarning. `dropout` replaces the dropout rates of the loaded modules.
    The backbone's config keeps the original rates, so that an export stores them.

    Raises:
        ValueError: no such model, no safetensors weights, lengths or dims that do not fit, or `dropout` for a model
            without dropout.
    """
    _check_text_length(config)
    folder = resolve_model(config.name_or_path, config.trust_remote_code)
    backbone = _load_backbone(config, folder, dropout)
    unused_state = _remove_pooler(backbone)
    layout = read_layout(folder)
    _warn_of_another_pooling(config, layout)
    projection = _load_projection(config, layout, backbone.config.hidden_size, seed)
    encoder = Encoder(backbone, config.pooling, projection)
    encoder.unused_backbone_state = unused_state
    if config.matryoshka_dims and config.matryoshka_dims[-1] > encoder.dim:
        raise ValueError(
            f"model.matryoshka_dims: got {config.matryoshka_dims[-1]}, but the embedding has {encoder.dim} "
            "dimensions; lower it or set model.projection_dim"
        )
    return encoder


def config_of_folder(
    name_or_path: str,
    *,
    max_length: int | None = None,
    pooling: PoolingMode | None = None,
    trust_remote_code: bool = False,
) -> ModelConfig:
    """The settings to load a model as it was trained, with the pooling, projection and length of its folder.

    A folder that does not state them gets mean pooling and at most 512 tokens. `max_length` and `pooling` replace the
    folder's values.

    Raises:
        ValueError: no such model, or a folder with modules that cannot be reproduced.
    """
    layout = read_layout(resolve_model(name_or_path, trust_remote_code))
    limit = position_limit(name_or_path, trust_remote_code)
    return ModelConfig(
        name_or_path=name_or_path,
        pooling=pooling or layout.pooling or "mean",
        projection_dim=None if layout.projection is None else int(layout.projection["weight"].shape[0]),
        max_length=max_length or layout.max_length or min(512, limit or 512),
        trust_remote_code=trust_remote_code,
    )


def _check_text_length(config: ModelConfig) -> None:
    """Check that the model has a position for every token of the longest text that the recipe allows."""
    limit = position_limit(config.name_or_path, config.trust_remote_code)
    if limit is not None and config.longest_text > limit:
        raise ValueError(
            f"model.max_length: got {config.longest_text}, but {config.name_or_path} takes at most {limit} tokens"
        )


def _load_backbone(config: ModelConfig, folder: str, dropout: float | None) -> PreTrainedModel:
    """The backbone in float32, with the recipe's options: dropout, attention, gradient checkpointing."""
    settings = copy.deepcopy(backbone_config(folder, config.trust_remote_code))
    own_dropout = {} if dropout is None else _set_dropout(settings, dropout, config.name_or_path)
    options: dict = {"trust_remote_code": config.trust_remote_code}
    if config.attention != "auto":
        options["attn_implementation"] = config.attention
    try:
        backbone = AutoModel.from_pretrained(
            folder, config=settings, use_safetensors=True, dtype=torch.float32, **options
        )
    except OSError as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"model.name_or_path: got {config.name_or_path}, expected a folder or hub name with safetensors "
            f"weights ({reason}); convert .bin weights with safetensors first"
        ) from error
    for name, value in own_dropout.items():
        setattr(backbone.config, name, value)
    if config.gradient_checkpointing:
        backbone.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return backbone


def _remove_pooler(backbone: PreTrainedModel) -> dict[str, Tensor]:
    """Remove the backbone's own pooler and return its weights.

    The encoder pools the token states itself, so the pooler would never get a gradient.
    """
    pooler = getattr(backbone, "pooler", None)
    if pooler is None:
        return {}
    backbone.pooler = None  # type: ignore[assignment]
    return {f"pooler.{name}": value.clone() for name, value in pooler.state_dict().items()}


def _set_dropout(settings: object, dropout: float, model: str) -> dict[str, float]:
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


def _warn_of_another_pooling(config: ModelConfig, layout: Layout) -> None:
    if layout.pooling not in (None, config.pooling):
        warnings.warn(
            f"model.pooling: got {config.pooling}, but {config.name_or_path} was trained with {layout.pooling}; "
            f"set model.pooling: {layout.pooling} unless the change is meant",
            stacklevel=1,
        )


def _load_projection(config: ModelConfig, layout: Layout, hidden_size: int, seed: int) -> nn.Linear | None:
    """The folder's Dense layer if it has the size that the recipe asks for, else one drawn from `seed`."""
    stored = layout.projection
    if config.projection_dim is None:
        if stored is not None:
            out_features = stored["weight"].shape[0]
            raise ValueError(
                f"model.projection_dim: got null, but {config.name_or_path} has a Dense layer {hidden_size} → "
                f"{out_features}; set model.projection_dim: {out_features}"
            )
        return None
    projection = nn.Linear(hidden_size, config.projection_dim)
    if stored is not None and stored["weight"].shape == projection.weight.shape:
        projection.load_state_dict(stored)
        return projection
    generator = torch.Generator().manual_seed(seed)
    bound = hidden_size**-0.5
    for parameter in projection.parameters():
        nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return projection
