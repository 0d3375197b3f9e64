"""The embedded demo data, built from two small packages."""

from __future__ import annotations

import gzip
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.demo import corpus as demo_corpus
from harness.demo.corpus import (
    build_demo_corpus,
    classification_texts,
    deduplicate,
    hold_out_modules,
    is_usable,
    sts_pairs,
)
from harness.demo.docstrings import Docstring, read_docstrings

SMALL_PACKAGES = {"huggingface_hub": "huggingface_hub", "networkx": "networkx"}


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


@pytest.fixture(scope="module")
def entries() -> list[Docstring]:
    return [entry for package, name in SMALL_PACKAGES.items() for entry in read_docstrings(package, name)]


def rows(file: Path) -> list[dict[str, Any]]:
    content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    return [json.loads(line) for line in content.decode().splitlines()]


def all_bytes(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def docstring(**changed: Any) -> Docstring:
    text = "it holds every vertex of the tree once and says how far the vertex lies from the root of the tree"
    fields = {
        "package": "networkx",
        "module": "networkx/tree.py",
        "owner": "walk",
        "name": "walk",
        "signature": "walk(tree)",
        "summary": "List the vertices of a tree in order.",
        "description": ("List the vertices of a tree in order.",),
        "rest": f"The list is ordered: {text}.",
    }
    return Docstring(**{**fields, **changed})


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


def test_other_versions_get_another_folder(
    corpus: Path, entries: list[Docstring], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(demo_corpus, "package_version", lambda package: "0.0.1")
    monkeypatch.setattr(demo_corpus, "read_docstrings", lambda package, name: entries[:50])
    assert build_demo_corpus(tmp_path).name != corpus.name


def test_a_build_cut_off_before_its_end_is_done_again(
    corpus: Path, entries: list[Docstring], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """meta.json is written last, so a folder without it is not whole."""
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


def test_no_module_stands_in_training_and_test(entries: list[Docstring]) -> None:
    train, test = hold_out_modules(entries, 300)
    assert {e.module for e in train}.isdisjoint(e.module for e in test)
    assert len(train) + len(test) == len(entries)
    assert 250 <= len(test) <= 300
    assert {e.package for e in test} == set(SMALL_PACKAGES)


def test_test_data_come_from_held_out_modules_only(corpus: Path, entries: list[Docstring], small_sizes: None) -> None:
    usable = deduplicate([e for e in entries if is_usable(e)])
    train, test = hold_out_modules(usable, demo_corpus.TEST_DOCUMENTS)
    folder = corpus / "retrieval" / "docstrings"
    assert {row["text"] for row in rows(folder / "corpus.jsonl")} == {demo_corpus.document(e) for e in test}
    trained = {row["positive"] for row in rows(corpus / "train" / "retrieval.jsonl.gz")}
    assert trained == {demo_corpus.document(e) for e in train}
    for split, part, other in (("train", train, test), ("test", test, train)):
        sentences = {s for e in part for s in e.description} - {s for e in other for s in e.description}
        for row in rows(corpus / "sts" / "docstring_pairs" / f"{split}.jsonl.gz"):
            assert {row["text1"], row["text2"]} <= sentences
        starts = {e.summary[:40] for e in part}
        for row in rows(corpus / "classification" / "docstring_packages" / f"{split}.jsonl.gz"):
            assert row["text"][:40] in starts or any(row["text"].startswith(start) for start in starts)


def test_grades_are_balanced_and_say_how_close_two_sentences_stand(entries: list[Docstring]) -> None:
    unique = deduplicate([e for e in entries if is_usable(e)])
    first = {sentence: e for e in reversed(unique) for sentence in e.description}
    pairs = sts_pairs(unique, 200)
    assert Counter(row["score"] for row in pairs) == {0.0: 40, 1.0: 40, 2.0: 40, 3.0: 40, 4.0: 40}
    for row in pairs:
        a, b = first[row["text1"]], first[row["text2"]]
        if a.package != b.package:
            grade = 0
        elif a.module != b.module:
            grade = 1
            assert a.module.rpartition("/")[0] == b.module.rpartition("/")[0]
        elif a.owner != b.owner:
            grade = 2
        else:
            grade = 4 if a.name == b.name else 3
        assert row["score"] == grade
        assert row["text1"] != row["text2"]


def test_classification_texts_do_not_name_a_package(entries: list[Docstring]) -> None:
    named = docstring(summary="Convert a NetworkX graph to a table.", description=("Convert a NetworkX graph.",))
    texts = classification_texts([*entries, named], 400)
    assert Counter(row["label"] for row in texts) == {"networkx": 200, "huggingface_hub": 200}
    for row in texts:
        assert "networkx" not in row["text"].lower()
        assert "hugging" not in row["text"].lower()


def test_a_small_package_leaves_its_room_to_the_others() -> None:
    few = [docstring(package="numpy", summary=f"n{i}", description=(f"text {i}",)) for i in range(3)]
    many = [docstring(package="scipy", summary=f"s{i}", description=(f"other {i}",)) for i in range(30)]
    counts = Counter(row["label"] for row in classification_texts(few + many, 20))
    assert counts == {"numpy": 3, "scipy": 17}


def test_copies_and_near_copies_count_once() -> None:
    original = docstring()
    same_query = docstring(name="b", rest="Something else entirely, written for another thing that shares the summary.")
    near_copy = docstring(name="c", summary="Enumerate all vertices.", rest=original.rest + " Also true for forests.")
    other = docstring(name="d", summary="Count the edges.", rest="An edge that joins a vertex to itself is counted.")
    assert deduplicate([original, same_query, near_copy, other]) == [original, other]


@pytest.mark.parametrize(
    "changed",
    [
        {"summary": "Return it."},
        {"summary": "Returns: "},
        {"rest": "Too short."},
        {"rest": docstring().rest + " List the vertices of a tree, in order."},
        {"rest": "%(before_notes)s " + docstring().rest},
    ],
    ids=["short query", "header only", "short rest", "rest repeats the query", "unfilled template"],
)
def test_junk_is_left_out(changed: dict[str, str]) -> None:
    assert is_usable(docstring())
    assert not is_usable(docstring(**changed))
