"""Selects the docstrings that become data, and holds some of them out for testing."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from harness.demo.docstrings import Docstring
from harness.demo.texts import cut_at_word, document, normalised, sort_key, words

_QUERY_WORDS, _QUERY_CHARACTERS = (4, 40), (20, 300)
_REST_WORDS = 12  # at least
_SHINGLE_WORDS, _MOST_SEEN_SHINGLES = 5, 0.5
_TEMPLATE = re.compile(r"%\(\w+\)s|\{\w+\}.*\{\w+\}|\$\{|^(?:returns?|args|arguments|parameters|alias)\b[^a-z]*$", re.I)


def is_usable(entry: Docstring) -> bool:
    """Whether summary and rest are prose of a sensible length, and the rest does not repeat the summary."""
    num_words, num_characters = len(entry.summary.split()), len(entry.summary)
    return (
        _QUERY_WORDS[0] <= num_words <= _QUERY_WORDS[1]
        and _QUERY_CHARACTERS[0] <= num_characters <= _QUERY_CHARACTERS[1]
        and len(words(entry.rest)) >= _REST_WORDS
        and not _TEMPLATE.search(entry.summary)
        and not _TEMPLATE.search(entry.rest)
        and normalised(entry.summary) not in normalised(document(entry))
    )


def deduplicate(entries: Sequence[Docstring]) -> list[Docstring]:
    """Drop entries whose summary equals an earlier one, and entries whose rest mostly repeats earlier entries.

    "Mostly" means that more than half of its five-word sequences ("shingles") occur in the rests of kept entries.
    """
    kept: list[Docstring] = []
    seen_queries: set[str] = set()
    seen_shingles: set[tuple[str, ...]] = set()
    for entry in entries:
        query, rest = normalised(entry.summary), words(cut_at_word(entry.rest))
        shingles = {tuple(rest[i : i + _SHINGLE_WORDS]) for i in range(len(rest) - _SHINGLE_WORDS + 1)}
        if query in seen_queries or len(shingles & seen_shingles) > _MOST_SEEN_SHINGLES * len(shingles):
            continue
        seen_queries.add(query)
        seen_shingles |= shingles
        kept.append(entry)
    return kept


def hold_out_modules(entries: Sequence[Docstring], test_documents: int) -> tuple[list[Docstring], list[Docstring]]:
    """(train, test): whole modules of every package are held out, up to the package's share of `test_documents`.

    The modules are considered in a pseudo-random order that is equal on every machine.
    """
    sizes: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for entry in entries:
        sizes[entry.package][entry.module] += 1
    held_out: set[str] = set()
    for modules in sizes.values():
        room = round(test_documents * sum(modules.values()) / max(len(entries), 1))
        for module in sorted(modules, key=sort_key):
            if modules[module] <= room:
                held_out.add(module)
                room -= modules[module]
    train = [entry for entry in entries if entry.module not in held_out]
    return train, [entry for entry in entries if entry.module in held_out]
