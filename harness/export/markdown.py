"""Puts names and texts that others chose into Markdown, so that they are shown as they are and nothing more.

A model card is rendered on web pages: raw HTML, an image or a link in a name would be theirs, not this project's.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Any

_MARKS = re.compile(r"([\\`*~\[\]|!])")
_TOUCHES_A_WORD = re.compile(r"(?<!\w)_|_(?!\w)")  # elsewhere, as in ndcg_at_10, it is no mark


def plain(text: Any) -> str:
    """The text in one line, with every mark of Markdown and HTML as a character, also inside a table."""
    return _TOUCHES_A_WORD.sub(r"\\_", _MARKS.sub(r"\\\1", html.escape(one_line(str(text)), quote=False)))


def code(text: Any, *, in_table: bool = False) -> str:
    """The text in one line as code. In a table, GitHub's Markdown takes `|` for the end of a cell, also within code."""
    line = one_line(str(text))
    line = line.replace("|", "\\|") if in_table else line
    fence = "`" * (_longest_run(line) + 1)
    space = " " if line.startswith("`") or line.endswith("`") or not line.strip() else ""
    return f"{fence}{space}{line}{space}{fence}"


def code_block(text: str, language: str) -> str:
    """Lines of code, whatever fences stand in them."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}\n"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table. rows: cells that are Markdown already, from `plain` or `code`."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def one_line(text: str) -> str:
    """Line breaks and other control characters as blanks."""
    return "".join(c if c.isprintable() else " " for c in text)


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)
