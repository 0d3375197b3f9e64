"""Checks that a model folder's weights are there and whole. Reads the headers of the files, not the weights."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from harness.model_folder.find import words_of
from harness.model_folder.json_files import is_lfs_pointer, lfs_pointer_found, read_json
from harness.settings.in_short import joined_in_short

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"

_FETCH_AGAIN = "fetch this file again"
# Numbers that need a scale beside them: transformers would take the bare numbers for the weights.
_TRAINABLE_TYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}  # as torch calls them
_SCALED_TYPES = ("I8", "U8", "F8_E4M3", "F8_E5M2", "F4")


def check_weights(folder: Path) -> int:
    """Check the safetensors files of a folder. Returns the number of weights in them.

    Raises:
        ValueError: a file is missing, a pointer of Git LFS, cut short, empty or damaged; or holds quantized weights.
    """
    return sum(check_weights_file(file) for file in _files(folder))


def _files(folder: Path) -> list[Path]:
    """The files that transformers would read, in its order of preference."""
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    if not (folder / INDEX).exists():
        raise ValueError(_without_weights(folder))
    shard_of_weight = _shard_of_weight(folder / INDEX)
    shards = sorted(set(shard_of_weight.values()))
    # Not Path.exists, which before Python 3.14 raises an error for a name longer than a file can have.
    missing = [shard for shard in shards if not os.path.exists(folder / shard)]
    if missing:
        raise ValueError(
            f"{folder / INDEX}: got {len(missing)} of {len(shards)} files of weights that do not exist "
            f"({joined_in_short(missing[:3])}), expected all of them beside it; fetch them"
        )
    return [folder / shard for shard in shards]


def _shard_of_weight(index: Path) -> dict[str, str]:
    shard_of_weight: Any = read_json(index, dict).get("weight_map")
    is_map = isinstance(shard_of_weight, dict) and all(isinstance(shard, str) for shard in shard_of_weight.values())
    if not is_map or not shard_of_weight:
        raise ValueError(f"{index}: got no weight_map, expected the file of every weight; {_FETCH_AGAIN}")
    return shard_of_weight


def _without_weights(folder: Path) -> str:
    """The line for a folder without safetensors weights: what lies there instead, and the way out."""
    others = sorted(path.name for kind in ("*.safetensors", "*.bin", "*.pt", "*.ckpt", "*.h5", "*.msgpack", "*.gguf",
                                           "*.onnx") for path in folder.glob(kind))  # fmt: skip
    found = f"only {', '.join(others[:3])}" if others else "no weights"
    remedy = f"expected a folder with safetensors weights ({WEIGHTS}, or {INDEX} and the files it names)"
    if any(name.endswith((".bin", ".pt", ".ckpt")) for name in others):
        return (
            f"{folder}: got {found}, {remedy}; opening a pickle can run code, so convert it with safetensors first: "
            "AutoModel.from_pretrained(FOLDER).save_pretrained(FOLDER)"
        )
    return f"{folder}: got {found}, {remedy}; fetch them (from a hub only safetensors are fetched)"


def check_weights_file(file: Path) -> int:
    """Check one safetensors file. Returns the number of weights in it.

    Raises:
        ValueError: it is a pointer of Git LFS, cut short, empty or damaged; or holds quantized weights.
    """
    if file.is_dir():
        raise ValueError(f"{file}: got a folder, expected a file of weights; {_FETCH_AGAIN}")
    if is_lfs_pointer(file):
        raise ValueError(lfs_pointer_found(file))
    size = file.stat().st_size
    if size == 0:
        raise ValueError(f"{file}: got an empty file, expected weights; {_FETCH_AGAIN}")
    try:
        with safe_open(file, framework="pt") as weights:
            slices = {name: weights.get_slice(name) for name in weights.keys()}  # noqa: SIM118 (no mapping)
            scaled = [name for name, part in slices.items() if _is_scaled(name, part.get_dtype())]
            num_weights = sum(math.prod(part.get_shape()) for part in slices.values())
    except (SafetensorError, OSError) as error:
        reason = words_of(error)[:300]
        raise ValueError(
            f"{file}: got {size:,} bytes that are no whole safetensors file ({reason}), expected one as it was "
            f"written; a download was cut short or the file is damaged: {_FETCH_AGAIN}"
        ) from None
    if not slices:
        raise ValueError(f"{file}: got a safetensors file without any weights; {_FETCH_AGAIN}")
    if scaled:
        raise ValueError(
            f"{file}: got quantized weights ({scaled[0]} and {len(scaled) - 1} more), expected float ones; name the "
            "model that they were made from"
        )
    return num_weights


def stored_type(folder: Path) -> str | None:
    """The type of all weights in a folder, as torch calls it; None: several types, or one that cannot be trained in.

    Integers, as positions, do not count.
    """
    types: set[str] = set()
    for file in _files(folder):
        with safe_open(file, framework="pt") as weights:
            types |= {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118 (no mapping)
    floating = {name for name in types if name.startswith(("F", "BF"))}
    return _TRAINABLE_TYPES.get(floating.pop()) if len(floating) == 1 else None


def _is_scaled(name: str, dtype: str) -> bool:
    return dtype in _SCALED_TYPES and name.endswith("weight")
