"""Reading the sentence-transformers folder layout (modules.json): pooling, Dense, prompts, maximum length."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from harness.encoder.config import PoolingMode

_POOLING_NAMES: dict[str, PoolingMode] = {"cls": "cls", "mean": "mean", "lasttoken": "last"}
_NO_LIMIT = 10**9
_LEGACY_NAMES: dict[str, PoolingMode] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "last",
}


@dataclass(frozen=True, slots=True)
class Layout:
    """What a model folder says beside its weights; all unset for a plain Hugging Face folder."""

    pooling: PoolingMode | None = None
    projection: dict[str, Tensor] | None = None
    max_length: int | None = None
    prompts: dict[str, str] = field(default_factory=dict)


def read_layout(path: str | Path) -> Layout:
    """Read modules.json and what it names.

    Raises:
        ValueError: a module this project cannot reproduce exactly.
    """
    folder = Path(path)
    if not (folder / "modules.json").is_file():
        return Layout()
    pooling: PoolingMode | None = None
    projection: dict[str, Tensor] | None = None
    for module in _json(folder / "modules.json"):
        kind, part = module["type"].rsplit(".", 1)[-1], folder / module["path"]
        if kind == "Pooling":
            pooling = _pooling(part / "config.json")
        elif kind == "Dense" and projection is not None:
            raise ValueError(f"{folder}: got two Dense modules, expected at most one; a projection is one layer here")
        elif kind == "Dense":
            projection = _dense(part)
        elif kind not in ("Transformer", "Normalize"):
            raise ValueError(f"{folder}: got module {kind}, expected Transformer, Pooling, Dense and Normalize only")
    prompts = folder / "config_sentence_transformers.json"
    return Layout(
        pooling=pooling,
        projection=projection,
        max_length=_max_length(folder),
        prompts=(_json(prompts).get("prompts") or {}) if prompts.is_file() else {},
    )


def _max_length(folder: Path) -> int | None:
    """Older folders say it in sentence_bert_config.json, newer ones in the tokenizer's (where "none" is 10^30)."""
    for name, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        value = _json(folder / name).get(key) if (folder / name).is_file() else None
        if value is not None and value < _NO_LIMIT:
            return int(value)
    return None


def _pooling(path: Path) -> PoolingMode:
    config = _json(path)
    names = [mode for key, mode in _LEGACY_NAMES.items() if config.get(key)]
    named = config.get("pooling_mode")
    names = [_POOLING_NAMES[named]] if named in _POOLING_NAMES else names
    if len(names) != 1:
        raise ValueError(f"{path}: got {config}, expected exactly one of cls, mean and last token pooling")
    return names[0]


def _dense(folder: Path) -> dict[str, Tensor]:
    config = _json(folder / "config.json")
    if not config.get("activation_function", "").endswith("Identity") or not config.get("bias", True):
        raise ValueError(f"{folder}: got {config}, expected a Dense layer with bias and Identity activation")
    if not (folder / "model.safetensors").is_file():
        raise ValueError(f"{folder}: got no model.safetensors; only safetensors weights are loaded")
    return {name.removeprefix("linear."): value for name, value in load_file(folder / "model.safetensors").items()}


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
