"""Reads what a sentence-transformers folder holds besides the backbone: pooling, Dense layer, prompts, maximum length.

The folder's modules.json lists the modules (Transformer, Pooling, Dense, Normalize) and the folder of each.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from harness.model_folder.pooling import POOLINGS, PoolingMode

_NO_LIMIT = 10**9  # tokens: transformers writes 10^30 if there is no limit


@dataclass(frozen=True, slots=True)
class Layout:
    """What a model folder holds besides its backbone. A plain Hugging Face folder holds none of it."""

    pooling: PoolingMode | None = None
    projection: dict[str, Tensor] | None = None
    max_length: int | None = None
    prompts: dict[str, str] = field(default_factory=dict)


def read_layout(path: str | Path) -> Layout:
    """Read modules.json and the modules that it lists.

    Raises:
        ValueError: the folder has a module that this project cannot reproduce exactly.
    """
    folder = Path(path)
    if not (folder / "modules.json").is_file():
        return Layout()
    pooling: PoolingMode | None = None
    projection: dict[str, Tensor] | None = None
    for module in _json(folder / "modules.json"):
        kind, module_folder = module["type"].rsplit(".", 1)[-1], folder / module["path"]
        if kind == "Pooling":
            pooling = _pooling(module_folder / "config.json")
        elif kind == "Dense" and projection is not None:
            raise ValueError(f"{folder}: got two Dense modules, expected at most one; a projection is one layer here")
        elif kind == "Dense":
            projection = _dense(module_folder)
        elif kind not in ("Transformer", "Normalize"):
            raise ValueError(f"{folder}: got module {kind}, expected Transformer, Pooling, Dense and Normalize only")
    prompts_file = folder / "config_sentence_transformers.json"
    return Layout(
        pooling=pooling,
        projection=projection,
        max_length=_max_length(folder),
        prompts=(_json(prompts_file).get("prompts") or {}) if prompts_file.is_file() else {},
    )


def _max_length(folder: Path) -> int | None:
    """Tokens. Older folders store it in sentence_bert_config.json, newer ones in the tokenizer's configuration."""
    for name, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        value = _json(folder / name).get(key) if (folder / name).is_file() else None
        if value is not None and value < _NO_LIMIT:
            return int(value)
    return None


def _pooling(path: Path) -> PoolingMode:
    config = _json(path)
    name = config.get("pooling_mode")  # or a list of names, if several pooled vectors are concatenated
    modes = [mode for mode, pooling in POOLINGS.items() if pooling.sentence_transformers_name == name]
    if not modes:
        modes = [mode for mode, pooling in POOLINGS.items() if config.get(pooling.legacy_flag)]
    if len(modes) != 1:
        *others, last = POOLINGS
        raise ValueError(f"{path}: got {config}, expected exactly one of {', '.join(others)} and {last} token pooling")
    return modes[0]


def _dense(folder: Path) -> dict[str, Tensor]:
    """The tensors `weight` and `bias` of a Dense module."""
    config = _json(folder / "config.json")
    if not config.get("activation_function", "").endswith("Identity") or not config.get("bias", True):
        raise ValueError(f"{folder}: got {config}, expected a Dense layer with bias and Identity activation")
    if not (folder / "model.safetensors").is_file():
        raise ValueError(f"{folder}: got no model.safetensors; only safetensors weights are loaded")
    return {name.removeprefix("linear."): value for name, value in load_file(folder / "model.safetensors").items()}


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
