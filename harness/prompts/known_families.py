"""Models that were trained with prompts, but whose published folders store none: only their names tell.

Nothing is put before a text because of this table: a user is told, with what to set.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# (family, pattern of the last part of a model's name, query prompt, document prompt). Sources: the model cards of
# intfloat/e5-base-v2, intfloat/multilingual-e5-base, nomic-ai/nomic-embed-text-v1.5 and BAAI/bge-large-en-v1.5 /
# -zh-v1.5; the same texts stand in mteb 2.26.24 (e5_models.py, nomic_models.py, bge_models.py). The instruct models of
# e5 take another form and are left out.
_FAMILIES = (
    ("e5", r"(?:multilingual-)?e5-(?:small|base|large)(?!.*instruct)", "query: ", "passage: "),
    ("nomic-embed-text", r"nomic-embed-text|modernbert-embed", "search_query: ", "search_document: "),
    ("bge (English)", r"bge-(?:small|base|large)-en", "Represent this sentence for searching relevant passages: ", ""),
    ("bge (Chinese)", r"bge-(?:small|base|large)-zh", "为这个句子生成表示以用于检索相关文章：", ""),
)


def usual_prompts(names: Iterable[str]) -> tuple[str, str, str] | None:
    """(family, query prompt, document prompt) that the names of a model hint at; None if they hint at none."""
    for name in names:
        # A hub cache holds models--ORG--NAME/snapshots/REVISION.
        parts = [part.rpartition("--")[2] for part in re.split(r"[/\\]", name.lower().rstrip("/\\"))]
        for part in reversed(parts):
            for family, pattern, query, document in _FAMILIES:
                if re.match(pattern, part):
                    return family, query, document
    return None
