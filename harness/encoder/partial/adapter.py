"""Puts LoRA adapters into a backbone, reads and writes them in peft's format, and merges them into its weights.

This is the only importer of peft. The backbone stays what it was, with other linear layers inside: `base_layer` is the
frozen one, `lora_A` and `lora_B` are the adapter.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from harness.encoder.partial.config import LoraSettings
from harness.encoder.partial.targets import target_names
from harness.encoder.whole_model import is_head
from harness.model_folder.adapter_files import (
    ADAPTER_SETTINGS,
    ADAPTER_WEIGHTS,
    StoredAdapter,
    require_peft,
)
from harness.model_folder.find import in_one_line
from harness.settings.in_short import joined_in_short

if TYPE_CHECKING:
    from peft import LoraConfig

_NAME = "default"  # of the adapter inside peft's layers
_PREFIX = "base_model.model."  # of every name in the file
_LENGTHS = "lora_magnitude_vector"  # of DoRA
_PARTS = ("lora_A", "lora_B", _LENGTHS)


def add_adapter(
    backbone: PreTrainedModel, lora: LoraSettings | None, stored: StoredAdapter | None, seed: int
) -> LoraConfig | None:
    """Put the recipe's adapter, or the one of the model's folder, into the backbone, and freeze all else.

    An adapter of a folder is continued as it is; the recipe may only change its dropout. A new one is random by `seed`
    and changes nothing yet. Returns its settings, None without an adapter.

    Raises:
        ValueError: peft is missing, the settings do not fit the backbone, or the recipe asks for another adapter than
            the folder has.
    """
    if lora is None and stored is None:
        return None
    require_peft("model.lora: got an adapter")
    if stored is None:
        assert lora is not None
        config = _inject(backbone, _arguments(lora, backbone))
        _draw(backbone, seed)
        return config
    around = _name_inside_a_head_model(backbone, stored)
    config = _inject(backbone, _stored_arguments(stored, lora), around=around)
    if lora is not None:
        _check_same(lora, config, backbone, stored)
    _load(backbone, stored, around)
    return config if around is None else _by_full_names(config, backbone)


def add_unloaded_adapter(
    backbone: PreTrainedModel, lora: LoraSettings | None, stored: StoredAdapter | None, dtype: torch.dtype
) -> LoraConfig | None:
    """The adapter that `add_adapter` would put there, without its numbers and in `dtype`."""
    if lora is None and stored is None:
        return None
    require_peft("model.lora: got an adapter")
    around = None if stored is None else _name_inside_a_head_model(backbone, stored)
    arguments = _stored_arguments(stored, lora) if stored is not None else _arguments(lora, backbone)  # type: ignore[arg-type]
    with _modules_stay():
        return _inject(backbone, arguments, dtype, around=around)


@contextmanager
def _modules_stay() -> Iterator[None]:
    """Modules stay on their device: peft moves each to that of its layer, and torch refuses to swap fake tensors."""
    moved = nn.Module.to
    nn.Module.to = lambda module, *_arguments, **_names: module  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.to = moved  # type: ignore[method-assign]


def write_adapter(folder: Path, config: LoraConfig, state: Mapping[str, Tensor], base: str) -> None:
    """Write adapter_config.json and adapter_model.safetensors.

    DoRA's lengths are called `lora_magnitude_vector.weight`. peft, which reads both, leaves out the end when it writes;
    transformers, and so sentence-transformers, then loads none of them, without a word.

    state: the encoder's weights, of which those of the adapter are written. base: the model that it changes, as peft
    shall find it.
    """
    written = {
        _PREFIX + _name_in_file(name): value.contiguous()
        for name, value in state.items()
        if any(f".{part}." in name for part in _PARTS)
    }
    save_file(written, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    stored = type(config).from_peft_type(**(config.to_dict() | {"inference_mode": True}))
    stored.base_model_name_or_path, stored.task_type = base, "FEATURE_EXTRACTION"
    stored.save_pretrained(str(folder))
    settings = json.loads((folder / ADAPTER_SETTINGS).read_text(encoding="utf-8"))
    for key in ("target_modules", "exclude_modules"):
        if isinstance(settings[key], list):  # peft holds a set: another order in every process. A text is a pattern
            settings[key] = sorted(settings[key])
    (folder / ADAPTER_SETTINGS).write_text(json.dumps(settings, indent=2, sort_keys=True), encoding="utf-8")


def merge_adapter(backbone: nn.Module) -> None:
    """W + scale · B A (DoRA: its rows brought to their lengths) takes the place of every adapted layer, in place.

    Raises:
        ValueError: a merged weight is not finite.
    """
    from peft.tuners.lora import LoraLayer

    for name, module in list(backbone.named_modules()):
        if isinstance(module, LoraLayer):
            try:
                module.merge(safe_merge=True)
            except ValueError as error:
                raise ValueError(f"{name}: got an adapter that cannot be merged ({in_one_line(error)})") from error
            parent, _, last = name.rpartition(".")
            setattr(backbone.get_submodule(parent), last, module.get_base_layer())
    for parameter in backbone.parameters():
        parameter.requires_grad_(True)
    if hasattr(backbone, "peft_config"):
        del backbone.peft_config


def without_new_adapter(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The same weights as a model without an adapter has them, if the adapter changes nothing yet (B is zero).

    So a bank that the base model has ranked is known as ranked by the weights that a run with an adapter starts with.
    """
    outputs = [value for name, value in state.items() if ".lora_B." in name]
    if not outputs or any(bool(value.any()) for value in outputs):
        return state
    kept = {name: value for name, value in state.items() if not any(f".{part}." in name for part in _PARTS)}
    return {name.replace(".base_layer.", "."): value for name, value in kept.items()}


def _arguments(lora: LoraSettings, backbone: PreTrainedModel) -> dict[str, Any]:
    """The recipe's settings as peft's `LoraConfig` takes them."""
    model_type = backbone.config.get_text_config().model_type
    return {
        "r": lora.rank,
        "lora_alpha": 2 * lora.rank if lora.alpha is None else lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": target_names(backbone, model_type, lora.target_modules),
        "use_dora": lora.dora,
        "use_rslora": lora.rank_stabilised,
    }


def _stored_arguments(stored: StoredAdapter, lora: LoraSettings | None) -> dict[str, Any]:
    """A folder's settings as peft takes them, with the recipe's dropout."""
    return stored.peft_arguments | ({} if lora is None else {"lora_dropout": lora.dropout})


def _name_inside_a_head_model(backbone: PreTrainedModel, stored: StoredAdapter) -> str | None:
    """What the model that the adapter was trained in, which has a head, calls this backbone; None: it had no head."""
    name = backbone.base_model_prefix
    if name in dict(backbone.named_children()):
        return None
    with safe_open(stored.folder / ADAPTER_WEIGHTS, "pt") as file:
        has_head = any(key.startswith(f"{_PREFIX}{name}.") for key in file.keys())  # noqa: SIM118 (no dict)
    return name if has_head else None


def _by_full_names(config: LoraConfig, backbone: nn.Module) -> LoraConfig:
    """The settings of an adapter that was trained beside a head, for the backbone alone.

    Their patterns may hold the backbone's name in the model with the head, and so match nothing in the backbone.
    """
    from peft.tuners.lora import LoraLayer

    layers = {name: module for name, module in backbone.named_modules() if isinstance(module, LoraLayer)}
    return replace(
        config,
        target_modules=sorted(layers),
        exclude_modules=None,
        layers_to_transform=None,
        layers_pattern=None,
        rank_pattern={name: layer.r[_NAME] for name, layer in layers.items() if layer.r[_NAME] != config.r},
        alpha_pattern={
            name: layer.lora_alpha[_NAME]
            for name, layer in layers.items()
            if layer.lora_alpha[_NAME] != config.lora_alpha
        },
    )


def _inject(
    backbone: PreTrainedModel,
    arguments: dict[str, Any],
    dtype: torch.dtype = torch.float32,
    *,
    around: str | None = None,
) -> LoraConfig:
    """Put an adapter of this type into the backbone, and freeze all other weights of it.

    around: what a model around the backbone calls it, for settings that were written for that model.
    """
    from peft import LoraConfig, inject_adapter_in_model
    from peft.tuners.lora import Linear, LoraLayer

    config = LoraConfig(**arguments)
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.filterwarnings("ignore", message=".*fan_in_fan_out.*")  # which peft then sets rightly by itself
        try:
            model: nn.Module = backbone if around is None else nn.ModuleDict({around: backbone})
            inject_adapter_in_model(config, model, _NAME)
        except (ValueError, TypeError, NotImplementedError, RuntimeError) as error:  # each is one that peft raises
            raise ValueError(
                f"model.lora: got an adapter that peft cannot put into this backbone ({in_one_line(error)}), expected "
                "linear layers that it knows; see model.lora.target_modules"
            ) from error
    other = [name for name, m in backbone.named_modules() if isinstance(m, LoraLayer) and not isinstance(m, Linear)]
    if other:
        raise ValueError(
            f"model.lora.target_modules: got {joined_in_short(other[:3])}, which are no linear layers, expected linear "
            "layers only; name others"
        )
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(any(f".{part}." in name for part in _PARTS))
        if parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)  # peft gives it the type of the layer's weights
    return config


def _draw(backbone: nn.Module, seed: int) -> None:
    """The start of a new adapter as in peft, from a seed of its own, so that it depends on nothing drawn before."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in backbone.named_parameters():
        if ".lora_A." in name:
            nn.init.kaiming_uniform_(parameter, a=math.sqrt(5), generator=generator)


def _check_same(lora: LoraSettings, config: LoraConfig, backbone: PreTrainedModel, stored: StoredAdapter) -> None:
    """Raise if the recipe asks for another adapter than the one that it continues."""
    asked: dict[str, tuple[Any, Any]] = {
        "rank": (lora.rank, config.r),
        "alpha": (2 * lora.rank if lora.alpha is None else lora.alpha, config.lora_alpha),
        "dora": (lora.dora, config.use_dora),
        "rank_stabilised": (lora.rank_stabilised, config.use_rslora),
    }
    if not isinstance(lora.target_modules, str):
        asked["target_modules"] = (sorted(lora.target_modules), sorted(config.target_modules or ()))
    for key, (wanted, has) in asked.items():
        if wanted != has:
            raise ValueError(
                f"model.lora.{key}: got {wanted}, but the adapter in {stored.folder} has {has}, and it is continued as "
                "it is; leave model.lora out, or merge it first (harness export) and name that model to train a new one"
            )


def _load(backbone: PreTrainedModel, stored: StoredAdapter, around: str | None) -> None:
    """Give the adapter the weights of its file; every one must have its place. around: see `_inject`."""
    file = stored.folder / ADAPTER_WEIGHTS
    prefix = "" if around is None else f"{around}."
    found = {
        name.removeprefix(_PREFIX).removeprefix(prefix) + (".weight" if name.endswith(_LENGTHS) else ""): value.float()
        for name, value in load_file(file).items()
    }
    own = {name: parameter for name, parameter in backbone.named_parameters() if parameter.requires_grad}
    wanted = {_name_in_file(name): parameter for name, parameter in own.items()}
    # Embeddings depend on neither the pooler, which the encoder has removed, nor on heads.
    found = {
        name: value for name, value in found.items() if not (name.startswith("pooler.") or is_head(name, backbone))
    }
    odd = sorted(found.keys() ^ wanted.keys())
    odd += [name for name in found.keys() & wanted.keys() if found[name].shape != wanted[name].shape]
    if odd:
        raise ValueError(
            f"{file}: got weights that do not fit its model and settings ({joined_in_short(odd[:3])}), expected the "
            f"{len(wanted)} of this adapter; correct base_model_name_or_path or target_modules in {ADAPTER_SETTINGS}"
        )
    for name, parameter in wanted.items():
        if not bool(found[name].isfinite().all()):
            raise ValueError(f"{file}: got numbers that are NaN or infinite in {name}; take another checkpoint")
        parameter.data.copy_(found[name])


def _name_in_file(name: str) -> str:
    """A weight of the adapter as peft names it in a file, which knows one adapter only."""
    return name.removeprefix("backbone.").replace(f".{_NAME}", "")
