"""Every column is used, listed as not used, or refused: labels, scores, names near known ones, and the mapping."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.data.source.columns.labels import ONLY_NEGATIVES
from harness.types import Example
from tests.unit.data.source.rows_of import read, texts, write

PAIR = {"query": "q", "positive": "a"}


@pytest.mark.parametrize(
    "labels", [(1, 1, 0, 0, 0), ("1", "1", "0", "0", "0"), (True, True, False, False, False), (1.0, 1.0, 0.0, 0.0, 0.0)]
)
def test_labels_beside_pairs_make_positives_and_negatives_of_one_query(tmp_path: Path, labels: tuple[Any, ...]) -> None:
    """In the order that sentence-transformers' mine_hard_negatives writes labelled pairs: all positives first."""
    pairs = [("q1", "a"), ("q2", "b"), ("q1", "c"), ("q2", "d"), ("q1", "e")]
    rows = [{"anchor": q, "positive": p, "label": v} for (q, p), v in zip(pairs, labels, strict=True)]
    found, facts = read(write(tmp_path / "a.jsonl", rows))
    assert texts(found) == [("q1", "a", "|", "c", "e"), ("q2", "b", "|", "d")]
    assert facts[0].used == {"anchor": 5, "positive": 5, "label": 5}
    assert not facts[0].unused


def test_sentence_pairs_with_labels_train_retrieval_and_sts(tmp_path: Path) -> None:
    rows = [{"sentence1": "q", "sentence2": "a", "label": 1}, {"sentence1": "q", "sentence2": "b", "label": 0}]
    path = write(tmp_path / "a.jsonl", rows)
    assert texts(read(path)[0]) == [("q", "a", "|", "b")]
    assert [example.score for example in read(path, "sts")[0] if isinstance(example, Example)] == [1.0, 0.0]


def test_a_query_without_a_positive_is_counted(tmp_path: Path) -> None:
    rows = [PAIR | {"label": 1}, {"query": "lone", "positive": "b", "label": 0}]
    found, facts = read(write(tmp_path / "a.jsonl", rows))
    assert texts(found) == [("q", "a", "|")]
    assert facts[0].skipped == {ONLY_NEGATIVES: 1}


def test_a_text_with_both_labels_is_a_positive_and_noted(tmp_path: Path) -> None:
    found, facts = read(write(tmp_path / "a.jsonl", [PAIR | {"label": 1}, PAIR | {"label": 0}]))
    assert texts(found) == [("q", "a", "|")]
    assert list(facts[0].notes.values()) == [1]


@pytest.mark.parametrize("label", [3, 0.5, -1, None, "maybe", "2"])
def test_degrees_beside_pairs_are_refused_with_the_remedy(tmp_path: Path, label: Any) -> None:
    found, _ = read(write(tmp_path / "a.jsonl", [PAIR | {"label": label}]))
    assert str(found[0]).startswith("F:1: label: got ")
    assert "kind: sts" in str(found[0])


def test_a_label_that_only_later_rows_have_is_refused(tmp_path: Path) -> None:
    found, _ = read(write(tmp_path / "a.jsonl", [PAIR, PAIR | {"label": 0}]))
    assert found[1] == "F:2: label: got a label, after rows without one, expected a label in every row or in none"
    found, _ = read(write(tmp_path / "b.jsonl", [PAIR | {"label": 1}, PAIR]))
    assert found[0] == "F:2: label: got null, expected 1 or 0 (for degrees use kind: sts, or keep the rows above a " + (
        "threshold as positives)"
    )


def test_a_list_of_labels_splits_a_list_of_texts_and_its_scores(tmp_path: Path) -> None:
    row = {"query": "q", "positive": ["a", "b", "c"], "labels": [0, 1, 0], "scores": [0.1, 0.9, 0.2]}
    found, _ = read(write(tmp_path / "a.jsonl", [row]))
    assert texts(found) == [("q", "b", "|", "a", "c")]
    assert isinstance(found[0], Example)
    assert found[0].document_scores == (0.9, 0.1, 0.2)
    found, _ = read(write(tmp_path / "b.jsonl", [row | {"labels": [0, 1]}, row | {"labels": [1, 2, 0]}]))
    assert str(found[0]).startswith("F:1: labels: got 2 labels, expected one per text (3)")
    assert str(found[1]).startswith("F:2: labels[1]: got int 2")


@pytest.mark.parametrize(
    ("row", "scores"),
    [
        ({"query": "q", "pos": ["a", "b"], "scores": [0.9, 0.1]}, (0.9, 0.1)),
        ({"query": "q", "positive": "a", "score": 0.7}, (0.7,)),
        ({"query": "q", "positive": "a", "positive_scores": [2]}, (2.0,)),
    ],
)
def test_scores_beside_positives_are_those_of_a_ranker(tmp_path: Path, row: Any, scores: tuple[float, ...]) -> None:
    found, _ = read(write(tmp_path / "a.jsonl", [row]))
    assert isinstance(found[0], Example)
    assert found[0].document_scores == scores


@pytest.mark.parametrize(
    ("row", "negatives"),
    [
        (PAIR | {"negatives": ["c", "d"]}, ("c", "d")),
        (PAIR | {"negative10": "e", "negative2": "d", "negative": "c"}, ("c", "d", "e")),
        (PAIR | {"neg_1": "c", "neg_2": "d"}, ("c", "d")),
        (PAIR | {"hard_negative": "c"}, ("c",)),
        ({"query": "q", "pos": ["a"], "negative": "c"}, ("c",)),
        ({"prompt": "q", "response": "a", "rejected": "c"}, ("c",)),
        ({"prompt": "q", "chosen": "a", "rejected": "c"}, ("c",)),
        ({"query": "q", "response": "a", "rejected_response": ["c"]}, ("c",)),
        ({"query": "q", "pos": ["a"], "neg": None, "negatives": []}, ()),
    ],
)
def test_other_plain_names_of_negatives_are_read(tmp_path: Path, row: Any, negatives: tuple[str, ...]) -> None:
    found, facts = read(write(tmp_path / "a.jsonl", [row]))
    assert texts(found) == [("q", "a", "|", *negatives)]
    assert set(facts[0].used) == set(row)


def test_a_rows_prompt_is_read_beside_every_name_of_the_positive(tmp_path: Path) -> None:
    found, _ = read(write(tmp_path / "a.jsonl", [PAIR | {"prompt": "find: "}]))
    assert isinstance(found[0], Example)
    assert found[0].prompt == "find: "


@pytest.mark.parametrize(
    ("kind", "row", "column", "role"),
    [
        ("retrieval", PAIR | {"bm25_negs": ["c"]}, "bm25_negs", "negative"),
        ("retrieval", PAIR | {"positivve": "c"}, "positivve", "positive"),
        ("retrieval", PAIR | {"Negattive": "c"}, "Negattive", "negative"),
        ("retrieval", PAIR | {"positive_2": "c"}, "positive_2", "positive"),
        ("retrieval", PAIR | {"instruction": "find"}, "instruction", "prompt"),
        ("retrieval", PAIR | {"relevance": 2}, "relevance", "label"),
        ("retrieval", PAIR | {"relevance_label": 0}, "relevance_label", "label"),
        ("retrieval", PAIR | {"response": "b"}, "response", "response"),
        ("sts", {"text1": "a", "text2": "b", "score": 1, "label": 0}, "label", "label"),
        ("sts", {"text1": "a", "text2": "b", "score": 1, "prompt": "x"}, "prompt", "prompt"),
        ("classification", {"text": "a", "label": "x", "labels": ["y"]}, "labels", "label"),
    ],
)
def test_a_name_near_one_that_is_read_stops(tmp_path: Path, kind: Any, row: Any, column: str, role: str) -> None:
    """Also in a later row, and also where bad rows are skipped."""
    plain = {name: value for name, value in row.items() if name != column}
    path = write(tmp_path / "a.jsonl", [plain, row])
    with pytest.raises(
        ValueError, match=rf"a\.jsonl:2: {column}: got a column that is not read.*{role}.*ignore"
    ) as caught:
        read(path, kind)
    assert "\n" not in str(caught.value)
    found, facts = read(path, kind, columns={"ignore": (column,)})
    assert len(found) == 2
    assert facts[0].unused == {column: 1}


@pytest.mark.parametrize("name", ["scores", "text", "textt1"])
def test_a_name_of_another_format_is_not_advised_to_be_mapped(tmp_path: Path, name: str) -> None:
    """A remedy must work: retrieval has no key columns.score, and a mapping to text2 would be refused again."""
    row = {"query": "q", "pos": ["a"], "neg": ["b"], "pos_scores": [1.0], "neg_scores": [0.5], name: ["x"]}
    with pytest.raises(ValueError, match=rf"{name}: got .* in the recipe's task, columns: {{ignore: \[{name}\]}}"):
        read(write(tmp_path / "a.jsonl", [row]))


def test_other_columns_are_listed_as_not_used(tmp_path: Path) -> None:
    rows = [PAIR | {"id": 1, "title": "t"}, PAIR | {"source": "x", "query_id": "5", "negative_ids": [1, 2]}]
    found, facts = read(write(tmp_path / "a.jsonl", rows))
    assert texts(found) == [("q", "a", "|")] * 2
    assert facts[0].unused == {"id": 1, "title": 1, "source": 1, "query_id": 1, "negative_ids": 1}
    assert facts[0].used == {"query": 2, "positive": 2}


def test_the_recipe_may_name_the_columns(tmp_path: Path) -> None:
    row = {"question": "q", "answer": "a", "wrong": ["c"], "also_wrong": "d", "label": "note"}
    columns = {"query": "question", "positive": "answer", "negative": ("wrong", "also_wrong"), "ignore": ("label",)}
    found, facts = read(write(tmp_path / "a.jsonl", [row, row | {"question": 5}]), columns=columns)
    assert texts(found) == [("q", "a", "|", "c", "d"), "F:2: question: got int 5, expected a text"]
    assert facts[0].unused == {"label": 2}


@pytest.mark.parametrize(("role", "name"), [("query", "questin"), ("negative", "nope"), ("ignore", "nope")])
def test_a_mapped_name_that_is_not_in_the_data_is_refused(tmp_path: Path, role: str, name: str) -> None:
    columns = {"query": "question", "positive": "answer"} | {role: (name,) if role == "ignore" else name}
    path = write(tmp_path / "a.jsonl", [{"question": "q", "answer": "a"}])
    with pytest.raises(ValueError, match=rf"^tasks\.columns\.{role}: got '{name}', expected a column of .*answer"):
        read(path, columns=columns)


def test_a_mapping_beside_a_column_of_our_name_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [PAIR | {"answer": "b"}])
    with pytest.raises(ValueError, match=r"tasks\.columns\.positive: .* has a column positive, too"):
        read(path, columns={"positive": "answer"})


def test_columns_that_fit_nothing_are_answered_with_a_mapping(tmp_path: Path) -> None:
    found, _ = read(write(tmp_path / "a.jsonl", [{"Query": "q", "Positive": "a"}]))
    assert "columns: {query: Query, positive: Positive} (mine, filter: --columns)" in str(found[0])
    found, _ = read(write(tmp_path / "b.jsonl", [{"question": "q", "answer": "a"}]))
    assert "columns: {query: question, positive: answer} (mine, filter: --columns)" in str(found[0])
    found, _ = read(write(tmp_path / "c.jsonl", [{"premise": "q", "hypothesis": "a", "label": 0}]))
    assert "entailment as anchor and positive" in str(found[0])


@pytest.mark.parametrize(("sign", "name"), [("\t", "a tab"), (";", "a semicolon"), ("，", "a full-width comma")])
def test_another_separator_than_the_file_s_name_says_is_named(tmp_path: Path, sign: str, name: str) -> None:
    """ATEC's .csv has tabs; Excel writes semicolons where the comma is the decimal sign."""
    path = tmp_path / "a.csv"
    path.write_text(f"text1{sign}text2{sign}score\n甲{sign}乙{sign}1\n", encoding="utf-8")
    assert f"with a comma between them, and not {name}" in str(read(str(path), "sts")[0])


def test_columns_in_chinese_are_shown_as_they_are_written(tmp_path: Path) -> None:
    """Escapes such as \\u95ee cannot be compared with the file, nor copied into the recipe."""
    path = write(tmp_path / "a.jsonl", [{"问题": "茶能放多久", "答案": "两年", "空\u3000格": 1}])
    message = str(read(path)[0])
    assert "问题" in message
    assert "答案" in message
    assert "\\u3000" in message  # what cannot be seen stays an escape
