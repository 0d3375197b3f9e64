"""Shows a value that came from a file in a message: in one line, cut to a length that a reader takes in."""

from __future__ import annotations

import reprlib
from typing import Any

MOST_CHARACTERS = 80
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60
_SHORT.maxlist = _SHORT.maxdict = 4
_SHORT.maxlevel = 2


def in_short(value: Any, *, quoted: bool = False) -> str:
    """The beginning of a value as Python writes it, in one line of at most 80 characters; a text without its quotes.

    quoted: leave a text its quotes.
    """
    try:
        text = value if isinstance(value, str) and not quoted else _SHORT.repr(value)
    except ValueError:  # a whole number of more digits than Python writes
        text = f"a {type(value).__name__}"
    text = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 3] + "..."


def joined_in_short(names: Any) -> str:
    """Names of columns or keys, with commas, as `in_short`."""
    text = ", ".join(map(in_short, list(names)[:12]))
    return text if len(text) <= 3 * MOST_CHARACTERS else text[: 3 * MOST_CHARACTERS - 3] + "..."
