"""A prompt is what stands before a text, as it is: without a place for the text, and with line breaks themselves.

Templates of other tools have places. The two characters of `\\n` stay two characters in a shell's quotes and in YAML's
single ones.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache

# FlagEmbedding writes "{}{}", E5 and Qwen3-Embedding "Instruct: {task}\nQuery: {query}" in their examples.
_PLACE = re.compile(
    r"\{(?:|0|1|text|query|question|document|passage|sentence|content|input|task|task_description|instruct|instruction)\}",
    re.IGNORECASE,
)
_ESCAPED = re.compile(r"\\[nrt]")
_NAME_OF = {"n": "a line break", "r": "a carriage return", "t": "a tab"}


def check_escapes(text: str, key: str) -> None:
    """Refuse a backslash with a letter in place of the character that it means in a program.

    Raises:
        ValueError: there is one; `KEY: ...`.
    """
    if found := _ESCAPED.search(text):
        raise ValueError(
            f"{key}: got a backslash and the letter {found.group()[1]} as two characters, expected "
            f"{_NAME_OF[found.group()[1]]} itself; write it in double quotes in YAML, and as $'...{found.group()}...' "
            "in a shell"
        )


@lru_cache(1024)
def what_stays_in_place(prompt: str) -> str | None:
    """What of a prompt was hardly meant to stand before a text as it is: a place for the text or an escape; or None."""
    found = _PLACE.search(prompt) or _ESCAPED.search(prompt)
    return found.group() if found else None


def check_prompt(prompt: str | None, key: str) -> None:
    """Refuse a prompt with a placeholder or an escape, which would stand before every text as it is.

    Raises:
        ValueError: it has one; `KEY: ...`.
    """
    check_escapes(prompt or "", key)
    found = _PLACE.search(prompt or "")
    if prompt is None or found is None:
        return
    before, after = prompt[: found.start()], prompt[found.end() :]
    is_text_last = found.group()[1:-1].lower() in ("", "text", "query", "document", "passage", "sentence") and not after
    remedy = (
        f"write {json.dumps(before, ensure_ascii=False)}"
        if is_text_last
        else "write the words that stand before every text; what stands after a text cannot be exported, because "
        "sentence-transformers knows prompts before texts only"
    )
    raise ValueError(
        f"{key}: got the place {found.group()} in a prompt, which is put before a text as it is, expected a prompt "
        f"without places; {remedy}"
    )
