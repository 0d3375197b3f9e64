"""Rounds the weights of an exported folder, which are fp32, to bf16 or fp16."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import torch
from safetensors import safe_open
from safetensors.torch import save_file

Dtype = Literal["fp32", "bf16", "fp16"]
TORCH_DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def round_weights(folder: Path, dtype: Dtype) -> int:
    """Write every weight of the folder's backbone and modules in `dtype`, and say so in config.json.

    Returns the bytes of all weights.

    Raises:
        ValueError: a weight is larger than fp16 can hold.
    """
    wanted = TORCH_DTYPES[dtype]
    files = sorted(folder.rglob("*.safetensors"))
    for file in files:
        _round_file(file, wanted, dtype)
    for index in folder.glob("*.safetensors.index.json"):  # of weights in several files
        content = json.loads(index.read_text(encoding="utf-8"))
        content["metadata"]["total_size"] = sum(
            _num_bytes(folder / name) for name in set(content["weight_map"].values())
        )
        index.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    config = folder / "config.json"
    name = str(wanted).removeprefix("torch.")
    config.write_text(json.dumps(_with_dtype(json.loads(config.read_text(encoding="utf-8")), name), indent=2))
    return sum(_num_bytes(file) for file in files)


def _round_file(file: Path, wanted: torch.dtype, name: str) -> None:
    mode = file.stat().st_mode
    with safe_open(file, "pt") as stored:
        metadata = stored.metadata()
        tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 (no dict)
    for key, tensor in tensors.items():
        if not tensor.is_floating_point():
            continue
        tensors[key] = tensor.to(wanted)
        if not torch.isfinite(tensors[key]).all():
            raise ValueError(
                f"--dtype: got {name}, but the weight {key} has the value {float(tensor.abs().max()):.0f}, expected "
                f"numbers below {torch.finfo(wanted).max:.0f}; take --dtype bf16"
            )
    file.unlink()
    save_file(tensors, file, metadata)
    file.chmod(mode)


def _with_dtype(config: dict, name: str) -> dict:
    """The configuration with the type of the weights, wherever it states one."""
    config = {key: _with_dtype(value, name) if isinstance(value, dict) else value for key, value in config.items()}
    return {**config, **{key: name for key in ("dtype", "torch_dtype") if key in config}}


def _num_bytes(file: Path) -> int:
    with safe_open(file, "pt") as stored:
        return sum(stored.get_tensor(key).nbytes for key in stored.keys())  # noqa: SIM118 (no dict)
