"""The modules between the pooled vector and the embedding: sentence-transformers' own Dense, LayerNorm, Normalize."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from harness.encoder.config import ModelConfig
from harness.model_folder.find import words_of
from harness.model_folder.layout import HeadModule


def load_module(module: HeadModule) -> Any:
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


def module_without_weights(module: HeadModule) -> Any:
    """A module as its config.json says; no weights are read. Its numbers are those of a new module."""
    from sentence_transformers.sentence_transformer import modules
    from sentence_transformers.util import import_from_string

    module_class = getattr(modules, module.kind)
    config = module_class.load_config(str(module.folder))
    if "activation_function" in config:  # a class of torch.nn, as the folder's check has made sure
        config["activation_function"] = import_from_string(config["activation_function"])()
    accepted = inspect.signature(module_class).parameters
    return module_class(**{key: value for key, value in config.items() if key in accepted})


def build_head(
    config: ModelConfig,
    stored: Sequence[HeadModule],
    pooled_dim: int,
    dropout: float | None,
    seed: int,
    make: Callable[[HeadModule], Any] = load_module,
) -> nn.ModuleList:
    """The folder's modules, and a new Dense layer if the recipe asks for one that the folder does not have.

    pooled_dim: dimensions of the pooled vector. dropout: replaces the rates of the folder's Dropout modules. make: how
    a stored module is made, with or without its weights.

    Raises:
        ValueError: a module does not fit the vector before it, or the folder's Dense layer gives another number of
            dimensions than `projection_dim`.
    """
    head, dim, has_dense = nn.ModuleList(), pooled_dim, False
    for module in stored:
        made = make(module)
        _check_size(module, made, dim)
        if module.kind == "Dropout" and dropout is not None:
            made.dropout_layer.p = dropout
        if module.kind == "Dense":
            dim, has_dense = made.out_features, True
        head.append(made)
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


def _check_size(module: HeadModule, made: Any, dim: int) -> None:
    """Check that a module takes the vector before it, of `dim` dimensions."""
    size = getattr(made, "in_features", getattr(made, "dimension", dim))
    if size != dim:
        raise ValueError(
            f"{module.folder}: got a {module.kind} layer for {size} dimensions after a vector of {dim}, expected "
            "equal numbers; leave model.pooling out to keep the folder's own, or download the model again"
        )


def _new_dense(in_features: int, out_features: int, seed: int) -> nn.Module:
    """A linear layer with bias, whose weights depend on `seed` only."""
    from sentence_transformers.sentence_transformer.modules import Dense

    dense = Dense(in_features, out_features, activation_function=nn.Identity())
    generator = torch.Generator().manual_seed(seed)
    bound = in_features**-0.5
    for parameter in dense.parameters():
        nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return dense
