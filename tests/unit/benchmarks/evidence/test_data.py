"""The data of the evidence: whole packages are held out, and nothing that chooses or tests is trained on."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.evidence.inputs import corpus
from benchmarks.evidence.inputs import data as evidence_data
from benchmarks.evidence.inputs.corpus import HELD_OUT, divide, installed_packages, read_packages
from benchmarks.evidence.inputs.data import OTHER_TESTS, DataSize, check_root, mixture_sets, negatives_sets, write_data
from harness.data.source.locate import dataset_name
from harness.demo.docstrings import Docstring
from harness.demo.texts import document
from harness.evaluation.datasets import data_files
from tests.tiny import text, write_jsonl

PACKAGES = ("torch", "scipy", "pandas", "huggingface_hub", "scikit-learn", "networkx", "datasets")
SIZE = DataSize(6, 4, 3, 5, 4, 8, 2)


def docstring(package: str, key: int, words: int = 30) -> Docstring:
    seed = 1000 * PACKAGES.index(package) + key
    summary, rest = f"{text(seed, 6).capitalize()}.", text(seed + 500, words)
    return Docstring(package, f"{package}/{key % 3}.py", "", f"f{key}", f"f{key}(x)", summary, (summary,), rest)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[Docstring]:
    """Ten docstrings of each package. scipy repeats a text of the test package networkx."""
    entries = [docstring(package, key) for package in PACKAGES for key in range(10)]
    copied = docstring("networkx", 0)
    entries.append(Docstring("scipy", "scipy/copy.py", "", "g", "g()", "A sentence of its own.", (), copied.rest))
    monkeypatch.setattr(corpus, "packages_distributions", lambda: {name: [name] for name in PACKAGES})
    monkeypatch.setattr(corpus, "version", lambda name: "1.0")
    monkeypatch.setattr(corpus, "read_docstrings", lambda package, _: [e for e in entries if e.package == package])
    return entries


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root as the benchmark reads it."""
    folder = tmp_path / "root"
    for name in OTHER_TESTS:
        documents = [{"_id": f"d{i}", "title": "", "text": f"{name} {text(i)}"} for i in range(6)]
        write_jsonl(folder / "retrieval" / name / "corpus.jsonl", documents)
        write_jsonl(folder / "retrieval" / name / "queries.jsonl", [{"_id": "q0", "text": text(50)}])
        (folder / "retrieval" / name / "qrels").mkdir()
        (folder / "retrieval" / name / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq0\td0\t1\n")
    alpaca = [{"query": f"ask {text(100 + i)}", "positive": text(300 + i)} for i in range(40)]
    write_gzip(folder / "prompt_response" / "alpaca_en" / "train.jsonl.gz", alpaca)
    sts = [{"text1": text(i), "text2": text(i + 1), "score": i % 5} for i in range(10)]
    for part in ("train", "dev", "test"):
        write_gzip(folder / "sts" / "stsb_en" / f"{part}.jsonl.gz", sts)
    for part, first in (("train", 0), ("test", 500)):
        rows = [{"text": f"{text(700 + first + i)}", "label": f"label{i % 3}"} for i in range(30)]
        write_gzip(folder / "classification" / "banking77_en" / f"{part}.jsonl.gz", rows)
    return folder


def write_gzip(file: Path, rows: list[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(file, "wt", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_a_held_out_package_is_held_out_whole(installed: list[Docstring]) -> None:
    split = divide(read_packages(installed_packages()))
    assert {entry.package for entry in split["train"]} == {"torch", "scipy"}
    for part, packages in HELD_OUT.items():
        assert {entry.package for entry in split[part]} == set(packages)
        assert len(split[part]) == 10 * len(packages)


def test_a_training_text_that_repeats_a_test_text_is_dropped_not_the_test_text(installed: list[Docstring]) -> None:
    split = divide(read_packages(installed_packages()))
    copied = docstring("networkx", 0).rest
    assert [entry.rest for entry in split["train"] if entry.rest == copied] == []
    assert [entry.package for entry in split["test"] if entry.rest == copied] == ["networkx"]


def test_what_is_installed_is_found_without_this_project_and_without_private_names() -> None:
    found = installed_packages()
    assert {"torch", "numpy", "sklearn"} <= found.keys()
    assert found["sklearn"] == "scikit-learn"
    assert "conan-harness" not in found.values()
    assert not [name for name in found if name.startswith("_")]


def test_a_part_without_a_docstring_is_refused(installed: list[Docstring]) -> None:
    with pytest.raises(ValueError, match="got no docstrings for dev, expected those of pandas"):
        divide([entry for entry in installed if entry.package not in HELD_OUT["dev"]])


def test_no_text_of_dev_or_test_is_trained_on_or_mined(installed: list[Docstring], root: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    facts = write_data(root, out, SIZE)
    trained = read(out / "train" / "docstrings.jsonl")
    mined = {row["text"] for row in read(out / "corpus" / "docstrings.jsonl")}
    assert (len(trained), len(mined)) == (6, 10)
    assert {row["positive"][0] for row in trained} <= mined  # letter by letter, so that mining leaves them out
    for part, num_queries, num_documents in (("dev", 3, 5), ("test", 4, 30)):
        folder = out / part / f"docstrings_{part}"
        documents = {row["text"] for row in read(folder / "corpus.jsonl")}
        held_out = {document(e) for e in installed if e.package in HELD_OUT[part]}
        assert documents <= held_out
        assert not documents & mined
        assert (len(read(folder / "queries.jsonl")), len(documents)) == (num_queries, num_documents)
    assert facts["packages"]["train"] == {name: {"version": "1.0", "docstrings": 10} for name in ("torch", "scipy")}


def test_the_mixtures_dev_rows_are_not_trained_on(installed: list[Docstring], root: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    write_data(root, out, SIZE)
    trained = {row["query"] for row in read(out / "train" / "alpaca.jsonl")}
    asked = {row["text"] for row in read(out / "dev" / "alpaca_dev" / "queries.jsonl")}
    assert (len(trained), len(asked)) == (8, 3)
    assert not trained & asked
    intents = {row["text"] for row in read(out / "train" / "intents.jsonl")}
    dev = read(out / "dev" / "intents_dev" / "test.jsonl")
    assert len(dev) == SIZE.texts_per_intent * 3
    assert not {row["text"] for row in dev} & intents
    assert {row["text"] for row in read(out / "dev" / "intents_dev" / "train.jsonl")} <= intents
    assert not {row["text"] for row in read(out / "test" / "intents_test" / "test.jsonl")} & intents


def test_dev_and_test_are_different_files_under_the_names_that_a_run_gives_them(
    installed: list[Docstring], root: Path, tmp_path: Path
) -> None:
    out = tmp_path / "data"
    write_data(root, out, SIZE)
    for sets in (negatives_sets(root, out), mixture_sets(root, out)):
        assert not set(sets.dev.values()) & set(sets.test.values())
        for part in (sets.dev, sets.test):
            paths = list(map(str, part.values()))
            assert list(dataset_name(paths)) == list(part)
            for path in paths:
                data_files(path)


def test_a_missing_file_is_named_before_anything_is_read(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_root(root)
    (root / "sts" / "stsb_en" / "dev.jsonl.gz").unlink()
    monkeypatch.setattr(evidence_data, "read_packages", lambda packages: pytest.fail("read"))
    with pytest.raises(ValueError, match=r"--data-root: got no file .*stsb_en/dev\.jsonl\.gz"):
        write_data(root, tmp_path / "data", SIZE)
