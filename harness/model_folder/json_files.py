"""Reads the JSON files of a model folder, and says in one line what is wrong with one that cannot be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.settings.in_short import in_short
from harness.settings.other_encoding import instead_of_utf8

_LFS_HEADER = b"version https://git-lfs.github.com/spec/"


def is_lfs_pointer(file: Path) -> bool:
    """Whether the file is the few lines that Git LFS keeps in place of a large file that was not fetched."""
    with file.open("rb") as stream:
        return stream.read(len(_LFS_HEADER)) == _LFS_HEADER


def lfs_pointer_found(file: Path) -> str:
    """The line for a pointer of Git LFS in place of a file."""
    return (
        f"{file}: got a pointer of Git LFS, expected the file it points to; fetch the file itself (git lfs pull, or hf "
        "download)"
    )


def read_json(file: Path, kind: type = object) -> Any:
    """The value of a JSON file: an object or a list if `kind` is dict or list.

    Raises:
        ValueError: no such file, a pointer of Git LFS, broken JSON or a value of another kind; one line with file,
            cause and remedy.
    """
    try:
        if is_lfs_pointer(file):
            raise ValueError(lfs_pointer_found(file))
        data = file.read_bytes()
        text = data.decode("utf-8")
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror or error}, expected a JSON file; fetch it again") from None
    except UnicodeDecodeError:
        remedy = instead_of_utf8(data) or "; fetch this file again"
        raise ValueError(f"{file}: got bytes that are no UTF-8 text, expected JSON in UTF-8{remedy}") from None
    if not text.strip():
        raise ValueError(f"{file}: got an empty file, expected JSON; fetch this file again")
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{file}:{error.lineno}: got broken JSON ({error.msg}), expected valid JSON; fetch this file again, or "
            "correct it"
        ) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of brackets
        raise ValueError(
            f"{file}: got JSON that cannot be read ({type(error).__name__}), expected values of usual size; fetch this "
            "file again"
        ) from None
    if not isinstance(value, kind):
        expected = "object" if kind is dict else "list"
        raise ValueError(f"{file}: got {in_short(value)}, expected a JSON {expected}; fetch this file again")
    return value
