"""The arrays that are written for a source, and the effect of a bad row."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest

from harness.data.config import PromptsConfig
from harness.data.source import parts
from harness.data.table.identity import text_hash, token_hash
from harness.data.table.rows import pieces, writer
from harness.data.table.rows.pieces import BadRowError
from harness.data.table.tokenisation import Tokeniser
from harness.data.table.tokens import write
from tests.peak_memory import traced_peak
from tests.unit.data.table.sources import DOCUMENT_LENGTH, QUERY_LENGTH, ROWS, Open, labelled, write_lines


def test_texts_lie_in_the_order_of_the_rows(tmp_path: Path, open_data: Open) -> None:
    data = open_data(write_lines(tmp_path / "a.jsonl", ROWS))
    expected = [text for row in ROWS for text in (row["query"], *row["pos"], *row["neg"])]
    assert (data.num_rows, data.num_texts) == (len(ROWS), len(expected))
    assert data.read_texts(np.arange(data.num_texts)) == [(text, None) for text in expected]
    lengths = [1 + len(row["pos"]) + len(row["neg"]) for row in ROWS]
    assert data.row_start_R1.tolist() == np.concatenate([[0], np.cumsum(lengths)]).tolist()
    assert data.num_positives_R.tolist() == [len(row["pos"]) for row in ROWS]
    assert data.line_R.tolist() == list(range(1, len(ROWS) + 1))
    assert data.text_hash_G.tolist() == [text_hash(text) for text in expected]
    queries = set(data.row_start_R1[:-1].tolist())
    assert data.role_G.tolist() == [0 if text in queries else 1 for text in range(data.num_texts)]


def test_lengths_and_hashes_are_those_of_prompt_and_text_cut_by_role(
    tmp_path: Path, open_data: Open, tokeniser: Tokeniser
) -> None:
    rows = [ROWS[3], ROWS[3] | {"prompt": "sul sul "}, ROWS[3] | {"prompt": ""}]
    prompts = PromptsConfig(query="dip: ", document="ven ")
    data = open_data(write_lines(tmp_path / "a.jsonl", rows), prompts=prompts)
    strings = []
    for own, row in zip(("dip: ", "sul sul ", ""), rows, strict=True):
        strings += [(own + row["query"], QUERY_LENGTH)]
        strings += [("ven " + text, DOCUMENT_LENGTH) for text in row["pos"] + row["neg"]]
    ids = [tokeniser.encode([text], length)[0] for text, length in strings]
    assert data.length_G.tolist() == [len(row) for row in ids]
    assert data.token_hash_G.tolist() == [token_hash(row) for row in ids]
    assert max(data.length_G) == DOCUMENT_LENGTH
    assert [prompt for _, prompt in data.read_texts(data.row_start_R1[:-1])] == [None, "sul sul ", ""]


def test_sts_rows_keep_their_scores(tmp_path: Path, open_data: Open) -> None:
    rows = [{"sentence1": f"a {i}", "sentence2": f"b {i}", "score": i / 3} for i in range(10)]
    data = open_data(write_lines(tmp_path / "a.jsonl", rows), "sts")
    assert data.score_R is not None
    assert data.score_R.tolist() == np.array([i / 3 for i in range(10)], dtype=np.float32).tolist()
    assert data.read_texts(np.array([4, 5])) == [("a 2", None), ("b 2", None)]
    assert not data.role_G.any()
    assert data.label_R is None


def test_document_scores_are_kept_beside_their_texts(tmp_path: Path, open_data: Open) -> None:
    rows = [ROWS[3], ROWS[3] | {"pos_scores": [0.5], "neg_scores": [0.1, 0.2, 0.3]}]
    data = open_data(write_lines(tmp_path / "a.jsonl", rows))
    assert data.document_score_G is not None
    expected = np.array([np.nan] * 6 + [0.5, 0.1, 0.2, 0.3], dtype=np.float32)
    np.testing.assert_array_equal(data.document_score_G, expected)


def test_labels_are_numbered_by_first_appearance_and_looked_up(tmp_path: Path, open_data: Open) -> None:
    data = open_data(write_lines(tmp_path / "a.jsonl", labelled("x", 7, "x", "7", "y", "y")), "classification")
    assert data.label_names == ("x", "7", "y")
    assert data.label_R is not None
    assert data.label_order_R is not None
    assert data.label_start_C1 is not None
    assert data.label_R.tolist() == [0, 1, 0, 1, 2, 2]
    assert data.label_order_R.tolist() == [0, 2, 1, 3, 4, 5]
    assert data.label_start_C1.tolist() == [0, 2, 4, 6]


def test_a_label_with_one_example_is_a_bad_row(tmp_path: Path, open_data: Open) -> None:
    """The example has no positive."""
    path = write_lines(tmp_path / "a.jsonl", labelled("x", "x", "lonely", "y", "y", "alone"))
    with pytest.raises(BadRowError) as caught:
        open_data(path, "classification")
    expected = "got a label with one example ('lonely'), expected at least two examples of every label"
    assert str(caught.value) == f"{path}:3: label: {expected}"
    data = open_data(path, "classification", on_bad_row="skip")
    assert data.line_R.tolist() == [1, 2, 4, 5]
    assert data.label_names == ("x", "y")
    assert [message.split(": ")[0] for message in data.bad_row_messages] == [f"{path}:3", f"{path}:6"]


def test_a_single_label_is_an_error(tmp_path: Path, open_data: Open) -> None:
    """With one label every other text would be a positive and none a negative."""
    with pytest.raises(ValueError, match=r"a\.jsonl: label: got only the label 'x', expected at least two"):
        open_data(write_lines(tmp_path / "a.jsonl", labelled("x", "x")), "classification")


def test_the_first_bad_row_stops_with_one_line(tmp_path: Path, open_data: Open) -> None:
    path = write_lines(tmp_path / "a.jsonl", [ROWS[0], {"query": "q", "pos": [3]}, "broken"])
    with pytest.raises(BadRowError) as caught:
        open_data(path)
    assert str(caught.value) == f"{path}:2: pos[0]: got int 3, expected a text"


def test_columns_of_another_kind_name_file_and_known_sets(tmp_path: Path, open_data: Open) -> None:
    path = write_lines(tmp_path / "a.jsonl", ROWS)
    with pytest.raises(BadRowError, match=r"a\.jsonl:1: columns: got 'neg', 'pos', 'query', expected \(text1, text2"):
        open_data(path, "sts")


def test_bad_rows_are_counted_and_reported_when_skipped(tmp_path: Path, open_data: Open) -> None:
    bad = [{"query": "", "pos": ["p"]}, "[]", '{"query": "q"', {"pos": ["p"]}] * 10
    path = write_lines(tmp_path / "a.jsonl", [*bad, *ROWS[:5]])
    data = open_data(path, on_bad_row="skip")
    assert (data.num_rows, data.bad_rows, len(data.bad_row_messages)) == (5, 40, 20)
    assert data.bad_row_messages[0] == f"{path}:1: query: got str '', expected a text that is not empty"
    assert data.location(0) == f"{path}:41"
    assert data.location(data.num_texts - 1) == f"{path}:45"


@pytest.mark.parametrize("rows", [[], ["[]", "{}"]])
def test_no_usable_row_is_an_error_even_when_skipping(tmp_path: Path, open_data: Open, rows: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"a\.jsonl: got no usable row, expected at least one"):
        open_data(write_lines(tmp_path / "a.jsonl", rows), on_bad_row="skip")


def test_every_text_is_reported_once_written_and_once_tokenised(tmp_path: Path, open_data: Open) -> None:
    counts: list[int] = []
    data = open_data(write_lines(tmp_path / "a.jsonl", ROWS), progress=counts.append)
    assert sum(counts) == 2 * data.num_texts


def test_chunks_are_joined_without_a_seam(tmp_path: Path, open_data: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_lines(tmp_path / "a.jsonl", ROWS)
    in_one_chunk = open_data(path)
    monkeypatch.setattr(pieces, "CHUNK_TEXTS", 7)
    monkeypatch.setattr(write, "TOKENISE_TEXTS", 3)
    joined = open_data(shutil.copy(path, tmp_path / "b.jsonl"))
    for name in ("row_start_R1", "text_hash_G", "token_hash_G", "length_G", "role_G", "sorted_query_row_R"):
        assert np.array_equal(getattr(joined, name), getattr(in_one_chunk, name)), name
    ids = np.arange(in_one_chunk.num_texts)[::-1]
    assert joined.read_texts(ids) == in_one_chunk.read_texts(ids)


def test_memory_does_not_grow_with_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No list of all rows is kept: four times as many rows need about the same memory."""
    monkeypatch.setattr(pieces, "CHUNK_TEXTS", 2000)
    monkeypatch.setattr(parts, "PART_BYTES", 20_000)
    peaks = []
    for count in (2500, 10_000):
        rows = [{"query": f"q{i}", "positive": f"p{i}"} for i in range(count)]
        path = str(write_lines(tmp_path / f"{count}.jsonl", rows))
        _, peak = traced_peak(
            lambda path=path: writer.write_rows(Path(mkdtemp(dir=tmp_path)), path, "retrieval", "train", False)
        )
        peaks.append(peak)
    assert peaks[1] < 1.5 * peaks[0]
