"""The prompts of a model under all names that its readers look for, so that each reader finds the same text."""

from __future__ import annotations

from dataclasses import replace

from harness.prompts.model_prompts import (
    DOCUMENT_NAMES,
    OLD_SENTENCE_NAME,
    SENTENCE_NAME_OF_KIND,
    ModelPrompts,
)


def with_names_of_others(prompts: ModelPrompts) -> ModelPrompts:
    """The same prompts, also as `document` and by the names that mteb gives to kinds of data.

    sentence-transformers takes only the name `document` for a document, not `passage` or `corpus`. mteb drops
    `sentence`, which is what earlier versions of this project called the prompt of texts that are neither. Each text
    is stored under its own name as well, so that every kind of data gets the prompt that it had.
    """
    named = dict(prompts.named)
    document = next((named[name] for name in DOCUMENT_NAMES if name in named), None)
    if document:
        named["document"] = document
    if named.get(OLD_SENTENCE_NAME):
        for name in SENTENCE_NAME_OF_KIND.values():
            named.setdefault(name, named[OLD_SENTENCE_NAME])
    return replace(prompts, named=named)
