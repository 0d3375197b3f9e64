"""csv, tsv, JSON lists, packed files, folders, patterns and lists of files give the rows that JSON lines give."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.data.source.containers import json_files
from harness.data.source.files import BadRow, read_rows
from harness.data.source.shards import source_files
from harness.types import Example
from tests.unit.data.source.rows_of import read, texts, write

ROWS = [{"query": f'frage {i}, "äöü"\u2028中', "positive": f"p\n{i}", "negative": "x" * i or "-"} for i in range(40)]


def _delimited(rows: list[dict[str, str]], delimiter: str) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _zstandard(raw: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(raw)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [("", bytes), (".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress), (".zst", _zstandard)],
)
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.json", "a.jsonl", "a.ndjson"])
def test_every_container_gives_the_same_rows(
    tmp_path: Path, name: str, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    content = {
        "a.csv": _delimited(ROWS, ","),
        "a.tsv": _delimited(ROWS, "\t"),
        "a.json": json.dumps(ROWS, indent=1),
    }.get(name, "".join(json.dumps(row) + "\n" for row in ROWS))
    path = write(tmp_path / f"{name}{suffix}", pack(content.encode()))
    assert [row for _, row in read_rows(path, "train")] == ROWS
    if suffix:
        (tmp_path / f"cut.{name}{suffix}").write_bytes(Path(path).read_bytes()[:-9])
        with pytest.raises(ValueError, match="expected a whole, readable file"):
            list(read_rows(str(tmp_path / f"cut.{name}{suffix}"), "train"))


def test_csv_values_get_their_types_from_the_format(tmp_path: Path) -> None:
    """An id that looks like a number or a date stays text; a score is a number; an empty optional cell is nothing."""
    found, facts = read(write(tmp_path / "a.csv", "id,text1,text2,score\n007,2024-01-01,12,4.5\n8,a,b,x\n"), "sts")
    assert isinstance(found[0], Example)
    assert (found[0].texts, found[0].score) == (("2024-01-01", "12"), 4.5)
    assert found[1] == "F:3: score: got str 'x', expected a number"
    assert facts[0].unused == {"id": 2}
    path = write(tmp_path / "b.csv", 'query,positive,negative\n1,"[""a"", ""b""]",\n2,c,d\n3,"[\'a\', \'b\']",\n')
    found, _ = read(path)
    assert texts(found)[:2] == [("1", "a", "b", "|"), ("2", "c", "|", "d")]
    assert str(found[2]).startswith("F:4: positive: got a Python list")


def test_a_whole_number_in_csv_is_one_label_and_an_underscore_is_no_number(tmp_path: Path) -> None:
    """pandas writes 1.0 for 1 in a column with gaps, and Python takes 1_5 for 15."""
    found, _ = read(write(tmp_path / "a.csv", "text,label\na,1\nb,1.0\nc,-1.0\nd,1.5\ne,v1.0\n"), "classification")
    assert [example.label for example in found if isinstance(example, Example)] == ["1", "1", "-1", "1.5", "v1.0"]
    found, _ = read(write(tmp_path / "b.csv", "text1,text2,score\na,b,1_5\n"), "sts")
    assert found == ["F:2: score: got str '1_5', expected a number"]


def test_csv_lines_are_counted_through_blank_lines_and_line_breaks_in_texts(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", '\ufeffquery,positive\r\n"a\r\nb",p\r\n\r\nc\r\nd,q\r\n"e" f,q\r\n')
    rows = list(read_rows(path, "train"))
    assert rows[0] == (2, {"query": "a\r\nb", "positive": "p"})
    assert rows[2] == (6, {"query": "d", "positive": "q"})
    assert [line for line, row in rows if isinstance(row, BadRow)] == [5, 7]


def test_a_first_line_that_names_no_columns_is_refused(tmp_path: Path) -> None:
    found, _ = read(write(tmp_path / "a.tsv", "10\t20\t30\n11\t21\t31\n"))
    assert str(found[0]).endswith(
        "the first line must name the columns; ids name texts of other files: join these first"
    )
    with pytest.raises(ValueError, match=r"a\.csv:1: columns: got 'positive' twice"):
        read(write(tmp_path / "a.csv", "query,positive,positive\na,b,c\n"))


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_a_json_list_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(json_files, "_CHUNK_BYTES", chunk)
    content: list[Any] = [*ROWS[:5], 12, 3.5, [1, {"a": "]"}]]
    path = write(tmp_path / "a.json", "\ufeff \n" + json.dumps(content, ensure_ascii=False) + "\n")
    if chunk == 1:
        monkeypatch.setattr(json_files, "_CHUNK_BYTES", 8)  # the first bytes must show the bracket
    rows = list(read_rows(path, "train"))
    assert [row for _, row in rows[:5]] == ROWS[:5]
    assert [(line, row.got) for line, row in rows[5:] if isinstance(row, BadRow)] == [
        (6, "a JSON int"),
        (7, "a JSON float"),
        (8, "a JSON list"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps({"data": ROWS[:2]}), "got an object with the rows under 'data'"),
        (json.dumps({"data": ROWS[:2]}, indent=1), "got what is not one JSON object per line"),
        (json.dumps(ROWS)[:-5], r"a\.json:40: file: got JSONDecodeError"),
        (json.dumps(ROWS) + "[]", "text after the list"),
        ('[{"query": "a", "query": "b"}]', r"a\.json:1: row: got the key 'query' twice, expected every key once"),
    ],
)
def test_other_json_is_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(read_rows(write(tmp_path / "a.json", content), "train"))


def test_quotes_that_join_whole_rows_of_a_tsv_file_are_broken(tmp_path: Path) -> None:
    """Files of plain tab-separated texts know no quotes: one text may begin with one, and a later text end with one."""
    rows = ['q1\t"he said\tn1', "q2\ta\tn2", "", 'q3\tin a jar"\tn3', 'q4\t"one\ntext"\tn4', "q5\tb\tn5"]
    path = write(tmp_path / "a.tsv", "\n".join(["query\tpositive\tnegative", *rows]) + "\n")
    results, _ = read(path)
    problem = "broken quotes (they join lines 2 to 5, each of which is a whole row)"
    assert results[0] == f'F:5: row: got {problem}, expected quotes as in "one ""quoted"" text"'
    assert texts(results[1:]) == [("q4", "one\ntext", "|", "n4"), ("q5", "b", "|", "n5")]


def test_a_first_line_in_quotes_with_another_separator_is_not_passed_over(tmp_path: Path) -> None:
    """Spreadsheets of many countries write semicolons; the second line must not become the names."""
    path = write(tmp_path / "a.csv", '"query";"positive"\n"q1";"a"\n')
    with pytest.raises(ValueError, match=r"a\.csv:1: row: got broken quotes .* with a comma between them"):
        read(path)


def test_folders_patterns_and_lists_are_read_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    write(folder / "b.jsonl", [{"query": "q2", "pos": ["b"]}])
    write(folder / "a.jsonl.gz", gzip.compress(b'{"anchor": "q1", "positive": "a"}\n'))
    pq.write_table(pa.Table.from_pylist([{"query": "q3", "positive": "c"}]), folder / "c.parquet")
    write(folder / "README.md", "a card")
    write(folder / "dataset_infos.json", "{}")
    expected = [("q1", "a", "|"), ("q2", "b", "|"), ("q3", "c", "|")]
    assert texts(read(str(folder))[0]) == expected
    assert texts(read(f"{folder}/*.jsonl*")[0]) == expected[:2]
    assert source_files((f"{folder}/c.parquet", f"{folder}/b.*"), "train") == [
        f"{folder}/c.parquet",
        f"{folder}/b.jsonl",
    ]


@pytest.mark.parametrize(
    ("names", "split", "read_names", "message"),
    [
        (("train.jsonl", "test.jsonl"), "train", ["train.jsonl"], ""),
        (("train-00000.parquet", "train-00001.parquet", "validation-0.parquet"), "dev", ["validation-0.parquet"], ""),
        (("train.jsonl", "test.jsonl"), "dev", [], "no file of split 'dev'"),
        (("train.jsonl", "more.jsonl"), "train", [], "'more.jsonl' beside files named after splits"),
        (("a.jsonl", "a.jsonl.gz"), "train", [], "several files called 'a'"),
        (("a.txt",), "train", [], "expected files in it that can be read"),
    ],
)
def test_a_folder_is_read_whole_or_by_split_or_refused(
    tmp_path: Path, names: tuple[str, ...], split: str, read_names: list[str], message: str
) -> None:
    for name in names:
        write(tmp_path / "d" / name, "")
    if read_names:
        assert [Path(file).name for file in source_files(str(tmp_path / "d"), split)] == read_names
        return
    with pytest.raises(ValueError, match=message):
        source_files(str(tmp_path / "d"), split)


def test_a_folder_with_files_in_it_and_below_it_is_refused(tmp_path: Path) -> None:
    for name in ("a.jsonl", "sub/b.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('{"query": "q", "positive": "p"}\n')
    with pytest.raises(ValueError, match=r"with 'a.jsonl' and 'sub/b.jsonl', expected files in one folder"):
        source_files(str(tmp_path), "train")


def test_a_file_named_twice_and_a_pattern_that_fits_nothing_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", ROWS)
    with pytest.raises(ValueError, match="twice"):
        source_files((path, f"{tmp_path}/*.jsonl"), "train")
    with pytest.raises(ValueError, match=r"got the pattern .*expected at least one file"):
        source_files(f"{tmp_path}/*.csv", "train")


def test_a_configuration_is_for_hub_names_only(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"tasks\.config_name: got 'en'"):
        list(read_rows(write(tmp_path / "a.jsonl", ROWS), "train", "en"))
