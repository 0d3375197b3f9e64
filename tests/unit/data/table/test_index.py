"""A source is read once; later starts use its memory-mapped arrays."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from harness.data.config import PromptsConfig, TaskConfig
from harness.data.data_config import DataConfig
from harness.data.plan.query_texts import RowsOfTexts
from harness.data.table import index, source_state
from harness.data.table.findings import negatives_per_row, remarks
from harness.data.table.identity import TextKeys, text_hash, token_hash
from harness.data.table.index import TaskData, open_task
from harness.data.table.npy import ArrayFile
from harness.data.table.rows.pieces import BadRowError
from harness.data.table.tokenisation import Tokeniser
from tests.peak_memory import traced_peak
from tests.tiny import make_model
from tests.unit.data.table.sources import ROWS, Open, write_lines


def test_texts_are_read_in_the_order_asked_for_with_repeats(tmp_path: Path, open_data: Open) -> None:
    data = open_data(write_lines(tmp_path / "a.jsonl", ROWS))
    every = data.read_texts(np.arange(data.num_texts))
    ids = np.array([7, 3, 3, 90, 0, 7])
    assert data.read_texts(ids) == [every[i] for i in ids]
    assert data.read_texts(np.empty(0, dtype=np.int64)) == []


def test_rows_whose_query_has_an_equal_text_or_equal_tokens_are_found(tmp_path: Path, open_data: Open) -> None:
    data = open_data(write_lines(tmp_path / "a.jsonl", ROWS), query_max_length=24)
    hashes = np.array([text_hash(text) for text in ("ral tin 3", "nowhere", "ral tin 0")], dtype=np.uint64)
    tokens = np.array([token_hash([1]), token_hash([2]), data.token_hash_G[data.row_start_R1[1]]], dtype=np.uint64)
    visited = [
        (int(e), int(r))
        for pairs in RowsOfTexts(data, TextKeys(hashes, tokens)).visit()
        for e, r in zip(*pairs, strict=True)
    ]
    found = [sorted({row for text, row in visited if text == e}) for e in range(3)]
    rows_0_and_1 = sorted([*range(0, 60, 7), *range(1, 60, 7)])  # raw text "ral tin 0", or the tokens of row 1
    assert found == [list(range(3, 60, 7)), [], rows_0_and_1]


def test_a_bad_file_leaves_nothing_behind_and_is_read_again(tmp_path: Path, open_data: Open) -> None:
    path = write_lines(tmp_path / "a.jsonl", [*ROWS, "broken"])
    for _ in range(2):
        with pytest.raises(BadRowError):
            open_data(path)
    assert [file.suffix for file in (tmp_path / "cache" / "rows").iterdir() if file.suffix != ".lock"] == []
    write_lines(path, ROWS)
    assert open_data(path).num_rows == len(ROWS)


def _forbid_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        pytest.fail("read the source again")

    monkeypatch.setattr(index, "write_rows", refuse)


def test_a_later_start_never_reads_the_source(tmp_path: Path, open_data: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_lines(tmp_path / "a.jsonl", ROWS)
    monkeypatch.setattr(source_state, "_SETTLED_SECONDS", 0)
    first = open_data(path)
    _forbid_reading(monkeypatch)
    monkeypatch.setattr(source_state, "sizes_and_hashes", lambda *_: pytest.fail("hashed the source again"))
    again = open_data(path, query_max_length=5)  # another length: only the token arrays are rebuilt
    assert again.content_hash == first.content_hash
    assert again.read_texts(np.arange(5)) == first.read_texts(np.arange(5))
    assert again.length_G.tolist() != first.length_G.tolist()


@pytest.mark.parametrize("settled", [0, 2])
@pytest.mark.parametrize("how", ["written over", "moved into its place"])
def test_a_file_of_equal_size_and_time_with_other_content_is_read(
    tmp_path: Path, open_data: Open, monkeypatch: pytest.MonkeyPatch, how: str, settled: int
) -> None:
    """Nothing but the content tells them apart. settled: whether the hash of the first one was kept."""
    monkeypatch.setattr(source_state, "_SETTLED_SECONDS", settled)
    path = write_lines(tmp_path / "a.jsonl", ROWS)
    first, before = open_data(path), path.stat()
    time.sleep(0.02)  # longer than a tick of the file system's clock
    other = path if how == "written over" else tmp_path / "other"
    other.write_bytes(path.read_bytes().replace(b"mok 7", b"mok 8"))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)
    assert path.stat().st_size == before.st_size
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    again = open_data(path)
    assert again.content_hash != first.content_hash
    assert again.text_hash_G.tolist() != first.text_hash_G.tolist()


def test_a_file_whose_time_has_changed_but_not_its_content_is_not_read_again(
    tmp_path: Path, open_data: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_lines(tmp_path / "a.jsonl", ROWS)
    open_data(path)
    _forbid_reading(monkeypatch)
    os.utime(path, ns=(0, 0))
    assert open_data(path).num_rows == len(ROWS)


def test_a_later_start_does_not_tokenise_again(
    tmp_path: Path, open_data: Open, tokeniser: Tokeniser, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_lines(tmp_path / "a.jsonl", ROWS)
    first = open_data(path)
    _forbid_reading(monkeypatch)
    monkeypatch.setattr(tokeniser, "encode", lambda *_: pytest.fail("tokenised again"))
    assert open_data(path).token_hash_G.tolist() == first.token_hash_G.tolist()


@pytest.mark.parametrize(
    "change",
    [
        {"query_max_length": 4},
        {"document_max_length": 4},
        {"prompts": PromptsConfig(query="dip ")},
        {"prompts": PromptsConfig(document="dip ")},
    ],
)
def test_what_changes_the_tokens_makes_them_anew(
    tmp_path: Path, open_data: Open, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    path = write_lines(tmp_path / "a.jsonl", ROWS)
    first = open_data(path)
    _forbid_reading(monkeypatch)
    assert open_data(path, **change).token_hash_G.tolist() != first.token_hash_G.tolist()


def test_another_tokenizer_makes_the_tokens_anew(tmp_path: Path, open_data: Open, tokeniser: Tokeniser) -> None:
    path = write_lines(tmp_path / "a.jsonl", ROWS)
    first = open_data(path)
    other = Tokeniser(str(make_model(tmp_path / "other")))
    state = json.loads(other.tokenizer.backend_tokenizer.to_str())
    state["normalizer"] = None
    state["model"]["vocab"] = dict(
        zip(state["model"]["vocab"], reversed(state["model"]["vocab"].values()), strict=True)
    )
    (tmp_path / "other" / "tokenizer.json").write_text(json.dumps(state))
    other = Tokeniser(str(tmp_path / "other"))
    assert open_data(path, tokeniser=other).token_hash_G.tolist() != first.token_hash_G.tolist()


def test_a_file_that_grows_while_it_is_read_is_refused(
    tmp_path: Path, open_data: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_lines(tmp_path / "a.jsonl", ROWS)
    write_rows = index.write_rows

    def append_too(*arguments: Any, **options: Any) -> Any:
        result = write_rows(*arguments, **options)
        path.write_text(path.read_text() + json.dumps(ROWS[0]) + "\n")
        return result

    monkeypatch.setattr(index, "write_rows", append_too)
    with pytest.raises(ValueError, match="got a source that changed while it was read"):
        open_data(path)


def test_the_content_hash_is_the_files_sha256(tmp_path: Path, open_data: Open) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in ROWS).encode()))
    assert open_data(path).content_hash == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_saved_dataset_is_hashed_by_its_rows(tmp_path: Path, open_data: Open) -> None:
    for name, rows in (("one", ROWS), ("same", ROWS), ("other", ROWS[1:])):
        datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / name))
    hashes = [open_data(tmp_path / name).content_hash for name in ("one", "same", "other")]
    assert hashes[0] == hashes[1] != hashes[2]
    assert open_data(tmp_path / "one").num_rows == len(ROWS)


def test_what_a_killed_process_left_is_not_taken_for_whole(tmp_path: Path, open_data: Open) -> None:
    path = write_lines(tmp_path / "a.jsonl", ROWS)
    first = open_data(path).text_hash_G.tolist()
    (rows,) = [folder for folder in (tmp_path / "cache" / "rows").iterdir() if folder.is_dir()]
    unfinished = rows.with_name(f"{rows.name}.unfinished")
    rows.rename(unfinished)
    (unfinished / "meta.json").unlink()
    (unfinished / "text_hash_G.npy").write_bytes(b"half")
    assert open_data(path).text_hash_G.tolist() == first
    assert not unfinished.exists()


@pytest.mark.parametrize("damage", ["ids", "start", "cut", "other length"])
def test_damaged_token_ids_are_never_trained_on(tmp_path: Path, open_data: Open, damage: str) -> None:
    """What has changed since the check at the start is seen when the text is used."""
    path = write_lines(tmp_path / "a.jsonl", ROWS)
    data = open_data(path)
    ids = np.arange(data.num_texts)
    assert data.token_E is not None
    assert data.token_E.dtype == np.uint16
    assert (data.read_tokens(ids[::-1]).hashes() == data.token_hash_G[::-1]).all()
    expected = data.read_tokens(ids).ids_E
    (folder,) = (tmp_path / "cache" / "rows").glob("*/tokens-*/")
    file = folder / ("token_start_G1.npy" if damage == "start" else "token_E.npy")
    array = np.load(file)
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-2])
    else:
        array[7] += 1
        np.save(file, array[:-1] if damage == "other length" else array)
    with pytest.raises(ValueError, match=r"data\.cache: got a damaged folder '.*' \(.*\), expected .*delete it"):
        open_data(path).read_tokens(ids)
    shutil.rmtree(folder)
    assert (open_data(path).read_tokens(ids).ids_E == expected).all()


def test_a_vocabulary_beyond_two_bytes_takes_four(tmp_path: Path, open_data: Open, tokeniser: Tokeniser) -> None:
    class Large(Tokeniser):
        largest_id = 2**16

        def __init__(self) -> None:
            self.__dict__ = tokeniser.__dict__

    path = write_lines(tmp_path / "a.jsonl", ROWS)
    data = open_data(path, tokeniser=Large())
    assert data.token_E is not None
    assert data.token_E.dtype == np.uint32
    assert (data.read_tokens(np.arange(data.num_texts)).hashes() == data.token_hash_G).all()


def test_opening_reads_nothing_that_grows_with_the_rows(
    tmp_path: Path, open_data: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the maps themselves, opening and describing 16 times as many rows takes no more memory."""
    monkeypatch.setattr("harness.files._HASHED_BYTES", 1000)  # else the buffer hides an array of all rows
    peaks = []
    for count in (4000, 64_000):
        path = write_lines(
            tmp_path / f"{count}.jsonl", [{"query": f"q{i}", "pos": ["p"], "neg": ["n"]} for i in range(count)]
        )
        data = open_data(path)
        task = TaskConfig(name="t", kind="retrieval", path=str(path), quota=1)

        def described(path: Path = path, task: TaskConfig = task) -> tuple[TaskData, list[str], list[Any]]:
            again = open_data(path)
            return again, remarks(task, again), negatives_per_row(again)

        (again, found, negatives), peak = traced_peak(described)
        assert "rows have negatives that are not used" in found[0]
        assert negatives == [(1, 1.0, 1)]
        assert again.num_rows == data.num_rows == count
        peaks.append(peak)
    assert peaks[1] < peaks[0] + (64_000 - 4000) / 2  # a byte a row would be twice as much; noise has been 8 kB


def test_a_full_disk_costs_one_line(tmp_path: Path, open_data: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_lines(tmp_path / "a.jsonl", ROWS)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ArrayFile, "append", full)
    with pytest.raises(ValueError, match=r"^data\.cache: got .*whose disk became full.*on another disk$"):
        open_data(path)
    monkeypatch.undo()
    assert open_data(path).num_rows == len(ROWS)


def test_a_cache_that_cannot_be_written_names_the_key(tmp_path: Path, tokeniser: Tokeniser) -> None:
    path = write_lines(tmp_path / "a.jsonl", ROWS)
    task = TaskConfig(name="t", kind="retrieval", path=str(path), quota=1)
    with pytest.raises(ValueError, match=r"data\.cache: got .*expected a folder that can be written"):
        open_task(task, str(path), DataConfig(cache=str(path)), tokeniser, 8, 8)


def test_arrays_stay_on_disk(tmp_path: Path, open_data: Open) -> None:
    data = open_data(write_lines(tmp_path / "a.jsonl", ROWS))
    arrays = [value for value in vars(data).values() if isinstance(value, np.ndarray)]
    assert len(arrays) == 14
    assert all(isinstance(array, np.memmap) and not array.flags.writeable for array in arrays)


def test_data_under_other_columns_is_other_data(tmp_path: Path, open_data: Open) -> None:
    """A bank says by this hash which rows its candidates belong to."""
    path = write_lines(tmp_path / "a.jsonl", [{"query": "ral", "positive": "mok", "other": "sul"}] * 2)
    mapped = {"positive": "other", "ignore": "positive"}
    hashes = [open_data(path, columns=columns).content_hash for columns in ({}, mapped)]
    assert hashes[0] == hashlib.sha256(path.read_bytes()).hexdigest() != hashes[1]
