"""The documents of a retrieval data set lie on disk; equal texts are one to encode and search, and all are ranked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from harness.evaluation import corpus as module
from harness.evaluation.corpus import Corpus, open_corpus
from harness.evaluation.kinds import retrieval
from harness.evaluation.kinds.retrieval import documents_of_texts
from harness.search.request import SearchResult
from tests.peak_memory import traced_peak


def write(file: Path, rows: Sequence[Any]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_documents_are_numbered_by_descending_id_and_equal_texts_are_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In UTF-8, as trec_eval sorts: it puts 😀 behind 中. Tiny chunks, so that the texts lie in several."""
    monkeypatch.setattr(module, "_ROWS", 2)
    ids = ["b", "a10", "a9", "😀", "中", "a1"]
    texts = ["x", "y", "x", "z", "y", "x"]
    file = write(tmp_path / "corpus.jsonl", [{"_id": i, "text": t} for i, t in zip(ids, texts, strict=True)])
    corpus = open_corpus(file, str(tmp_path / "cache"))
    expected = sorted(ids, key=str.encode, reverse=True)
    assert corpus.ids(np.arange(6)) == expected
    assert corpus.ids(np.array([4, 0, 4])) == [expected[4], expected[0], expected[4]]
    assert corpus.distinct_texts(np.arange(corpus.num_texts)) == ["z", "y", "x"]
    same = np.split(corpus.same_text_C, corpus.start_U1[1:-1])
    assert [corpus.ids(numbers) for numbers in same] == [["😀"], ["中", "a10"], ["b", "a9", "a1"]]
    assert corpus.numbers(["a9", "absent", "b"]) == {"a9": expected.index("a9"), "b": expected.index("b")}


def test_a_text_is_known_with_and_without_its_title(tmp_path: Path) -> None:
    rows = [{"_id": "1", "title": "Salt", "text": " Boil. "}, {"_id": "2", "title": "Salt", "text": ""}]
    corpus = open_corpus(write(tmp_path / "corpus.jsonl", [*rows, {"_id": "3", "text": "Boil."}]), str(tmp_path / "c"))
    number = corpus.numbers(["1", "2", "3"])
    assert corpus.texts_of(number["1"]) == ("Salt Boil.", "Boil.")
    assert corpus.texts_of(number["2"]) == ("Salt", "")
    assert corpus.texts_of(number["3"]) == ("Boil.", "Boil.")


def test_a_bad_row_or_an_id_that_comes_twice_is_named_by_its_line(tmp_path: Path) -> None:
    good = [{"_id": str(i), "text": "x"} for i in range(5)]
    file = write(tmp_path / "corpus.jsonl", [*good, {"_id": 3, "text": "y"}, {"_id": "1", "text": "z"}])
    with pytest.raises(ValueError, match=r"corpus.jsonl:6: _id: got '3', expected an id that did not occur before"):
        open_corpus(file, str(tmp_path / "cache"))
    with pytest.raises(ValueError, match=r"corpus.jsonl:6: text: got .*ud800.*, expected a text without lone surr"):
        open_corpus(write(file, [*good, {"_id": "s", "text": "\ud800"}]), str(tmp_path / "cache"))
    with pytest.raises(ValueError, match="got no rows"):
        open_corpus(write(file, []), str(tmp_path / "cache"))


def test_a_corpus_is_read_once_and_its_texts_stay_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """30 bytes a document are held, however long the texts are: all ranks of a host map the same files."""
    monkeypatch.setattr(module, "_ROWS", 500)
    file = write(tmp_path / "corpus.jsonl", [{"_id": str(i), "text": f"{i} " * 200} for i in range(5000)])
    open_corpus(file, str(tmp_path / "cache"))
    monkeypatch.setattr(module, "_build", lambda *_: pytest.fail("read again"))
    before, arrow = pa.default_memory_pool(), pa.proxy_memory_pool(pa.default_memory_pool())

    def opened() -> tuple[Corpus, str]:
        corpus = open_corpus(file, str(tmp_path / "cache"))
        return corpus, corpus.texts_of(corpus.numbers(["17", "4999"])["17"])[0]

    pa.set_memory_pool(arrow)  # counts what Arrow itself allocates
    (corpus, text), traced = traced_peak(opened)
    pa.set_memory_pool(before)
    assert text == ("17 " * 200).strip()
    assert len(corpus) == 5000
    assert traced + arrow.max_memory() < 30 * 5000 + 2**19  # Python's own, of 3.14 more; the texts would be 4 MB
    write(file, [{"_id": "1", "text": "other"}])
    monkeypatch.undo()
    assert len(open_corpus(file, str(tmp_path / "cache"))) == 1


def test_a_machine_with_a_cache_of_its_own_reads_the_corpus_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As seen by a rank that is not rank 0, whose cache folder rank 0 does not see: by default it lies at home."""
    file = write(tmp_path / "corpus.jsonl", [{"_id": "1", "text": "x"}])
    key = module._key(file)
    monkeypatch.setattr(module.rank0, "by_main", lambda _: key)
    assert len(open_corpus(file, str(tmp_path / "cache"))) == 1


@pytest.mark.parametrize("name", ["row_C.npy", "same_text_C.npy", "start_U1.npy", "documents.arrow", "unused.json"])
@pytest.mark.parametrize("left", [0, 0.6])
def test_a_damaged_cache_says_what_to_delete(tmp_path: Path, name: str, left: float) -> None:
    file = write(tmp_path / "corpus.jsonl", [{"_id": str(i), "text": f"{i // 2}", "url": ""} for i in range(9)])
    open_corpus(file, str(tmp_path / "cache"))
    (folder,) = (tmp_path / "cache" / "evaluation").glob("*/")
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(left * len(content))])
    with pytest.raises(ValueError, match=rf"^data\.cache: got a damaged folder '{folder}' \(.*; delete it$"):
        open_corpus(file, str(tmp_path / "cache"))


def test_arrays_of_another_corpus_are_refused(tmp_path: Path) -> None:
    """Else scores would be computed from other documents."""
    files = []
    for count in (9, 8):
        rows = [{"_id": str(i), "text": "x"} for i in range(count)]
        files.append(write(tmp_path / f"{count}.jsonl", rows))
        open_corpus(files[-1], str(tmp_path))
    one, other = (tmp_path / "evaluation" / module._key(file) / "documents.arrow" for file in files)
    one.write_bytes(other.read_bytes())
    with pytest.raises(ValueError, match=r"damaged folder .*documents\.arrow: got "):
        open_corpus(files[0], str(tmp_path))


def test_all_copies_of_a_text_are_ranked_however_few_texts_there_are(tmp_path: Path) -> None:
    """The number of texts found bounds no copies: trec_eval sees each document."""
    rows = [{"_id": f"{i:03}", "text": "one" if i < 150 else "two"} for i in range(152)]
    corpus = open_corpus(write(tmp_path / "corpus.jsonl", rows), str(tmp_path / "cache"))
    nearest = SearchResult(np.array([[0, 1]] * 2), np.array([[1.0, 0.5]] * 2, dtype=np.float32))
    found = documents_of_texts(nearest, corpus, np.array([-1, 1]))
    assert corpus.distinct_texts(np.arange(2)) == ["two", "one"]
    assert found.index_QK.tolist() == [list(range(100)), [0, *range(2, 101)]]


@pytest.mark.parametrize("seed", range(3))
def test_documents_of_the_nearest_texts_are_the_nearest_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Few scores, so that different texts tie; most texts belong to several documents; a document is not ranked."""
    monkeypatch.setattr(retrieval, "TOP_K", 6)
    random = np.random.default_rng(seed)
    text_of = random.integers(0, 12, 30)
    rows = [{"_id": f"{i:02}", "text": f"text {text_of[i]}"} for i in range(30)]
    corpus = open_corpus(write(tmp_path / "corpus.jsonl", rows), str(tmp_path / "cache"))
    texts = corpus.distinct_texts(np.arange(corpus.num_texts))
    score_QU = random.integers(0, 4, (20, len(texts))).astype(np.float32)
    not_ranked_Q = np.where(random.random(20) < 0.7, random.integers(0, 30, 20), -1)
    order_QK = np.argsort(-score_QU, axis=1, kind="stable")[:, :7]
    found = documents_of_texts(
        SearchResult(order_QK, np.take_along_axis(score_QU, order_QK, axis=1)), corpus, not_ranked_Q
    )
    for query, score_U in enumerate(score_QU):
        score_of = dict(zip(texts, score_U.tolist(), strict=True))
        ranked = [(-score_of[rows[29 - n]["text"]], n) for n in range(30) if n != not_ranked_Q[query]]
        expected = sorted(ranked)[:6]
        assert found.index_QK[query].tolist() == [n for _, n in expected]
        assert found.score_QK[query].tolist() == [-negative for negative, _ in expected]
