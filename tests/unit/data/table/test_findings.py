"""What the start of a run and `harness plan` say about the files that were read."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from harness.cli.plan import _files_table
from harness.data.config import NegativesConfig, TaskConfig
from harness.data.plan.task import Task
from harness.data.table.findings import negatives_per_row, remarks
from harness.data.table.rows.pieces import BAD_ROW, BadRowError
from tests.unit.data.table.sources import Open, write_lines

LISTED = [{"query": "ral", "pos": ["mok"], "neg": ["sul", "dip"], "id": 1}, {"query": "tin", "pos": ["ven"], "neg": []}]


def _task(**settings: Any) -> TaskConfig:
    return TaskConfig(name="t", kind="retrieval", path="a.jsonl", quota=1, **settings)


def test_unused_negatives_and_columns_are_said_with_the_knob(tmp_path: Path, open_data: Open) -> None:
    data = open_data(write_lines(tmp_path / "a.jsonl", LISTED))
    assert remarks(_task(), data) == [
        "task t: columns not used: id",
        "task t: 1 rows have negatives that are not used; negatives: {per_query: N} uses N of them for each query",
    ]
    assert remarks(_task(negatives=NegativesConfig(per_query=1)), data) == ["task t: columns not used: id"]


def test_shards_that_are_missing_and_files_without_rows_are_said(tmp_path: Path, open_data: Open) -> None:
    """A folder without one is refused; a pattern or a list may mean to leave some out."""
    write_lines(tmp_path / "x-0-of-3.jsonl", LISTED[1:])
    write_lines(tmp_path / "x-2-of-3.jsonl", [])
    assert remarks(_task(), open_data(str(tmp_path / "*.jsonl"))) == [
        "task t: 2 of 3 shards are there: 'x-1-of-3' is missing",
        "task t: no rows in x-2-of-3.jsonl",
    ]


@pytest.mark.parametrize("own", [False, True])
def test_texts_that_begin_with_their_prompt_are_said(tmp_path: Path, open_data: Open, own: bool) -> None:
    """A prompt in the data and in the recipe stands before the text twice: no error, and another text."""
    start = "Find the answer: "
    rows = [{"query": f"{start if i % 3 else ''}q{i}", "positive": f"d{i}"} for i in range(9)]
    data = open_data(write_lines(tmp_path / "a.jsonl", [row | ({"prompt": start} if own else {}) for row in rows]))
    task = _task(prompts={} if own else {"query": start})
    assert remarks(task, data) == [
        "task t: 6 of the first 9 texts of role query begin with the query prompt and get it once more; take it out of "
        "the data, or set an empty query prompt"
    ]
    assert remarks(_task(prompts={"query": "Other: "}), data) == (remarks(task, data) if own else [])


def test_prompts_of_rows_that_look_like_templates_are_counted(tmp_path: Path, open_data: Open) -> None:
    """FlagEmbedding puts a row's prompt before its query as it is, so it is no error, and hardly meant."""
    prompts = ("Given {query}", "Find\\nQuery: ", "Find\nQuery: ", None)
    rows = [{"query": f"q{i}", "pos": ["d"], "prompt": prompt} for i, prompt in enumerate(prompts)]
    assert remarks(_task(), open_data(write_lines(tmp_path / "a.jsonl", rows))) == [
        "task t: 1 rows have {query} in their own prompt, where it stands before the query as it is",
        "task t: 1 rows have \\n in their own prompt, where it stands before the query as it is",
    ]


def test_ids_and_words_for_missing_values_in_place_of_texts_are_counted(tmp_path: Path, open_data: Open) -> None:
    """They are texts as any other, so they are trained on; nobody brings them on purpose."""
    pairs = (("121352", "4987159"), ("how many legs has a spider", "8"), ("what is missing", "nan"), ("who", "None"))
    rows = [{"query": query, "positive": positive} for query, positive in pairs]
    assert remarks(_task(), open_data(write_lines(tmp_path / "a.jsonl", rows))) == [
        "task t: 1 rows hold numbers only; if these are ids of texts in other files, join them first",
        "task t: 2 rows have a text such as nan, None or null, which stands for a missing one in many files",
    ]


def test_labels_that_differ_in_case_or_blanks_are_said(tmp_path: Path, open_data: Open) -> None:
    """Texts of other labels are negatives: these would push apart what belongs together."""
    labels = ("Sports", "sports ", "news", "Sports", "sports ", "news")
    rows = [{"text": f"text {i}", "label": label} for i, label in enumerate(labels)]
    task = TaskConfig(name="t", kind="classification", path="a.jsonl", quota=1, negatives={"per_query": 1})
    assert remarks(task, open_data(write_lines(tmp_path / "a.jsonl", rows), "classification")) == [
        "task t: 1 labels are written in several ways, which are different labels here: 'Sports' and 'sports '"
    ]


def test_unused_scores_are_said_with_the_losses_that_read_them(tmp_path: Path, open_data: Open) -> None:
    data = open_data(write_lines(tmp_path / "a.jsonl", [{"query": "ral", "pos": ["mok"], "scores": [0.9]}]))
    assert remarks(_task(), data) == [
        "task t: 1 rows have scores that are not used; the losses margin_mse and kl read them"
    ]
    assert remarks(_task(loss="kl", negatives=NegativesConfig(per_query=1)), data) == []


def test_rows_left_out_and_rows_with_repeated_texts_are_counted(tmp_path: Path, open_data: Open) -> None:
    rows = [
        {"query": "ral", "pos": ["mok", "mok"], "neg": ["mok"]},
        "[]",
        {"query": "tin", "pos": ["x"], "labels": [0]},
    ]
    data = open_data(write_lines(tmp_path / "a.jsonl", rows), on_bad_row="skip")
    assert (data.num_rows, data.files[0].skipped[BAD_ROW]) == (1, 1)
    assert remarks(_task(negatives=NegativesConfig(per_query=1)), data) == [
        "task t: left out: 1 queries without a text of label 1",
        "task t: 1 rows list a positive twice",
        "task t: 1 rows have a negative that is one of their positives, which is never used as a negative",
    ]


def test_the_plan_shows_a_line_for_each_file(tmp_path: Path, open_data: Open) -> None:
    """The facts come from the cache at the second opening."""
    folder = tmp_path / "shards"
    folder.mkdir()
    write_lines(folder / "b.jsonl", LISTED)
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(json.dumps({"anchor": "q", "positive": "p"}).encode()))
    for data in (open_data(folder), open_data(folder)):
        assert [(file.rows, file.used, file.unused) for file in data.files] == [
            (1, {"anchor": 1, "positive": 1}, {}),
            (2, {"query": 2, "pos": 2, "neg": 2}, {"id": 1}),
        ]
        assert negatives_per_row(data) == [(0, 0.0, 0), (0, 1.0, 2)]
    task = Task(_task(), data, None, 8, 8)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(_files_table([task]))
    lines = [" ".join(line.replace("│", "|").split()) for line in console.export_text().splitlines()]
    assert "| t | a.jsonl.gz | 1 | anchor, positive | | 0 | |" in lines
    assert "| t | b.jsonl | 2 | query, pos, neg | id | 0 to 2, median 1 | |" in lines


def test_a_text_of_several_files_is_found_in_its_file(tmp_path: Path, open_data: Open) -> None:
    one = write_lines(tmp_path / "one.jsonl", LISTED)
    other = write_lines(tmp_path / "other.jsonl", ["", *LISTED])
    data = open_data((str(one), str(other)))
    assert [data.location(int(text)) for text in data.row_start_R1[:-1]] == [
        f"{one}:1",
        f"{one}:2",
        f"{other}:2",
        f"{other}:3",
    ]
    assert [text for text, _ in data.read_texts(np.array([0, 6]))] == ["ral", "ral"]
    write_lines(other, [*LISTED, "[]"])
    with pytest.raises(BadRowError, match=r"other\.jsonl:3: row: got a JSON list"):
        open_data((str(one), str(other)))


def test_a_lonely_label_is_named_in_its_file(tmp_path: Path, open_data: Open) -> None:
    one = write_lines(tmp_path / "one.jsonl", [{"text": f"a {i}", "label": "x"} for i in range(2)])
    rows = [{"text": "b", "label": label} for label in ("y", "y", "lone")]
    other = write_lines(tmp_path / "other.jsonl", rows)
    with pytest.raises(BadRowError, match=r"other\.jsonl:3: label: got a label with one example \('lone'\)"):
        open_data((str(one), str(other)), "classification")


def test_a_new_column_mapping_or_corpus_reads_the_file_again(tmp_path: Path, open_data: Open) -> None:
    path = write_lines(tmp_path / "a.jsonl", [{"query": "ral", "positive": "mok", "other": "sul"}] * 2)
    assert open_data(path).num_texts == 4
    assert open_data(path, columns={"negative": "other"}).num_texts == 6
    ids = write_lines(tmp_path / "b.jsonl", [{"query_text": "ral", "positive_document_ids": [1]}])
    corpus = write_lines(tmp_path / "c.jsonl", [{"docid": 1, "text": "mok"}])
    assert open_data(ids, corpus=str(corpus)).read_texts(np.array([1])) == [("mok", None)]
    write_lines(corpus, [{"docid": 1, "text": "other"}])
    assert open_data(ids, corpus=str(corpus)).read_texts(np.array([1])) == [("other", None)]


@pytest.mark.parametrize(
    ("labels", "is_said"), [((0, 1, 2), True), ((-1, 0, 1, 2), True), ((0, 1), False), ((0, 0.5, 1, 2), False)]
)
def test_numbers_of_natural_language_inference_are_said_to_be_read_as_degrees(
    tmp_path: Path, open_data: Open, labels: tuple[float, ...], is_said: bool
) -> None:
    """SNLI in JSON lines: a contradiction was trained as nearer than an entailment, without a word."""
    rows = [{"sentence1": f"a{i}", "sentence2": f"b{i}", "label": label} for i, label in enumerate(labels * 2)]
    file = write_lines(tmp_path / "pairs.jsonl", rows)
    task = TaskConfig(name="pairs", kind="sts", path=str(file), quota=2)
    lines = remarks(task, open_data(str(file), "sts"))
    assert any("2 is nearest. If they are classes" in line for line in lines) == is_said, lines


def test_files_of_one_task_with_scores_on_different_scales_are_said(tmp_path: Path, open_data: Open) -> None:
    task = TaskConfig(name="t", kind="sts", path="a.jsonl", quota=1)
    for other, is_said in ((5, True), (0.9, False)):
        files = [
            write_lines(
                tmp_path / name,
                [{"text1": "ral", "text2": "mok", "score": score}, {"text1": "tin", "text2": "ven", "score": 0}],
            )
            for name, score in (("a.jsonl", 1.0), (f"{other}.jsonl", other))
        ]
        data = open_data(tuple(map(str, files)), "sts")
        assert any("bring them to one scale" in line for line in remarks(task, data)) == is_said
