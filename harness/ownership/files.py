"""Refuses to write over files that no command of this project has written. Imports nothing heavy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

_LARGEST_RESULT = 1 << 28  # bytes; a larger file is none of ours, and is not read


def refuse_foreign_file(path: Path, knob: str, kind: str, is_ours: Callable[[bytes], bool]) -> None:
    """Refuse to replace a file that is not empty and that is no earlier result of the same kind.

    Raises:
        ValueError: the file holds something else.
    """
    if path.is_file() and path.stat().st_size and not (_is_small(path) and is_ours(path.read_bytes())):
        raise ValueError(
            f"{knob}: got {path}, a file that is not {kind}, expected a new file or an earlier one of the same kind, "
            "which is replaced; name another one"
        )


def is_json_with(*keys: str) -> Callable[[bytes], bool]:
    """Whether a file is a JSON object with these keys."""

    def check(old: bytes) -> bool:
        try:
            tree = json.loads(old)
        except ValueError:
            return False
        return isinstance(tree, dict) and tree.keys() >= set(keys)

    return check


def _is_small(path: Path) -> bool:
    return path.stat().st_size <= _LARGEST_RESULT
