"""Turns docstrings into the rows of the demo's data sets: retrieval, STS and classification."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence, Set
from typing import Any

from harness.demo.docstrings import Docstring
from harness.demo.texts import cut_at_word, document, shuffled, sort_key, words

PACKAGES = {  # distribution name → import name; all are dependencies of the harness, pinned by constraints.txt
    "datasets": "datasets",
    "deepspeed": "deepspeed",
    "huggingface_hub": "huggingface_hub",
    "networkx": "networkx",
    "numpy": "numpy",
    "pandas": "pandas",
    "scikit-learn": "sklearn",
    "scipy": "scipy",
    "sentence-transformers": "sentence_transformers",
    "torch": "torch",
}
_SENTENCE_WORDS, _SENTENCE_CHARACTERS = 6, (30, 300)
_CLASSIFICATION_CHARACTERS = 300  # at most
_NAMES_OF_PACKAGES = re.compile(  # the packages' names and their usual short names
    r"hugging ?face|\bhf\b|\bhub\b|scikit|\bnp\b|\bpd\b|\bnx\b|sentence.?transformers?|"
    + "|".join(re.escape(name) for name in PACKAGES.values()),
    re.IGNORECASE,
)

Rows = list[dict[str, Any]]


def retrieval_training(entries: Sequence[Docstring], count: int) -> Rows:
    """One row per docstring, at most `count`: the summary is the query, the rest of the docstring its positive."""
    return [{"query": entry.summary, "positive": document(entry)} for entry in shuffled(entries)[:count]]


def retrieval_test(entries: Sequence[Docstring], num_queries: int) -> dict[str, Rows]:
    """The files of a BEIR folder: every entry gives a document, and the first `num_queries` entries give a query."""
    ordered = shuffled(entries)
    numbers = range(min(num_queries, len(ordered)))
    return {
        "retrieval/docstrings/corpus.jsonl": [
            {"_id": f"d{i}", "title": "", "text": document(entry)} for i, entry in enumerate(ordered)
        ],
        "retrieval/docstrings/queries.jsonl": [{"_id": f"q{i}", "text": ordered[i].summary} for i in numbers],
        "retrieval/docstrings/qrels/test.tsv": [
            {"query-id": f"q{i}", "corpus-id": f"d{i}", "score": 1} for i in numbers
        ],
    }


def sts_pairs(entries: Sequence[Docstring], count: int, left_out: Set[str] = frozenset()) -> Rows:
    """`count` pairs of sentences, the same number for each grade.

    The grade says how close the sentences are in the source: 4 in the same function, 3 in the same class, 2 in the same
    module, 1 in the same folder, 0 in different packages. A sentence occurs at most once per grade; the sentences in
    `left_out` do not occur.
    """
    sentences = [item for item in _shuffled_sentences(entries) if item[0] not in left_out]
    places: list[Callable[[Docstring], Hashable]] = [  # for grades 4 to 0; equal keys mean the same place
        lambda e: (e.module, e.name),
        lambda e: (e.module, e.owner),
        lambda e: e.module,
        lambda e: (e.package, e.module.rpartition("/")[0]),
        lambda e: 0,
    ]
    rows: Rows = []
    for i, place in enumerate(places):
        grade = 4 - i
        finer = (lambda e: e.package) if grade == 0 else places[i - 1] if i else None
        pairs = sorted(_pairs(sentences, place, finer), key=lambda pair: sort_key(*pair))
        rows += [{"text1": a, "text2": b, "score": float(grade)} for a, b in pairs[: count // len(places)]]
    return sorted(rows, key=lambda row: sort_key(row["text1"], row["text2"]))


def _pairs(
    sentences: Sequence[tuple[str, Docstring]],
    place: Callable[[Docstring], Hashable],
    finer: Callable[[Docstring], Hashable] | None,
) -> Iterator[tuple[str, str]]:
    """Yields pairs of sentences with equal `place` keys and different `finer` keys; no sentence is in two pairs."""
    waiting: dict[Hashable, list[tuple[str, Docstring]]] = defaultdict(list)
    for sentence, entry in sentences:
        queue = waiting[place(entry)]
        for i, (other, other_entry) in enumerate(queue):
            if finer is None or finer(entry) != finer(other_entry):
                del queue[i]
                yield other, sentence
                break
        else:
            queue.append((sentence, entry))


def _shuffled_sentences(entries: Sequence[Docstring]) -> list[tuple[str, Docstring]]:
    """The distinct sentences of a sensible length, each with the first entry that contains it, shuffled."""
    unique: dict[str, Docstring] = {}
    for entry in entries:
        for sentence in entry.description:
            low, high = _SENTENCE_CHARACTERS
            if low <= len(sentence) <= high and len(words(sentence)) >= _SENTENCE_WORDS:
                unique.setdefault(sentence, entry)
    return sorted(unique.items(), key=lambda item: sort_key(item[0]))


def classification_texts(entries: Sequence[Docstring], count: int) -> Rows:
    """`count` descriptions labelled with their package, about the same number per package.

    A package with too few descriptions leaves its places to the others. Descriptions that name a package are left out.
    """
    texts: dict[str, list[str]] = defaultdict(list)
    for entry in shuffled(entries):
        text = cut_at_word(" ".join(entry.description), _CLASSIFICATION_CHARACTERS)
        if not _NAMES_OF_PACKAGES.search(text):
            texts[entry.package].append(text)
    rows: Rows = []
    remaining = count
    for position, package in enumerate(sorted(texts, key=lambda name: (len(texts[name]), name))):
        # The smallest packages come first, so that the larger ones can use the places that they leave.
        share = min(len(texts[package]), remaining // (len(texts) - position))
        rows += [{"text": text, "label": package} for text in texts[package][:share]]
        remaining -= share
    return sorted(rows, key=lambda row: sort_key(row["text"]))
