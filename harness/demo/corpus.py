"""The embedded demo data: retrieval, STS and classification from the docstrings of installed packages.

Real text without any download. Training and test data come from different modules (source files), so that no test text
is near a training text in its source. The folder's bytes depend on the versions of the installed packages only.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock

from harness.demo.data_sets import PACKAGES, Rows, classification_texts, retrieval_test, retrieval_training, sts_pairs
from harness.demo.docstrings import Docstring, package_version, read_docstrings
from harness.demo.selection import deduplicate, hold_out_modules, is_usable

PREFIX = "demo-docstrings"
TEST_DOCUMENTS, TEST_QUERIES = 1300, 500
STS_PAIRS = {"train": 2000, "test": 600}
CLASSIFICATION_TEXTS = {"train": 2000, "test": 600}


def build_demo_corpus(cache_root: Path) -> Path:
    """The folder `demo-docstrings-KEY` under `cache_root`, built on first use.

    KEY stands for the versions of the packages and for the code of this folder.

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
        "train/retrieval.jsonl.gz": retrieval_training(train),
        **retrieval_test(test, TEST_QUERIES),
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


def _key(versions: dict[str, str]) -> str:
    """16 hex digits over the packages' versions and the code that makes the texts: all files of this folder."""
    digest = hashlib.sha256(json.dumps(versions, sort_keys=True).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
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
