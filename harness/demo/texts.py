"""Small functions on docstrings and texts that the data sets of the demo share."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from harness.demo.docstrings import Docstring

_REST_CHARACTERS = 1200  # at most


def document(entry: Docstring) -> str:
    """The signature and the rest of a docstring; the rest is cut at a word boundary."""
    return f"{entry.signature}\n{cut_at_word(entry.rest)}"


def shuffled(entries: Sequence[Docstring]) -> list[Docstring]:
    """The entries in a pseudo-random order that is equal on every machine."""
    return sorted(entries, key=lambda entry: sort_key(entry.module, entry.name, entry.summary))


def sort_key(*parts: str) -> bytes:
    """A pseudo-random sort key that is equal on every machine."""
    return hashlib.sha256("\n".join(parts).encode()).digest()


def words(text: str) -> list[str]:
    """The words of a text, in lower case, without digits."""
    return re.findall(r"[a-z]+", text.lower())


def normalised(text: str) -> str:
    """The text in lower case without punctuation, with one space between words."""
    return " ".join(re.findall(r"\w+", text.lower()))


def cut_at_word(text: str, length: int = _REST_CHARACTERS) -> str:
    """At most `length` characters of the text, whole words only."""
    return text if len(text) <= length else text[: length + 1].rsplit(maxsplit=1)[0]
