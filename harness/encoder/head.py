"""The modules between the pooled vector and the embedding: sentence-transformers' own Dense, LayerNorm, Normalize."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from harness.encoder.config import ModelConfig
from harness.model_folder.find import words_of
from harness.model_folder.layout import HeadModule


def build_head(
    config: ModelConfig, stored: Sequence[HeadModule], pooled_dim: int, dropout: float | None, seed: int
) -> nn.ModuleList:
    """The folder's modules, and a new Dense layer if the recipe asks for one that the folder does not have.

    pooled_dim: dimensions of the pooled vector. dropout: replaces the rates of the folder's Dropout modules.

    Raises:
        ValueError: a module does not fit the vector before it, or the folder's Dense layer gives another number of
            dimensions than `projection_dim`.
    """
    head, dim, has_dense = nn.ModuleList(), pooled_dim, False
    for module in stored:
        loaded = _load(module)
        size = getattr(loaded, "in_features", getattr(loaded, "dimension", dim))
        if size != dim:
            raise ValueError(
                f"{module.folder}: got a {module.kind} layer for {size} dimensions after a vector of {dim}, expected "
                "equal numbers; leave model.pooling out to keep the folder's own, or download the model again"
            )
        if module.kind == "Dropout" and dropout is not None:
            loaded.dropout_layer.p = dropout
        if module.kind == "Dense":
            dim, has_dense = loaded.out_features, True
        head.append(loaded)
    wanted = config.projection_dim
    if wanted is None or (has_dense and wanted == dim):
        return head
    if has_dense:
        raise ValueError(
            f"model.projection_dim: got {wanted}, but {config.name_or_path} has a Dense layer to {dim} dimensions; "
            "leave it out to train that one, or name a model without a Dense layer"
        )
    head.append(_new_dense(dim, wanted, seed))
    return head


def _load(module: HeadModule) -> Any:
    """A module with its weights, by its own `load`, in float32."""
    # Imported here: the import takes seconds, and most models have no head.
    from sentence_transformers.sentence_transformer import modules

    try:
        return getattr(modules, module.kind).load(str(module.folder)).float()
    except (RuntimeError, TypeError, AttributeError, ImportError) as error:
        reason = words_of(error)
        raise ValueError(
            f"{module.folder}: got a {module.kind} module that cannot be loaded ({reason[:300]}), expected config.json "
            "and model.safetensors that fit each other; download the model again"
        ) from error


def _new_dense(in_features: int, out_features: int, seed: int) -> nn.Module:
    """A linear layer with bias, whose weights depend on `seed` only."""
    from sentence_transformers.sentence_transformer.modules import Dense

    dense = Dense(in_features, out_features, activation_function=nn.Identity())
    generator = torch.Generator().manual_seed(seed)
    bound = in_features**-0.5
    for parameter in dense.parameters():
        nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return dense
