"""How deep a weight lies in an encoder: 0 the embeddings, 1 to n the layers, n + 1 what follows them (head, last norm).

Used by `model.freeze` and by layer-wise learning-rate decay (`training.layer_decay`).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from harness.encoder.encoder import Encoder
from harness.encoder.partial.config import FreezeSettings


@dataclass(frozen=True, slots=True)
class Depths:
    """of: the depth of every weight by its name. num_layers: n."""

    of: dict[str, int]
    num_layers: int


def depths(encoder: nn.Module, knob: str) -> Depths:
    """The depth of every weight of an encoder. knob: the recipe's key that asks for it, for messages.

    A table of embeddings (`nn.Embedding`) outside of the layers counts as depth 0 wherever it stands; so does all that
    stands before the first layer. What several layers share has the depth of the first.

    Raises:
        ValueError: the backbone has no list of layers, or its layers share their weights, as ALBERT's.
    """
    assert isinstance(encoder, Encoder)
    backbone, config = encoder.backbone, encoder.backbone.config.get_text_config()
    lists = [(name, module) for name, module in backbone.named_modules() if isinstance(module, nn.ModuleList)]
    prefix, layers = max(lists, key=lambda entry: len(entry[1]), default=("", nn.ModuleList()))
    stated = getattr(config, "num_hidden_layers", None) or getattr(config, "num_layers", None)
    if not len(layers) or (isinstance(stated, int) and stated != len(layers)):
        raise ValueError(
            f"{knob}: got a backbone of type {config.model_type} with {len(layers)} layers of {stated} that can be "
            "told apart, expected weights of their own for every layer; leave it out for this model"
        )
    tables = {name for name, module in backbone.named_modules() if isinstance(module, nn.Embedding)}
    of, is_before = {}, True
    for name, _ in encoder.named_parameters():
        inside = name.removeprefix("backbone.")
        if name.startswith("backbone.") and inside.startswith(f"{prefix}."):
            of[name], is_before = 1 + int(inside.removeprefix(f"{prefix}.").split(".")[0]), False
        elif name.startswith("backbone.") and (is_before or inside.rpartition(".")[0] in tables):
            of[name] = 0
        else:
            of[name] = len(layers) + 1
    return Depths(of, len(layers))


def trained_share(encoder: nn.Module) -> list[str]:
    """A line that says how many weights are trained; none if all are."""
    weights = list(encoder.parameters())
    total, trained = sum(w.numel() for w in weights), sum(w.numel() for w in weights if w.requires_grad)
    return [] if trained == total else [trained_line(trained, total)]


def trained_line(trained: int, total: int) -> str:
    """How many of the weights are trained, in words."""
    return f"trained: {trained:,} of {total:,} weights ({trained / total:.2%}); the others are frozen"


def freeze(encoder: Encoder, settings: FreezeSettings) -> None:
    """Take the weights of `model.freeze` out of the training.

    Raises:
        ValueError: the model has fewer layers, or nothing is left to train.
    """
    if settings == FreezeSettings():
        return
    found = depths(encoder, "model.freeze")
    if settings.layers > found.num_layers:
        raise ValueError(
            f"model.freeze.layers: got {settings.layers}, but the model has {found.num_layers} layers; lower it"
        )
    for name, parameter in encoder.named_parameters():
        depth = found.of[name]
        if (depth == 0 and settings.embeddings) or 1 <= depth <= settings.layers:
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in encoder.parameters()):
        raise ValueError("model.freeze: got nothing that is left to train, expected some layer or a head; freeze fewer")
