"""The data of `python -m benchmarks.evidence`: what is trained on, what chooses (dev), and what only tests.

    installed packages  →  FOLDER/train/docstrings.jsonl     the queries of a run, a part of the training packages
                           FOLDER/corpus/docstrings.jsonl    all documents of the training packages, to mine from
                           FOLDER/dev/docstrings_dev/, FOLDER/test/docstrings_test/   other packages (BEIR)
    DATA_ROOT/…         →  FOLDER/train/alpaca.jsonl, intents.jsonl    of the mixture
                           FOLDER/dev/alpaca_dev/, FOLDER/dev/intents_dev/, FOLDER/test/intents_test/

| | negatives | mixture |
| --- | --- | --- |
| train | docstrings | docstrings, alpaca_en, stsb_en (train), banking77_en (train) |
| dev, for choices | docstrings_dev | the same, rows held out of alpaca_en and banking77_en, stsb_en (dev) |
| test, never for choices | docstrings_test, stackfaq_en, cranfield_en, alpaca_en | and stsb_en, banking77_en (test) |

Files of DATA_ROOT that need no change are read where they are. Its Chinese sets are left out: the starting model's
vocabulary and all training texts are English.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.evidence.inputs.corpus import Split, counts, divide, installed_packages, pairs, read_packages
from benchmarks.runner.data import per_label, read_rows, sample, write_beir, write_rows
from harness.demo.docstrings import Docstring
from harness.demo.texts import document

OTHER_TESTS = ("stackfaq_en", "cranfield_en", "alpaca_en")
_STS, _INTENTS, _ALPACA = "sts/stsb_en", "classification/banking77_en", "prompt_response/alpaca_en/train.jsonl.gz"


@dataclass(frozen=True, slots=True)
class DataSize:
    """How many rows of each data set are used. None means all rows."""

    rows: int | None  # training queries of docstrings
    corpus: int | None  # documents to mine from, in addition to the positives of these queries
    dev_queries: int | None
    dev_documents: int | None
    test_queries: int | None  # of docstrings; the documents are all of the test packages
    alpaca_rows: int | None
    texts_per_intent: int  # in each file of the dev and test sets of intents


@dataclass(frozen=True, slots=True)
class Sets:
    """The evaluation data of a part of the experiment: data set → its path. The first one is the main one."""

    dev: dict[str, Path]
    test: dict[str, Path]


def negatives_sets(root: Path, folder: Path) -> Sets:
    """The evaluation data of the comparison of negatives."""
    others = {name: root / "retrieval" / name for name in OTHER_TESTS}
    return Sets(
        {"docstrings_dev": folder / "dev" / "docstrings_dev"},
        {"docstrings_test": folder / "test" / "docstrings_test", **others},
    )


def mixture_sets(root: Path, folder: Path) -> Sets:
    """The evaluation data of the comparison of mixtures. The names are those that the harness gives the paths."""
    retrieval = negatives_sets(root, folder)
    dev = {name: folder / "dev" / name for name in ("alpaca_dev", "intents_dev")}
    return Sets(
        {**retrieval.dev, **dev, "stsb_en": root / _STS / "dev.jsonl.gz"},
        {
            **retrieval.test,
            "stsb_en": root / _STS / "test.jsonl.gz",
            "intents_test": folder / "test" / "intents_test",
        },
    )


def write_data(root: Path, folder: Path, size: DataSize) -> dict[str, Any]:
    """Write all files; return the packages, and the number of rows of each data set.

    Raises:
        ValueError: a file of the data is missing.
    """
    check_root(root)
    split = divide(read_packages(installed_packages()))
    rows = write_docstrings(split, folder, size)
    rows["alpaca_en"] = _write_alpaca(root, folder, size)
    rows["banking77_en"] = _write_intents(root / _INTENTS, folder, size)
    return {"packages": counts(split), "rows": rows}


def check_root(root: Path) -> None:
    """Check that all files of the data root are there, before anything is written.

    Raises:
        ValueError: the first one that is not.
    """
    sets = (f"retrieval/{name}/{file}" for name in OTHER_TESTS for file in ("corpus.jsonl", "queries.jsonl"))
    parts = (f"{_STS}/{split}.jsonl.gz" for split in ("train", "dev", "test"))
    intents = (f"{_INTENTS}/{split}.jsonl.gz" for split in ("train", "test"))
    for file in (*sets, *parts, *intents, _ALPACA):
        if not (root / file).is_file():
            raise ValueError(f"--data-root: got no file {root / file}, expected one; name the folder that holds it")


def write_docstrings(split: Split, folder: Path, size: DataSize) -> dict[str, dict[str, int]]:
    """Write the training rows, the corpus to mine from, and the dev and test sets of docstrings."""
    rows = pairs(split["train"])
    trained, others = rows[: size.rows], rows[size.rows :] if size.rows is not None else []
    mined = [row["positive"][0] for row in trained + others[: size.corpus]]
    mined = list(dict.fromkeys(mined))
    write_rows(folder / "train" / "docstrings.jsonl", trained)
    write_rows(folder / "corpus" / "docstrings.jsonl", ({"text": text} for text in mined))
    dev = _write_set(folder / "dev" / "docstrings_dev", split["dev"][: size.dev_documents], size.dev_queries)
    test = _write_set(folder / "test" / "docstrings_test", split["test"], size.test_queries)
    trained_counts = {"training queries": len(trained), "documents mined": len(mined)}
    return {"docstrings": trained_counts, "docstrings_dev": dev, "docstrings_test": test}


def task_settings(root: Path, folder: Path) -> dict[str, dict[str, Any]]:
    """Task → kind and path, of the mixture's tasks."""
    return {
        "docstrings": {"kind": "retrieval", "path": str(folder / "train" / "docstrings.jsonl")},
        "alpaca": {"kind": "retrieval", "path": str(folder / "train" / "alpaca.jsonl")},
        "similarity": {"kind": "sts", "path": str(root / _STS / "train.jsonl.gz")},
        "intents": {"kind": "classification", "path": str(folder / "train" / "intents.jsonl")},
    }


def _write_set(folder: Path, entries: Sequence[Docstring], num_queries: int | None) -> dict[str, int]:
    """Every entry gives a document, the first `num_queries` entries a query."""
    documents = {f"d{i}": document(entry) for i, entry in enumerate(entries)}
    queries = {f"q{i}": entry.summary for i, entry in enumerate(entries[:num_queries])}
    write_beir(folder, queries, documents, {f"q{i}": {f"d{i}": 1} for i in range(len(queries))})
    return {"queries": len(queries), "documents": len(documents)}


def _write_alpaca(root: Path, folder: Path, size: DataSize) -> dict[str, int]:
    """Hold rows out of the training rows for dev; the test set has other prompts."""
    rows = read_rows(root / _ALPACA)
    rows = sample(rows, len(rows), "alpaca rows")
    num_documents = min(size.dev_documents or 2000, len(rows) // 4)
    held_out, trained = rows[:num_documents], rows[num_documents:][: size.alpaca_rows]
    asked = held_out[: size.dev_queries]
    write_beir(
        folder / "dev" / "alpaca_dev",
        {f"q{i}": row["query"] for i, row in enumerate(asked)},
        {f"d{i}": row["positive"] for i, row in enumerate(held_out)},
        {f"q{i}": {f"d{i}": 1} for i in range(len(asked))},
    )
    write_rows(folder / "train" / "alpaca.jsonl", ({**row, "positive": [row["positive"]]} for row in trained))
    return {"training queries": len(trained), "dev queries": len(asked), "dev documents": len(held_out)}


def _write_intents(source: Path, folder: Path, size: DataSize) -> dict[str, int]:
    """Hold texts of every label out of the training texts for dev. The classifiers are fitted on training texts."""
    rows, test, count = read_rows(source / "train.jsonl.gz"), read_rows(source / "test.jsonl.gz"), size.texts_per_intent
    labels = sorted({row["label"] for row in rows})
    asked = per_label(rows, labels, count, "dev texts of")
    asked_texts = {row["text"] for row in asked}
    trained = [row for row in rows if row["text"] not in asked_texts]
    fitted = per_label(trained, labels, count)
    tested = per_label(test, labels, count)
    write_rows(folder / "train" / "intents.jsonl", trained)
    for part, members in (("dev", asked), ("test", tested)):
        write_rows(folder / part / f"intents_{part}" / "train.jsonl", fitted)
        write_rows(folder / part / f"intents_{part}" / "test.jsonl", members)
    return {
        "training texts": len(trained),
        "fitted on": len(fitted),
        "dev texts": len(asked),
        "test texts": len(tested),
    }
