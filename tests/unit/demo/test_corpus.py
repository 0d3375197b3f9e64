"""The demo data, built from two small packages."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.demo import corpus as demo_corpus
from harness.demo.corpus import build_demo_corpus
from harness.demo.docstrings import Docstring
from harness.demo.selection import deduplicate, hold_out_modules, is_usable
from harness.demo.texts import document
from tests.unit.demo.entries import SMALL_PACKAGES


@pytest.fixture(scope="module")
def small_sizes() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_corpus, "PACKAGES", SMALL_PACKAGES)
        patch.setattr(demo_corpus, "TEST_DOCUMENTS", 200)
        patch.setattr(demo_corpus, "TEST_QUERIES", 80)
        patch.setattr(demo_corpus, "STS_PAIRS", {"train": 200, "test": 50})
        patch.setattr(demo_corpus, "CLASSIFICATION_TEXTS", {"train": 100, "test": 40})
        yield


@pytest.fixture(scope="module")
def corpus(small_sizes: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_demo_corpus(tmp_path_factory.mktemp("cache"))


def rows(file: Path) -> list[dict[str, Any]]:
    content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    return [json.loads(line) for line in content.decode().splitlines()]


def all_bytes(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_two_builds_give_the_same_bytes(corpus: Path, small_sizes: None, tmp_path: Path) -> None:
    again = build_demo_corpus(tmp_path)
    assert again.name == corpus.name
    assert all_bytes(again) == all_bytes(corpus)
    assert len(json.loads((corpus / "meta.json").read_text())["hash"]) == 64


def test_a_second_call_reads_no_package(corpus: Path, small_sizes: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def unexpected(*_: object) -> None:
        raise AssertionError("read a package again")

    monkeypatch.setattr(demo_corpus, "read_docstrings", unexpected)
    assert build_demo_corpus(corpus.parent) == corpus


def test_code_of_any_file_of_the_folder_is_part_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the code changes, the texts are written to another folder."""
    read_bytes, keys = Path.read_bytes, {demo_corpus._key({})}
    files = list(Path(demo_corpus.__file__).parent.glob("*.py"))
    for changed in files:
        monkeypatch.setattr(
            Path, "read_bytes", lambda path, changed=changed: read_bytes(path) + b"#" * (path == changed)
        )
        keys.add(demo_corpus._key({}))
    assert len(keys) == 1 + len(files)


def test_other_versions_get_another_folder(
    corpus: Path, entries: list[Docstring], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(demo_corpus, "package_version", lambda package: "0.0.1")
    monkeypatch.setattr(demo_corpus, "read_docstrings", lambda package, name: entries[:50])
    assert build_demo_corpus(tmp_path).name != corpus.name


def test_a_build_cut_off_before_its_end_is_done_again(
    corpus: Path, entries: list[Docstring], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """meta.json is written last, so a folder without it is incomplete."""
    by_package = {name: [e for e in entries if e.package == name] for name in SMALL_PACKAGES}
    monkeypatch.setattr(demo_corpus, "read_docstrings", lambda package, name: by_package[package])
    broken = tmp_path / corpus.name
    shutil.copytree(corpus, broken)
    (broken / "meta.json").unlink()
    (broken / "train" / "retrieval.jsonl.gz").write_bytes(b"half")
    assert all_bytes(build_demo_corpus(tmp_path)) == all_bytes(corpus)
    assert not list(tmp_path.glob(".demo-docstrings-*"))


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo_corpus, "PACKAGES", {"no-such-package": "no_such_package"})
    with pytest.raises(ValueError, match="no-such-package"):
        build_demo_corpus(tmp_path)


def test_no_query_and_no_document_occurs_twice_in_training_and_test_together(corpus: Path) -> None:
    train = rows(corpus / "train" / "retrieval.jsonl.gz")
    test = corpus / "retrieval" / "docstrings"
    queries = [row["query"] for row in train] + [row["text"] for row in rows(test / "queries.jsonl")]
    documents = [row["positive"] for row in train] + [row["text"] for row in rows(test / "corpus.jsonl")]
    assert len(train) > 500
    assert len(set(queries)) == len(queries)
    assert len(set(documents)) == len(documents)


def test_the_answer_does_not_repeat_the_query(corpus: Path) -> None:
    for row in rows(corpus / "train" / "retrieval.jsonl.gz"):
        assert row["query"].lower() not in row["positive"].lower()


def test_every_test_query_has_one_document_of_the_corpus(corpus: Path) -> None:
    folder = corpus / "retrieval" / "docstrings"
    documents = {row["_id"] for row in rows(folder / "corpus.jsonl")}
    queries = {row["_id"] for row in rows(folder / "queries.jsonl")}
    header, *judgements = [line.split("\t") for line in (folder / "qrels" / "test.tsv").read_text().splitlines()]
    assert header == ["query-id", "corpus-id", "score"]
    assert len(judgements) == len(queries) == 80
    assert {query for query, _, _ in judgements} == queries
    assert {document for _, document, _ in judgements} <= documents
    assert len(documents) > 150


def test_test_data_come_from_held_out_modules_only(corpus: Path, entries: list[Docstring], small_sizes: None) -> None:
    usable = deduplicate([e for e in entries if is_usable(e)])
    train, test = hold_out_modules(usable, demo_corpus.TEST_DOCUMENTS)
    folder = corpus / "retrieval" / "docstrings"
    assert {row["text"] for row in rows(folder / "corpus.jsonl")} == {document(e) for e in test}
    trained = {row["positive"] for row in rows(corpus / "train" / "retrieval.jsonl.gz")}
    assert trained == {document(e) for e in train}
    for split, part, other in (("train", train, test), ("test", test, train)):
        sentences = {s for e in part for s in e.description} - {s for e in other for s in e.description}
        for row in rows(corpus / "sts" / "docstring_pairs" / f"{split}.jsonl.gz"):
            assert {row["text1"], row["text2"]} <= sentences
        starts = {e.summary[:40] for e in part}
        for row in rows(corpus / "classification" / "docstring_packages" / f"{split}.jsonl.gz"):
            assert row["text"][:40] in starts or any(row["text"].startswith(start) for start in starts)
