"""Rows of every file format are read one at a time."""

from __future__ import annotations

import gzip
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.data.source.files import BadRow, read_lines, read_rows
from harness.data.source.formats import read_formatted_rows
from tests.peak_memory import traced_peak

ROWS: list[dict[str, Any]] = [{"query": f"frage {i} äöü 中", "positive": [f"p{i}"]} for i in range(2500)]


def _bytes(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _write(path: Path, content: bytes) -> str:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return str(path)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.jsonl.gz", "a.json.gz"])
def test_json_lines_are_read_with_their_line_numbers(tmp_path: Path, name: str) -> None:
    rows = list(read_rows(_write(tmp_path / name, _bytes(ROWS)), "train"))
    assert rows == list(enumerate(ROWS, start=1))


def test_parquet_rows_are_numbered_from_one(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet", row_group_size=700)
    assert list(read_rows(str(tmp_path / "a.parquet"), "train")) == list(enumerate(ROWS, start=1))


def test_a_saved_dataset_is_read_whatever_its_split(tmp_path: Path) -> None:
    datasets.Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "saved"))
    assert list(read_rows(str(tmp_path / "saved"), "train")) == list(enumerate(ROWS, start=1))


def test_the_split_chooses_within_a_saved_dataset_dict(tmp_path: Path) -> None:
    splits = {"train": datasets.Dataset.from_list(ROWS), "dev": datasets.Dataset.from_list(ROWS[:3])}
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "saved"))
    assert [row for _, row in read_rows(str(tmp_path / "saved"), "dev")] == ROWS[:3]
    with pytest.raises(ValueError, match=r"tasks\.split: got 'test', expected a split of .*: train, dev"):
        read_rows(str(tmp_path / "saved"), "test")


def test_a_name_that_is_no_path_is_asked_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(name: str, split: str) -> datasets.Dataset:
        asked.append((name, split))
        return datasets.Dataset.from_list(ROWS[:2])

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert list(read_rows("someone/pairs", "dev")) == [(1, ROWS[0]), (2, ROWS[1])]
    assert asked == [("someone/pairs", "dev")]


def test_a_hub_that_breaks_off_is_one_line_naming_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub_answers: None
) -> None:
    def load_dataset(name: str, split: str) -> datasets.Dataset:
        raise ConnectionError("no route\nto host")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(ValueError, match=r"^tasks\.path: got 'someone/pairs'.*ConnectionError: no route.*$") as caught:
        read_rows("someone/pairs", "dev")
    assert "\n" not in str(caught.value)


def test_a_hub_that_never_answers_is_waited_for_once_and_its_cache_is_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent_hub: list[object]
) -> None:
    """datasets would ask six times more, for 24 s, before it looks into its cache."""
    monkeypatch.chdir(tmp_path)
    offline = []

    def load_dataset(name: str, split: str) -> datasets.Dataset:
        offline.append(datasets.config.HF_HUB_OFFLINE)
        if name == "someone/cached":
            return datasets.Dataset.from_list(ROWS[:2])
        raise ConnectionError("offline")

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert list(read_rows("someone/cached", "dev")) == [(1, ROWS[0]), (2, ROWS[1])]
    for _ in range(2):
        with pytest.raises(ValueError, match=r"someone/pairs.*ReadTimeout.*HF_ENDPOINT names a mirror, HF_HOME"):
            read_rows("someone/pairs", "dev")
    assert len(silent_hub) == 2  # once for each name
    assert offline == [True] * 3
    assert not datasets.config.HF_HUB_OFFLINE  # of a process that goes on


@pytest.mark.parametrize("name", ["missing.jsonl", "/no/such/folder", "train/x.jsonl.gz", "a/b/c"])
def test_a_mistyped_file_is_not_looked_up_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("asked the hub"))
    with pytest.raises(ValueError, match=r"tasks\.path: got .* which does not exist"):
        read_rows(name, "train")


def test_unknown_files_and_folders_name_what_is_known(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"tasks\.path: .*a\.xyz.*expected a file ending in \.jsonl"):
        read_rows(_write(tmp_path / "a.xyz", b"query,pos\n"), "train")
    with pytest.raises(ValueError, match=r"tasks\.path: got folder .*save_to_disk"):
        read_rows(str(tmp_path), "train")


GOOD = b'{"query": "q", "positive": "p"}\n'


@pytest.mark.parametrize(
    ("bad", "got"),
    [
        (b'{"query": "q", \n', "broken JSON"),
        (b"[1, 2]\n", "a JSON list"),
        (b"null\n", "a JSON NoneType"),
        (b'{"query": "q\xff"}\n', "byte 0xff at byte 13 of the line"),
        (b'{"query": ' + b"9" * 5000 + b"}\n", "JSON that cannot be read"),
        (b"[" * 100_000 + b"\n", "JSON that cannot be read"),
        (b'{"query": "a\x00b"}\n', "broken JSON"),
    ],
)
def test_a_line_that_is_no_object_is_a_bad_row_and_the_next_is_read(tmp_path: Path, bad: bytes, got: str) -> None:
    rows = list(read_rows(_write(tmp_path / "a.jsonl", GOOD + bad + GOOD), "train"))
    assert [line for line, _ in rows] == [1, 2, 3]
    assert rows[0][1] == rows[2][1] == json.loads(GOOD)
    assert isinstance(rows[1][1], BadRow)
    assert rows[1][1].got.startswith(got)
    assert "\n" not in rows[1][1].message("a.jsonl", 2)


@pytest.mark.parametrize("blank", [b"\n", b"  \r\n", b"\t\n\n"])
def test_blank_lines_are_passed_over_and_counted(tmp_path: Path, blank: bytes) -> None:
    """Other JSON Lines readers do the same; editors and `echo` leave blank lines at the end of a file."""
    rows = list(read_rows(_write(tmp_path / "a.jsonl", blank + GOOD + blank + GOOD + blank), "train"))
    lines = blank.count(b"\n")
    assert rows == [(1 + lines, json.loads(GOOD)), (2 + 2 * lines, json.loads(GOOD))]


def test_windows_line_ends_and_a_byte_order_mark_are_no_errors(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.jsonl", b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n") + GOOD.rstrip())
    assert [row for _, row in read_rows(path, "train")] == [json.loads(GOOD)] * 2


@pytest.mark.parametrize(("encoding", "name"), [("gbk", "GB18030"), ("utf-16", "UTF-16")])
def test_a_file_in_an_encoding_of_windows_says_which_and_how_to_convert_it(
    tmp_path: Path, encoding: str, name: str
) -> None:
    """What Excel writes for a Chinese table that is not saved as "CSV UTF-8"."""
    for suffix, text in (
        (".csv", "问题,答案\n茶能放多久,两年\n"),
        (".jsonl", '{"query": "茶能放多久", "positive": "两年"}\n'),
    ):
        _, row = next(read_rows(_write(tmp_path / f"a{suffix}", text.encode(encoding)), "train"))
        assert isinstance(row, BadRow)
        assert row.expected.startswith(f"UTF-8; it looks like {name}: iconv -f {name} -t UTF-8 ")


def test_a_truncated_gzip_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(_bytes(ROWS))[:-400])
    rows: list[Any] = []
    with pytest.raises(ValueError, match=r"a\.jsonl\.gz:\d+: file: got EOFError") as caught:
        rows.extend(read_rows(str(path), "train"))
    assert rows == list(enumerate(ROWS[: len(rows)], start=1))
    assert f":{len(rows) + 1}: " in str(caught.value)


def test_a_gzip_whose_checksum_is_wrong_is_an_error(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(_bytes(ROWS)))
    packed[-8] ^= 1
    (tmp_path / "a.jsonl.gz").write_bytes(packed)
    with pytest.raises(ValueError, match=r"a\.jsonl\.gz:2501: file: got BadGzipFile"):
        list(read_rows(str(tmp_path / "a.jsonl.gz"), "train"))


def test_a_truncated_parquet_file_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "whole.parquet")
    (tmp_path / "a.parquet").write_bytes((tmp_path / "whole.parquet").read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"a\.parquet:1: file: got ArrowInvalid"):
        list(read_rows(str(tmp_path / "a.parquet"), "train"))


def test_a_parquet_string_that_is_not_utf8_is_one_bad_row(tmp_path: Path) -> None:
    raw = pa.array([b"one", b"t\xffo", b"three"])
    text = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    pq.write_table(pa.table({"query": text, "positive": ["a", "b", "c"]}), tmp_path / "a.parquet")
    rows = [row for _, row in read_rows(str(tmp_path / "a.parquet"), "train")]
    assert rows[0] == {"query": "one", "positive": "a"}
    assert rows[1] == BadRow("query", "byte 0xff at byte 2", "UTF-8")
    assert rows[2] == {"query": "three", "positive": "c"}


def test_rows_are_streamed(tmp_path: Path) -> None:
    """Reading the first rows of a large file must not load the rest of it."""
    path = _write(tmp_path / "a.jsonl", GOOD * 300_000)
    first, peak = traced_peak(lambda: list(itertools.islice(read_rows(path, "train"), 3)))
    assert len(first) == 3
    assert peak < 1_000_000 < Path(path).stat().st_size


def test_lines_of_text_are_read_as_rows_are(tmp_path: Path) -> None:
    """The judgements of a BEIR folder are lines of text, not JSON."""
    path = _write(tmp_path / "a.tsv", b"\xef\xbb\xbfa\tb\r\n\n\xff\nc\td")
    wrong = BadRow("row", "byte 0xff at byte 1 of the line", "UTF-8")
    assert list(read_lines(path)) == [(1, "a\tb\r\n"), (3, wrong), (4, "c\td")]
    assert list(read_lines(_write(tmp_path / "a.tsv.gz", b"a\n"))) == [(1, "a\n")]


def test_importing_the_reader_does_not_import_datasets() -> None:
    """`datasets` takes a second to import; only folders and hub names need it."""
    code = "import sys, harness.data.source.files; sys.exit('datasets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_key_that_an_object_has_twice_is_a_bad_row(tmp_path: Path) -> None:
    """json keeps the last value only, so that a positive would be lost without a word."""
    file = tmp_path / "rows.jsonl"
    file.write_text('{"query": "a", "positive": "b", "positive": "c"}\n{"query": "d", "positive": "e"}\n')
    (_, bad), (_, good) = read_rows(str(file), "train")
    assert isinstance(bad, BadRow)
    assert bad.got == "the key 'positive' twice"
    assert good == {"query": "d", "positive": "e"}


@pytest.mark.parametrize("saved", [False, True])
def test_class_labels_of_inference_have_their_names_and_no_label_is_null(tmp_path: Path, saved: bool) -> None:
    """In GLUE's RTE 0 is entailment: read as a number, what follows would be trained as what does not."""
    columns: dict[str, Any] = {"sentence1": ["a", "b", "c"], "sentence2": ["d", "e", "f"], "label": [0, 1, -1]}
    for names, expected in (
        (["entailment", "not_entailment"], ["entailment", "not_entailment", None]),
        (["not_duplicate", "duplicate"], [0, 1, None]),
    ):
        text = datasets.Value("string")
        features = {"sentence1": text, "sentence2": text, "label": datasets.ClassLabel(names=names)}
        rows = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
        place = tmp_path / names[0]
        rows.save_to_disk(str(place)) if saved else rows.to_parquet(str(place.with_suffix(".parquet")))
        path = str(place if saved else place.with_suffix(".parquet"))
        assert [row["label"] for _, row in read_rows(path, "train") if not isinstance(row, BadRow)] == expected
    path = path.replace("not_duplicate", "entailment")
    messages = [row.message("F", line) for line, row in read_formatted_rows(path, "train", "retrieval")]  # type: ignore[union-attr]
    assert messages[0].startswith("F:1: label: got str 'entailment', expected 1 or 0")
    assert messages[2].startswith("F:3: label: got null, expected 1 or 0")
