"""The embedded demo data: retrieval, STS and classification from the docstrings of packages that come with the harness.

Real text without any download. Training and test data stand on different modules (source files), so that no test
text has a sibling in training. The folder's bytes depend on the installed packages' versions only.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence, Set
from pathlib import Path
from typing import Any

from filelock import FileLock

from harness.demo import docstrings
from harness.demo.docstrings import Docstring, package_version, read_docstrings

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
PREFIX = "demo-docstrings"
TEST_DOCUMENTS, TEST_QUERIES = 1300, 500
STS_PAIRS = {"train": 2000, "test": 600}
CLASSIFICATION_TEXTS = {"train": 2000, "test": 600}

_QUERY_WORDS, _QUERY_CHARACTERS = (4, 40), (20, 300)
_REST_WORDS, _REST_CHARACTERS = 12, 1200  # at least, at most
_SENTENCE_WORDS, _SENTENCE_CHARACTERS = 6, (30, 300)
_SHINGLE_WORDS, _MOST_SEEN_SHINGLES = 5, 0.5
_TEMPLATE = re.compile(r"%\(\w+\)s|\{\w+\}.*\{\w+\}|\$\{|^(?:returns?|args|arguments|parameters|alias)\b[^a-z]*$", re.I)
_NAMES_OF_PACKAGES = re.compile(  # with the usual short names
    r"hugging ?face|\bhf\b|\bhub\b|scikit|\bnp\b|\bpd\b|\bnx\b|sentence.?transformers?|"
    + "|".join(re.escape(name) for name in PACKAGES.values()),
    re.IGNORECASE,
)

Rows = list[dict[str, Any]]


def build_demo_corpus(cache_root: Path) -> Path:
    """The folder `demo-docstrings-KEY` under `cache_root`, built if it is not there; KEY names versions and this code.

    Holds train/retrieval.jsonl.gz, retrieval/docstrings/ (BEIR), sts/docstring_pairs/, classification/
    docstring_packages/ and meta.json with `hash`, the SHA-256 over all texts. Safe to call from several processes.

    Raises:
        ValueError: a package the texts come from is not installed.
    """
    versions = {package: package_version(package) for package in PACKAGES}
    folder = cache_root / f"{PREFIX}-{_key(versions)}"
    if (folder / "meta.json").is_file():
        return folder
    cache_root.mkdir(parents=True, exist_ok=True)
    with FileLock(cache_root / f"{PREFIX}.lock"):
        if not (folder / "meta.json").is_file():
            scratch = Path(tempfile.mkdtemp(prefix=f".{PREFIX}-", dir=cache_root))
            try:
                entries = [entry for package, name in PACKAGES.items() for entry in read_docstrings(package, name)]
                write_corpus(entries, versions, scratch)
                scratch.chmod(0o755)  # mkdtemp's is private
                shutil.rmtree(folder, ignore_errors=True)
                os.replace(scratch, folder)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    return folder


def corpus_hash(path: str | Path) -> str | None:
    """`hash` of the demo corpus that a file lies in; None for any other file."""
    folder = next((parent for parent in Path(path).parents if parent.name.startswith(f"{PREFIX}-")), None)
    if folder is None:
        return None
    return str(json.loads((folder / "meta.json").read_text(encoding="utf-8"))["hash"])


def write_corpus(entries: Iterable[Docstring], versions: dict[str, str], folder: Path) -> None:
    """Write all data sets and meta.json into `folder`."""
    usable = deduplicate([entry for entry in entries if is_usable(entry)])
    train, test = hold_out_modules(usable, TEST_DOCUMENTS)
    occurrences = Counter(sentence for entry in usable for sentence in set(entry.description))
    stock_phrases = {sentence for sentence, times in occurrences.items() if times > 1}
    files: dict[str, Rows] = {
        "train/retrieval.jsonl.gz": [{"query": e.summary, "positive": document(e)} for e in _shuffled(train)],
        **_retrieval_test(test),
    }
    for split, part in (("train", train), ("test", test)):
        files[f"sts/docstring_pairs/{split}.jsonl.gz"] = sts_pairs(part, STS_PAIRS[split], stock_phrases)
        files[f"classification/docstring_packages/{split}.jsonl.gz"] = classification_texts(
            part, CLASSIFICATION_TEXTS[split]
        )
    digest = hashlib.sha256()
    for name, rows in sorted(files.items()):
        content = _qrels_bytes(rows) if name.endswith(".tsv") else _jsonl_bytes(rows)
        digest.update(f"{name}\n".encode() + content)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(_gzip_bytes(content) if name.endswith(".gz") else content)
    meta = {
        "hash": digest.hexdigest(),
        "packages": versions,
        "rows": {name: len(rows) for name, rows in sorted(files.items())},
        "modules": {"train": len({e.module for e in train}), "test": len({e.module for e in test})},
    }
    (folder / "meta.json").write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")


def is_usable(entry: Docstring) -> bool:
    """Whether summary and rest are prose of a sensible length, and the rest does not repeat the summary."""
    words, characters = len(entry.summary.split()), len(entry.summary)
    return (
        _QUERY_WORDS[0] <= words <= _QUERY_WORDS[1]
        and _QUERY_CHARACTERS[0] <= characters <= _QUERY_CHARACTERS[1]
        and len(_words(entry.rest)) >= _REST_WORDS
        and not _TEMPLATE.search(entry.summary)
        and not _TEMPLATE.search(entry.rest)
        and _plain(entry.summary) not in _plain(document(entry))
    )


def deduplicate(entries: Sequence[Docstring]) -> list[Docstring]:
    """Keep the first of equal summaries and of rests that share half of their five-word sequences with earlier ones."""
    kept: list[Docstring] = []
    seen_queries: set[str] = set()
    seen_shingles: set[tuple[str, ...]] = set()
    for entry in entries:
        query, words = _plain(entry.summary), _words(_cut(entry.rest))
        shingles = {tuple(words[i : i + _SHINGLE_WORDS]) for i in range(len(words) - _SHINGLE_WORDS + 1)}
        if query in seen_queries or len(shingles & seen_shingles) > _MOST_SEEN_SHINGLES * len(shingles):
            continue
        seen_queries.add(query)
        seen_shingles |= shingles
        kept.append(entry)
    return kept


def hold_out_modules(entries: Sequence[Docstring], test_documents: int) -> tuple[list[Docstring], list[Docstring]]:
    """(train, test): of every package whole modules are held out, in the order of their path's hash, up to the
    package's share of `test_documents`.
    """
    sizes: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for entry in entries:
        sizes[entry.package][entry.module] += 1
    held_out: set[str] = set()
    for modules in sizes.values():
        room = round(test_documents * sum(modules.values()) / max(len(entries), 1))
        for module in sorted(modules, key=_rank):
            if modules[module] <= room:
                held_out.add(module)
                room -= modules[module]
    train = [entry for entry in entries if entry.module not in held_out]
    return train, [entry for entry in entries if entry.module in held_out]


def document(entry: Docstring) -> str:
    """Signature and rest, cut at a word."""
    return f"{entry.signature}\n{_cut(entry.rest)}"


def sts_pairs(entries: Sequence[Docstring], count: int, left_out: Set[str] = frozenset()) -> Rows:
    """Sentence pairs in equal numbers per grade: 4 same function, 3 same class, 2 same module, 1 same folder, and 0
    another package. A sentence occurs at most once per grade; those of `left_out` do not occur.
    """
    sentences = [item for item in _shuffled_sentences(entries) if item[0] not in left_out]
    levels: list[Callable[[Docstring], Hashable]] = [
        lambda e: (e.module, e.name),
        lambda e: (e.module, e.owner),
        lambda e: e.module,
        lambda e: (e.package, e.module.rpartition("/")[0]),
        lambda e: 0,
    ]
    rows: Rows = []
    for i, level in enumerate(levels):
        grade = 4 - i
        finer = (lambda e: e.package) if grade == 0 else levels[i - 1] if i else None
        pairs = sorted(_pairs(sentences, level, finer), key=lambda pair: _rank(*pair))
        rows += [{"text1": a, "text2": b, "score": float(grade)} for a, b in pairs[: count // len(levels)]]
    return sorted(rows, key=lambda row: _rank(row["text1"], row["text2"]))


def _pairs(
    sentences: Sequence[tuple[str, Docstring]],
    group: Callable[[Docstring], Hashable],
    finer: Callable[[Docstring], Hashable] | None,
) -> Iterator[tuple[str, str]]:
    """Disjoint pairs inside each group whose `finer` keys differ."""
    waiting: dict[Hashable, list[tuple[str, Docstring]]] = defaultdict(list)
    for sentence, entry in sentences:
        queue = waiting[group(entry)]
        for i, (other, other_entry) in enumerate(queue):
            if finer is None or finer(entry) != finer(other_entry):
                del queue[i]
                yield other, sentence
                break
        else:
            queue.append((sentence, entry))


def _shuffled_sentences(entries: Sequence[Docstring]) -> list[tuple[str, Docstring]]:
    unique: dict[str, Docstring] = {}
    for entry in entries:
        for sentence in entry.description:
            low, high = _SENTENCE_CHARACTERS
            if low <= len(sentence) <= high and len(_words(sentence)) >= _SENTENCE_WORDS:
                unique.setdefault(sentence, entry)
    return sorted(unique.items(), key=lambda item: _rank(item[0]))


def classification_texts(entries: Sequence[Docstring], count: int) -> Rows:
    """Descriptions labelled with their package, the same number of each where there are enough, none that names a
    package.
    """
    texts: dict[str, list[str]] = defaultdict(list)
    for entry in _shuffled(entries):
        text = _cut(" ".join(entry.description), 300)
        if not _NAMES_OF_PACKAGES.search(text):
            texts[entry.package].append(text)
    rows: Rows = []
    remaining = count
    for position, package in enumerate(sorted(texts, key=lambda name: (len(texts[name]), name))):
        share = min(len(texts[package]), remaining // (len(texts) - position))  # small packages leave room to others
        rows += [{"text": text, "label": package} for text in texts[package][:share]]
        remaining -= share
    return sorted(rows, key=lambda row: _rank(row["text"]))


def _retrieval_test(entries: Sequence[Docstring]) -> dict[str, Rows]:
    """A BEIR folder: every test document, and a query for the first of them."""
    ordered = _shuffled(entries)
    numbers = range(min(TEST_QUERIES, len(ordered)))
    return {
        "retrieval/docstrings/corpus.jsonl": [
            {"_id": f"d{i}", "title": "", "text": document(entry)} for i, entry in enumerate(ordered)
        ],
        "retrieval/docstrings/queries.jsonl": [{"_id": f"q{i}", "text": ordered[i].summary} for i in numbers],
        "retrieval/docstrings/qrels/test.tsv": [
            {"query-id": f"q{i}", "corpus-id": f"d{i}", "score": 1} for i in numbers
        ],
    }


def _shuffled(entries: Sequence[Docstring]) -> list[Docstring]:
    return sorted(entries, key=lambda entry: _rank(entry.module, entry.name, entry.summary))


def _rank(*parts: str) -> bytes:
    """A sort key that looks random and is the same everywhere."""
    return hashlib.sha256("\n".join(parts).encode()).digest()


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def _cut(text: str, length: int = _REST_CHARACTERS) -> str:
    return text if len(text) <= length else text[: length + 1].rsplit(maxsplit=1)[0]


def _key(versions: dict[str, str]) -> str:
    """16 hex digits over the packages' versions and the code that makes the texts."""
    digest = hashlib.sha256(json.dumps(versions, sort_keys=True).encode())
    for source in (Path(__file__), Path(docstrings.__file__)):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _jsonl_bytes(rows: Rows) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _gzip_bytes(content: bytes) -> bytes:
    """Compressed without time, file name or system in the header (gzip.compress writes the latter)."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as stream:
        stream.write(content)
    return buffer.getvalue()


def _qrels_bytes(rows: Rows) -> bytes:
    lines = ["query-id\tcorpus-id\tscore", *(f"{r['query-id']}\t{r['corpus-id']}\t{r['score']}" for r in rows)]
    return ("\n".join(lines) + "\n").encode()
