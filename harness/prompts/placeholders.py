"""A prompt is what stands before a text, so it holds no place for the text. Templates of other tools have one."""

from __future__ import annotations

import json
import re

# FlagEmbedding writes "{}{}", E5 and Qwen3-Embedding "Instruct: {task}\nQuery: {query}" in their examples.
_PLACE = re.compile(
    r"\{(?:|0|1|text|query|question|document|passage|sentence|content|task|task_description|instruction)\}"
)


def check_prompt(prompt: str | None, key: str) -> None:
    """Refuse a prompt with a placeholder, which would stand before every text as it is.

    Raises:
        ValueError: it has one; `KEY: ...`.
    """
    found = _PLACE.search(prompt or "")
    if prompt is None or found is None:
        return
    before, after = prompt[: found.start()], prompt[found.end() :]
    is_text_last = found.group()[1:-1] in ("", "text", "query", "document", "passage", "sentence") and not after
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
