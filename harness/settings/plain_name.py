"""Makes a name that a recipe takes from any text, such as a file's name."""

from __future__ import annotations


def plain_name(text: str, otherwise: str, *, dots: bool = True) -> str:
    """ASCII letters, digits, `_`, `-` and, unless `dots` is False, `.`; `_` for all else; never `-` or `.` in front.

    otherwise: the name if nothing is left. A task's name has no dots, because `--set tasks.NAME.quota=8` has them.
    """
    kept = "_.-" if dots else "_-"
    plain = "".join(letter if letter.isascii() and (letter.isalnum() or letter in kept) else "_" for letter in text)
    return plain.lstrip(".-") or otherwise
