"""A source is read once, checked, and found again as memory-mapped arrays."""

from __future__ import annotations

import gzip
import hashlib
import json
import multiprocessing
import os
import shutil
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from harness.data.config import DataConfig, NegativesConfig, PromptsConfig, TaskConfig
from harness.data.table import index, lookup
from harness.data.table import writer as index_writer
from harness.data.table.index import TaskData, open_task
from harness.data.table.npy import ArrayFile, open_array
from harness.data.table.tokenisation import Tokeniser, text_hash, token_hash
from harness.data.table.writer import BadRowError
from tests.tiny import make_model

QUERY_LENGTH, DOCUMENT_LENGTH = 6, 9
ROWS = [
    {
        "query": f"ral tin {i % 7}",
        "pos": [f"mok {i} sul ven" for _ in range(1 + i % 3)],
        "neg": [f"dip {j} " * 8 for j in range(i % 4)],
    }
    for i in range(60)
]


@pytest.fixture(scope="module")
def tokeniser(tmp_path_factory: pytest.TempPathFactory) -> Tokeniser:
    return Tokeniser(str(make_model(tmp_path_factory.mktemp("model"))))


Open = Callable[..., TaskData]


@pytest.fixture
def open_data(tmp_path: Path, tokeniser: Tokeniser) -> Open:
    def open_data(path: Path | str, kind: Any = "retrieval", on_bad_row: Any = "stop", **changes: Any) -> TaskData:
        lengths = {"query_max_length": QUERY_LENGTH, "document_max_length": DOCUMENT_LENGTH}
        lengths = {key: changes.pop(key, value) for key, value in lengths.items()}
        progress, tokens = changes.pop("progress", None), changes.pop("tokeniser", tokeniser)
        if kind == "classification":
            changes["negatives"] = NegativesConfig(per_query=1)
        task = TaskConfig(name="t", kind=kind, path=str(path), quota=1, **changes)
        data = DataConfig(cache=str(tmp_path / "cache"), on_bad_row=on_bad_row)
        return open_task(task, str(path), data, tokens, **lengths, progress=progress)

    return open_data


def _write(path: Path, rows: list[Any]) -> Path:
    lines = (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def _labelled(*labels: object) -> list[dict[str, Any]]:
    return [{"text": f"text {i}", "label": label} for i, label in enumerate(labels)]


def test_texts_lie_in_the_order_of_the_rows(tmp_path: Path, open_data: Open) -> None:
    data = open_data(_write(tmp_path / "a.jsonl", ROWS))
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


def test_texts_are_read_in_the_order_asked_for_with_repeats(tmp_path: Path, open_data: Open) -> None:
    data = open_data(_write(tmp_path / "a.jsonl", ROWS))
    every = data.read_texts(np.arange(data.num_texts))
    ids = np.array([7, 3, 3, 90, 0, 7])
    assert data.read_texts(ids) == [every[i] for i in ids]
    assert data.read_texts(np.empty(0, dtype=np.int64)) == []


def test_lengths_and_hashes_are_those_of_prompt_and_text_cut_by_role(
    tmp_path: Path, open_data: Open, tokeniser: Tokeniser
) -> None:
    rows = [ROWS[3], ROWS[3] | {"prompt": "sul sul "}, ROWS[3] | {"prompt": ""}]
    prompts = PromptsConfig(query="dip: ", document="ven ")
    data = open_data(_write(tmp_path / "a.jsonl", rows), prompts=prompts)
    strings = []
    for own, row in zip(("dip: ", "sul sul ", ""), rows, strict=True):
        strings += [(own + row["query"], QUERY_LENGTH)]
        strings += [("ven " + text, DOCUMENT_LENGTH) for text in row["pos"] + row["neg"]]
    ids = [tokeniser.encode([text], length)[0] for text, length in strings]
    assert data.length_G.tolist() == [len(row) for row in ids]
    assert data.token_hash_G.tolist() == [token_hash(row) for row in ids]
    assert max(data.length_G) == DOCUMENT_LENGTH
    assert [prompt for _, prompt in data.read_texts(data.row_start_R1[:-1])] == [None, "sul sul ", ""]


def test_rows_with_equal_query_text_are_found(tmp_path: Path, open_data: Open) -> None:
    data = open_data(_write(tmp_path / "a.jsonl", ROWS))
    hashes = np.array([text_hash(text) for text in ("ral tin 3", "nowhere", "ral tin 0")], dtype=np.uint64)
    start, stop = data.rows_with_query(hashes)
    found = [data.sorted_query_row_R[a:b].tolist() for a, b in zip(start, stop, strict=True)]
    assert found == [list(range(3, 60, 7)), [], list(range(0, 60, 7))]


def test_the_query_lookup_is_the_same_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More rows than fit into one bucket are sorted bucket by bucket."""
    sizes: list[int] = []
    argsort = np.argsort
    monkeypatch.setattr(np, "argsort", lambda array, **options: sizes.append(len(array)) or argsort(array, **options))
    hashes = np.random.default_rng(0).integers(0, 2**64, 5000, dtype=np.uint64, endpoint=False)
    hashes[::10] = hashes[0]
    hashes[:2] = [0, 2**64 - 1]
    for bucket_rows in (10_000, 700, 7):
        with ArrayFile(tmp_path / "query_hash_R.npy", "uint64") as file:
            file.append(hashes)
        lookup.write_query_lookup(tmp_path, bucket_rows)
        assert max(sizes) < 2 * bucket_rows + 500  # 500 hashes are equal and cannot be parted
        sizes.clear()
        order = argsort(hashes, kind="stable")
        assert np.array_equal(open_array(tmp_path / "sorted_query_row_R.npy"), order)
        assert np.array_equal(open_array(tmp_path / "sorted_query_hash_R.npy"), hashes[order])


def test_the_label_lookup_is_the_same_in_pieces(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 9, 1000, dtype=np.int32)
    np.save(tmp_path / "label_R.npy", labels)
    for chunk_rows in (2000, 64, 1):
        lookup.write_label_lookup(tmp_path, 10, chunk_rows)
        assert np.array_equal(open_array(tmp_path / "label_order_R.npy"), np.argsort(labels, kind="stable"))
        expected = np.concatenate([[0], np.cumsum(np.bincount(labels, minlength=10))])
        assert np.array_equal(open_array(tmp_path / "label_start_C1.npy"), expected)


def test_sts_rows_keep_their_scores(tmp_path: Path, open_data: Open) -> None:
    rows = [{"sentence1": f"a {i}", "sentence2": f"b {i}", "score": i / 3} for i in range(10)]
    data = open_data(_write(tmp_path / "a.jsonl", rows), "sts")
    assert data.score_R is not None
    assert data.score_R.tolist() == np.array([i / 3 for i in range(10)], dtype=np.float32).tolist()
    assert data.read_texts(np.array([4, 5])) == [("a 2", None), ("b 2", None)]
    assert not data.role_G.any()
    assert data.label_R is None


def test_document_scores_are_kept_beside_their_texts(tmp_path: Path, open_data: Open) -> None:
    rows = [ROWS[3], ROWS[3] | {"pos_scores": [0.5], "neg_scores": [0.1, 0.2, 0.3]}]
    data = open_data(_write(tmp_path / "a.jsonl", rows))
    assert data.document_score_G is not None
    expected = np.array([np.nan] * 6 + [0.5, 0.1, 0.2, 0.3], dtype=np.float32)
    np.testing.assert_array_equal(data.document_score_G, expected)


def test_labels_are_numbered_by_first_appearance_and_looked_up(tmp_path: Path, open_data: Open) -> None:
    data = open_data(_write(tmp_path / "a.jsonl", _labelled("x", 7, "x", "7", "y", "y")), "classification")
    assert data.label_names == ("x", "7", "y")
    assert data.label_R is not None
    assert data.label_order_R is not None
    assert data.label_start_C1 is not None
    assert data.label_R.tolist() == [0, 1, 0, 1, 2, 2]
    assert data.label_order_R.tolist() == [0, 2, 1, 3, 4, 5]
    assert data.label_start_C1.tolist() == [0, 2, 4, 6]


def test_a_label_with_one_example_is_a_bad_row(tmp_path: Path, open_data: Open) -> None:
    """It has no positive."""
    path = _write(tmp_path / "a.jsonl", _labelled("x", "x", "lonely", "y", "y", "alone"))
    with pytest.raises(BadRowError) as caught:
        open_data(path, "classification")
    expected = "got a label with one example ('lonely'), expected at least two examples of every label"
    assert str(caught.value) == f"{path}:3: label: {expected}"
    data = open_data(path, "classification", on_bad_row="skip")
    assert data.line_R.tolist() == [1, 2, 4, 5]
    assert data.label_names == ("x", "y")
    assert [message.split(": ")[0] for message in data.bad_row_messages] == [f"{path}:3", f"{path}:6"]


def test_a_single_label_is_an_error(tmp_path: Path, open_data: Open) -> None:
    """Every other text would be a positive, none a negative."""
    with pytest.raises(ValueError, match=r"a\.jsonl: label: got only the label 'x', expected at least two"):
        open_data(_write(tmp_path / "a.jsonl", _labelled("x", "x")), "classification")


def test_the_first_bad_row_stops_with_one_line(tmp_path: Path, open_data: Open) -> None:
    path = _write(tmp_path / "a.jsonl", [ROWS[0], {"query": "q", "pos": [3]}, "broken"])
    with pytest.raises(BadRowError) as caught:
        open_data(path)
    assert str(caught.value) == f"{path}:2: pos[0]: got int 3, expected a text"


def test_columns_of_another_kind_name_file_and_known_sets(tmp_path: Path, open_data: Open) -> None:
    path = _write(tmp_path / "a.jsonl", ROWS)
    with pytest.raises(BadRowError, match=r"a\.jsonl:1: columns: got 'neg', 'pos', 'query', expected \(text1, text2"):
        open_data(path, "sts")


def test_bad_rows_are_counted_and_reported_when_skipped(tmp_path: Path, open_data: Open) -> None:
    bad = [{"query": "", "pos": ["p"]}, "[]", '{"query": "q"', {"pos": ["p"]}] * 10
    path = _write(tmp_path / "a.jsonl", [*bad, *ROWS[:5]])
    data = open_data(path, on_bad_row="skip")
    assert (data.num_rows, data.bad_rows, len(data.bad_row_messages)) == (5, 40, 20)
    assert data.bad_row_messages[0] == f"{path}:1: query: got str '', expected a text that is not empty"
    assert data.location(0) == f"{path}:41"
    assert data.location(data.num_texts - 1) == f"{path}:45"


@pytest.mark.parametrize("rows", [[], ["[]", "{}"]])
def test_no_usable_row_is_an_error_even_when_skipping(tmp_path: Path, open_data: Open, rows: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"a\.jsonl: got no usable row, expected at least one"):
        open_data(_write(tmp_path / "a.jsonl", rows), on_bad_row="skip")


def test_a_bad_file_leaves_nothing_behind_and_is_read_again(tmp_path: Path, open_data: Open) -> None:
    path = _write(tmp_path / "a.jsonl", [*ROWS, "broken"])
    for _ in range(2):
        with pytest.raises(BadRowError):
            open_data(path)
    assert [file.suffix for file in (tmp_path / "cache" / "rows").iterdir() if file.suffix != ".lock"] == []
    _write(path, ROWS)
    assert open_data(path).num_rows == len(ROWS)


def _forbid_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        pytest.fail("read the source again")

    monkeypatch.setattr(index, "write_rows", refuse)


def test_a_later_start_never_opens_the_source(tmp_path: Path, open_data: Open) -> None:
    """The source is replaced by as many zero bytes with the same time: whoever reads it fails."""
    path = _write(tmp_path / "a.jsonl", ROWS)
    first, before = open_data(path), path.stat()
    path.write_bytes(b"\0" * before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    again = open_data(path, query_max_length=5)  # another length: only the token arrays are made anew
    assert again.content_hash == first.content_hash
    assert again.read_texts(np.arange(5)) == first.read_texts(np.arange(5))
    assert again.length_G.tolist() != first.length_G.tolist()


def test_a_later_start_does_not_tokenise_again(
    tmp_path: Path, open_data: Open, tokeniser: Tokeniser, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _write(tmp_path / "a.jsonl", ROWS)
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
    path = _write(tmp_path / "a.jsonl", ROWS)
    first = open_data(path)
    _forbid_reading(monkeypatch)
    assert open_data(path, **change).token_hash_G.tolist() != first.token_hash_G.tolist()


def test_another_tokenizer_makes_the_tokens_anew(tmp_path: Path, open_data: Open, tokeniser: Tokeniser) -> None:
    path = _write(tmp_path / "a.jsonl", ROWS)
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


def test_a_changed_file_is_read_again(tmp_path: Path, open_data: Open) -> None:
    path = _write(tmp_path / "a.jsonl", ROWS)
    first = open_data(path)
    later = path.stat().st_mtime_ns + 1
    path.write_bytes(path.read_bytes().replace(b"mok 7", b"mok 8"))  # as many bytes as before
    os.utime(path, ns=(later, later))
    again = open_data(path)
    assert again.content_hash != first.content_hash
    assert again.text_hash_G.tolist() != first.text_hash_G.tolist()


def test_a_file_that_grows_while_it_is_read_is_refused(
    tmp_path: Path, open_data: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _write(tmp_path / "a.jsonl", ROWS)
    write_rows = index.write_rows

    def append_too(*arguments: Any) -> Any:
        result = write_rows(*arguments)
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


def _build(folder: Path, log: Path, gate: Any) -> None:
    def build(unfinished: Path) -> None:
        with log.open("a") as stream:
            stream.write("built\n")
        (unfinished / "part").write_text("one")
        time.sleep(0.3)
        assert not folder.exists()
        (unfinished / "rest").write_text("two")

    gate.wait()
    index._build_once(folder, build)
    assert (folder / "rest").read_text() == "two"


def test_of_processes_that_start_together_one_builds_and_the_others_wait(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")  # the children touch files only
    arguments = (tmp_path / "rows" / "key", tmp_path / "log", context.Barrier(3))
    processes = [context.Process(target=_build, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "built\n"


def test_what_a_killed_process_left_is_not_taken_for_whole(tmp_path: Path, open_data: Open) -> None:
    path = _write(tmp_path / "a.jsonl", ROWS)
    first = open_data(path).text_hash_G.tolist()
    (rows,) = [folder for folder in (tmp_path / "cache" / "rows").iterdir() if folder.is_dir()]
    unfinished = rows.with_name(f"{rows.name}.unfinished")
    rows.rename(unfinished)
    (unfinished / "meta.json").unlink()
    (unfinished / "text_hash_G.npy").write_bytes(b"half")
    assert open_data(path).text_hash_G.tolist() == first
    assert not unfinished.exists()


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path, open_data: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped at the very last moment, the build leaves nothing that a later start would take."""
    path, replace = _write(tmp_path / "a.jsonl", ROWS), os.replace

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        open_data(path)
    monkeypatch.setattr(os, "replace", replace)
    assert not [folder for folder in (tmp_path / "cache" / "rows").iterdir() if folder.is_dir()]
    assert open_data(path).num_rows == len(ROWS)


def test_a_damaged_cache_says_what_to_delete(tmp_path: Path, open_data: Open) -> None:
    path = _write(tmp_path / "a.jsonl", ROWS)
    open_data(path)
    (rows,) = [folder for folder in (tmp_path / "cache" / "rows").iterdir() if folder.is_dir()]
    array = rows / "text_hash_G.npy"
    array.write_bytes(array.read_bytes()[:-8])
    with pytest.raises(ValueError, match=rf"data\.cache: got a damaged folder '{rows}'.*delete it"):
        open_data(path)
    shutil.rmtree(rows)
    assert open_data(path).num_rows == len(ROWS)


def test_a_cache_that_cannot_be_written_names_the_key(tmp_path: Path, tokeniser: Tokeniser) -> None:
    path = _write(tmp_path / "a.jsonl", ROWS)
    task = TaskConfig(name="t", kind="retrieval", path=str(path), quota=1)
    with pytest.raises(ValueError, match=r"data\.cache: got .*expected a folder that can be written"):
        open_task(task, str(path), DataConfig(cache=str(path)), tokeniser, 8, 8)


def test_every_text_is_reported_once_written_and_once_tokenised(tmp_path: Path, open_data: Open) -> None:
    counts: list[int] = []
    data = open_data(_write(tmp_path / "a.jsonl", ROWS), progress=counts.append)
    assert sum(counts) == 2 * data.num_texts


def test_chunks_are_joined_without_a_seam(tmp_path: Path, open_data: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path / "a.jsonl", ROWS)
    whole = open_data(path)
    monkeypatch.setattr(index_writer, "CHUNK_TEXTS", 7)
    monkeypatch.setattr(index_writer, "TOKENISE_TEXTS", 3)
    pieces = open_data(shutil.copy(path, tmp_path / "b.jsonl"))
    for name in ("row_start_R1", "text_hash_G", "token_hash_G", "length_G", "role_G", "sorted_query_row_R"):
        assert np.array_equal(getattr(pieces, name), getattr(whole, name)), name
    ids = np.arange(whole.num_texts)[::-1]
    assert pieces.read_texts(ids) == whole.read_texts(ids)


def test_memory_does_not_grow_with_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No list of all rows is held: four times the rows need about the same memory."""
    monkeypatch.setattr(index_writer, "CHUNK_TEXTS", 2000)
    peaks = []
    for count in (2500, 10_000):
        folder = tmp_path / str(count)
        folder.mkdir()
        path = _write(folder / "a.jsonl", [{"query": f"q{i}", "positive": f"p{i}"} for i in range(count)])
        tracemalloc.start()
        index_writer.write_rows(folder, str(path), "retrieval", "train", False)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_arrays_stay_on_disk(tmp_path: Path, open_data: Open) -> None:
    data = open_data(_write(tmp_path / "a.jsonl", ROWS))
    arrays = [value for value in vars(data).values() if isinstance(value, np.ndarray)]
    assert len(arrays) == 10
    assert all(isinstance(array, np.memmap) and not array.flags.writeable for array in arrays)
