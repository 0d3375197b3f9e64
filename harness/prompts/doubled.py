"""Finds texts that begin with their prompt already, and would get it twice."""

from __future__ import annotations

from collections.abc import Sequence

from harness.types import EncodingRole

LOOKED_AT = 100  # texts of a role


def doubled_prompt(texts: Sequence[str], role: EncodingRole, prompt: str) -> str | None:
    """A line if at least half of the texts begin with their prompt before it is added; blanks at its end do not count.

    texts: some of one role that get `prompt`.
    """
    start = prompt.strip()
    count = sum(text.lstrip().startswith(start) for text in texts) if start else 0
    if not count or 2 * count < len(texts):
        return None
    return (
        f"{count} of the first {len(texts)} texts of role {role} begin with the {role} prompt and get it once more; "
        f"take it out of the data, or set an empty {role} prompt"
    )
