"""Rows of other trainers are read as these trainers read them, or refused with what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.types import Example
from tests.unit.data.source.rows_of import read, texts, write


def _message(text: str, role: str = "user") -> dict[str, str]:
    return {"role": role, "content": text}


def test_tevatron_passages_are_title_blank_text(tmp_path: Path) -> None:
    """Its dataset.py: `title + ' ' + text` if the passage has a title, also an empty one."""
    row = {
        "query_id": 1,
        "query": "q",
        "positive_passages": [{"docid": 1, "title": "T", "text": "x"}, {"docid": 2, "text": "y"}],
        "negative_passages": [{"docid": 3, "title": "", "text": "z"}],
    }
    found, facts = read(write(tmp_path / "a.jsonl", [row]))
    assert texts(found) == [("q", "T x", "y", "|", " z")]
    assert set(facts[0].used) == {"query", "positive_passages", "negative_passages"}
    assert set(facts[0].unused) == {"query_id"}


def test_tevatron_ids_are_looked_up_in_the_corpus(tmp_path: Path) -> None:
    """Its trainer reads `text` only. Ids may be numbers in one file and text in the other."""
    corpus = write(tmp_path / "c.jsonl", [{"docid": "7", "text": "seven", "title": "t"}, {"docid": 8, "text": "eight"}])
    rows: list[Any] = [{"query_id": 1, "query_text": "q", "positive_document_ids": [7], "negative_document_ids": ["8"]}]
    rows.append({"query_id": 2, "query_text": "q", "positive_document_ids": ["9"], "negative_document_ids": []})
    path = write(tmp_path / "a.jsonl", rows)
    found, _ = read(path, corpus=corpus)
    assert texts(found)[0] == ("q", "seven", "|", "eight")
    assert found[1] == "F:2: positive_document_ids[0]: got '9', expected an id of the corpus"
    found, _ = read(path)
    assert "corpus: PATH" in str(found[0])


def test_a_corpus_with_an_id_twice_is_refused(tmp_path: Path) -> None:
    corpus = write(tmp_path / "c.jsonl", [{"docid": "7", "text": "seven"}, {"docid": 7, "text": "other"}])
    row = {"query_id": 1, "query_text": "q", "positive_document_ids": [7]}
    with pytest.raises(ValueError, match="got an id twice with different texts"):
        read(write(tmp_path / "a.jsonl", [row]), corpus=corpus)


def test_swift_rows_are_read_by_what_each_of_them_has(tmp_path: Path) -> None:
    """A system message or a label that the first row lacks must not be lost: a text of label 0 is no positive."""
    plain = {"messages": [_message("q")], "positive_messages": [[_message("p")]], "label": None}
    with_system = {**plain, "messages": [_message("Find", "system"), _message("q2")]}
    found, _ = read(write(tmp_path / "a.jsonl", [plain, with_system]))
    assert [example.prompt for example in found if isinstance(example, Example)] == [None, "Find "]
    found, _ = read(write(tmp_path / "b.jsonl", [plain, {**plain, "label": 0}]))
    assert "F:2: label: got a label, after rows without one" in str(found[1])
    found, _ = read(write(tmp_path / "c.jsonl", [{**plain, "label": 1}, plain]))
    assert "F:2: label: got null" in str(found[0])


def test_swift_messages_have_their_system_message_before_the_text(tmp_path: Path) -> None:
    """As its Qwen3EmbTemplate: system + ' ' + content; nothing is put before a sequence without one."""
    row = {
        "messages": [_message("Find", "system"), _message("q")],
        "positive_messages": [[_message("p")]],
        "negative_messages": [[_message("n")], [_message("I", "system"), _message("n2", "assistant")]],
    }
    found, facts = read(write(tmp_path / "a.jsonl", [row]))
    assert texts(found) == [("q", "p", "|", "n", "I n2")]
    assert isinstance(found[0], Example)
    assert found[0].prompt == "Find "
    assert set(facts[0].used) == set(row)


def test_swift_labels_are_judgements_in_retrieval_and_scores_in_sts(tmp_path: Path) -> None:
    rows = [
        {"messages": [_message("q")], "positive_messages": [[_message(p)]], "label": v} for p, v in [("a", 1), ("b", 0)]
    ]
    path = write(tmp_path / "a.jsonl", rows)
    assert texts(read(path)[0]) == [("q", "a", "|", "b")]
    found, _ = read(path, "sts")
    assert [(e.texts, e.score) for e in found if isinstance(e, Example)] == [(("q", "a"), 1.0), (("q", "b"), 0.0)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": ["x"]}, "F:1: images: got a value, expected text only"),
        (
            {"messages": [_message("q"), _message("a")]},
            "F:1: messages: got 2 messages, expected a list",
        ),
        ({"positive_messages": [_message("p")]}, "F:1: positive_messages[0]: got dict"),
        ({"positive_messages": []}, "F:1: pos: got list [], expected at least one text"),
    ],
)
def test_swift_rows_of_other_shapes_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    row = {"messages": [_message("q")], "positive_messages": [[_message("p")]]} | change
    found, _ = read(write(tmp_path / "a.jsonl", [row]))
    assert str(found[0]).startswith(message)


@pytest.mark.parametrize(
    ("change", "column", "remedy"),
    [
        ({"type": "symmetric_sts"}, "type", "prompts: {query: P, document: P}"),
        ({"type": "symmetric_class"}, "type", "half the quota"),
        ({"type": "only_1neg"}, "type", "per_query: 1"),
        ({"batch_size": 16}, "batch_size", "quota: 16 times"),
        ({"train_group_size": 8}, "train_group_size", "per_query: 7"),
    ],
)
def test_what_flagembedding_reads_from_the_rows_stands_in_the_recipe(
    tmp_path: Path, change: Any, column: str, remedy: str
) -> None:
    row = {"query": "q", "pos": ["a"], "neg": ["b"], "prompt": "P"}
    path = write(tmp_path / "a.jsonl", [row | {"type": "normal"}, row | change])
    with pytest.raises(ValueError, match=rf"a\.jsonl:2: {column}: .*") as caught:
        read(path)
    assert remedy in str(caught.value)
    assert (
        texts(read(path, columns={"ignore": (column, "type")} if column != "type" else {"ignore": ("type",)})[0])
        == [("q", "a", "|", "b")] * 2
    )
