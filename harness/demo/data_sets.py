"""From docstrings to the rows of the demo's data sets: retrieval, STS and classification."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence, Set
from typing import Any

from harness.demo.docstrings import Docstring
from harness.demo.texts import cut_at_word, document, shuffled, sort_key, words

PACKAGES = {  # distribution → import package: dependencies of the harness, pinned by constraints.txt
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
_NAMES_OF_PACKAGES = re.compile(  # with the usual short names
    r"hugging ?face|\bhf\b|\bhub\b|scikit|\bnp\b|\bpd\b|\bnx\b|sentence.?transformers?|"
    + "|".join(re.escape(name) for name in PACKAGES.values()),
    re.IGNORECASE,
)

Rows = list[dict[str, Any]]


def retrieval_training(entries: Sequence[Docstring]) -> Rows:
    """The summary of a docstring as the query, the rest as its positive."""
    return [{"query": entry.summary, "positive": document(entry)} for entry in shuffled(entries)]


def retrieval_test(entries: Sequence[Docstring], num_queries: int) -> dict[str, Rows]:
    """The files of a BEIR folder: every entry is a document, and the first `num_queries` have a query too."""
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
    """`count` pairs of sentences, equally many of each grade.

    The grade says how close the sentences stand: 4 in one function, 3 in one class, 2 in one module, 1 in one folder,
    0 in different packages. A sentence occurs at most once per grade; those of `left_out` do not occur.
    """
    sentences = [item for item in _shuffled_sentences(entries) if item[0] not in left_out]
    places: list[Callable[[Docstring], Hashable]] = [  # of grade 4 to 0; equal keys: the same place
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
    """Pairs of sentences from one place whose `finer` keys differ; a sentence is in one pair at most."""
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
    """Every sentence of a sensible length once, with the first entry that holds it."""
    unique: dict[str, Docstring] = {}
    for entry in entries:
        for sentence in entry.description:
            low, high = _SENTENCE_CHARACTERS
            if low <= len(sentence) <= high and len(words(sentence)) >= _SENTENCE_WORDS:
                unique.setdefault(sentence, entry)
    return sorted(unique.items(), key=lambda item: sort_key(item[0]))


def classification_texts(entries: Sequence[Docstring], count: int) -> Rows:
    """`count` descriptions labelled with their package, equally many of each as far as there are enough.

    Descriptions that name a package are left out.
    """
    texts: dict[str, list[str]] = defaultdict(list)
    for entry in shuffled(entries):
        text = cut_at_word(" ".join(entry.description), _CLASSIFICATION_CHARACTERS)
        if not _NAMES_OF_PACKAGES.search(text):
            texts[entry.package].append(text)
    rows: Rows = []
    remaining = count
    for position, package in enumerate(sorted(texts, key=lambda name: (len(texts[name]), name))):
        share = min(len(texts[package]), remaining // (len(texts) - position))  # small packages leave room to others
        rows += [{"text": text, "label": package} for text in texts[package][:share]]
        remaining -= share
    return sorted(rows, key=lambda row: sort_key(row["text"]))
