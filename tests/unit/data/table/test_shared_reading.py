"""Several processes read what one would have read: the same files, the same hash, the same mistake."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.data.source import parts
from harness.data.source.columns.row_format import FORMATS
from harness.data.source.facts import ReadSettings
from harness.data.table.rows import pieces, workers, writer
from harness.data.table.rows.pieces import BadRowError
from harness.data.table.rows.source_facts import SourceFacts
from tests.peak_memory import traced_peak
from tests.unit.data.table.sources import write_lines


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_BYTES", 900)
    monkeypatch.setattr("harness.data.source.containers.arrow_files.ARROW_BATCH_ROWS", 25)
    monkeypatch.setattr(workers, "IN_THIS_PROCESS", 1)


def rows_of(name: str) -> list[dict[str, Any]]:
    return [{"text": f"{name} {i} ünd", "label": f"label {i % 7 if i < 60 else i % 11}"} for i in range(100)]


def shards(folder: Path, bad_line: int | None = None) -> tuple[str, ...]:
    """A data set in files of every form; some rows are bad, some labels have one row, some lines are blank."""
    folder.mkdir()
    lines: list[Any] = ["", *rows_of("a"), {"text": "", "label": "x"}, {"text": "single", "label": "one", "id": 3}]
    write_lines(folder / "1.jsonl", ["\ufeff" + json.dumps(rows_of("z")[0]), *lines])
    if bad_line is not None:
        lines[bad_line - 1] = "broken"
    packed = "".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in lines)
    (folder / "2.json.gz").write_bytes(gzip.compress(packed.encode()))
    pq.write_table(pa.Table.from_pylist(rows_of("b")), folder / "3.parquet", row_group_size=40)
    (folder / "4.csv").write_text("text,label\n" + "".join(f'"c\n{i}",label {i % 12}\n' for i in range(40)))
    (folder / "5.jsonl").write_text("")
    write_lines(folder / "6.ndjson", [*rows_of("d"), "[]", {"text": "another", "label": "two", "url": "u"}])
    return tuple(str(file) for file in sorted(folder.iterdir()))


def write(folder: Path, files: tuple[str, ...], num_workers: int, skip: bool = True) -> SourceFacts:
    folder.mkdir()
    return writer.write_rows(folder, files, "classification", "train", skip, None, ReadSettings(), num_workers)


def test_the_table_and_its_hash_are_the_same_for_any_number_of_processes(tmp_path: Path) -> None:
    files = shards(tmp_path / "data", bad_line=70)
    facts = [write(tmp_path / str(count), files, count) for count in (1, 2)]
    assert facts[0] == facts[1]
    assert (facts[0].num_rows, facts[0].bad_rows) == (442, 5)  # of the bad rows, one has a label of its own
    assert [file.rows for file in facts[0].files] == [102, 100, 100, 40, 0, 100]
    assert facts[0].files[0].unused == {"id": 1}
    names = sorted(file.name for file in (tmp_path / "1").iterdir())
    assert "label_order_R.npy" in names
    for name in names:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes(), name


def test_the_first_mistake_in_the_order_of_the_rows_is_reported(tmp_path: Path) -> None:
    """A later part may be read, and fail, earlier; the packed file also breaks off at its end."""
    file = shards(tmp_path / "data", bad_line=70)[1]
    packed = Path(file).with_suffix("").with_suffix(".jsonl.gz")
    packed.write_bytes(Path(file).read_bytes()[:-9])
    files = (str(packed),)
    messages = []
    for count in (1, 2):
        with pytest.raises(BadRowError) as caught:
            write(tmp_path / str(count), files, count, skip=False)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert messages[0].startswith(f"{files[0]}:70: row: got broken JSON")
    assert "\n" not in messages[0]
    with pytest.raises(ValueError, match=rf"^{files[0]}:\d+: file: got EOFError.*fetch it again$"):
        write(tmp_path / "skipped", files, 1)


def test_a_reading_process_that_is_killed_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_START", "import os; os.kill(os.getpid(), 9)")
    files = shards(tmp_path / "data")
    with pytest.raises(ValueError, match=rf"^{files[0]}:\d+: got a reading process that ended \(status -9\)"):
        write(tmp_path / "table", files, 2)


def test_a_reading_process_ends_silently_when_the_run_is_killed(tmp_path: Path) -> None:
    """Else each of them would print a traceback into the terminal of a run that was stopped."""
    request = pieces.Request("sts", "train", ReadSettings(), skip=True, hashed=False)
    row_format = next(one for one in FORMATS if one.kind == "sts")
    part = pieces.PartRequest(request, parts.Part("a.jsonl", 1, 2, b"{}\n"), parts.FileHead(row_format, None), {})
    command = [sys.executable, "-c", workers._START.format(path=sys.path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        assert worker.stderr is not None
        worker.stdout.close()
        workers._send(worker.stdin, part)
        worker.stdin.close()
        assert worker.stderr.read() == b""


def test_small_sources_start_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_START", "refuse")
    monkeypatch.setattr(workers, "IN_THIS_PROCESS", 2)
    file = write_lines(tmp_path / "a.jsonl", rows_of("a")[:20])
    assert write(tmp_path / "table", (str(file),), 2).num_rows == 20


def test_reading_processes_load_no_torch() -> None:
    heavy = "('torch', 'transformers', 'tokenizers', 'datasets', 'pydantic')"
    code = f"import sys, harness.data.table.rows.workers; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_memory_does_not_grow_with_the_shards(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nine more shards need is no quarter of their texts: facts of each file, and objects not yet collected."""
    monkeypatch.setattr(pieces, "CHUNK_TEXTS", 500)
    monkeypatch.setattr(writer, "write_query_lookup", lambda _: None)  # sorts a million rows at once
    shard = [{"query": f"q{i} " * 90, "positive": f"p{i} " * 90} for i in range(300)]
    for i in range(12):
        file = tmp_path / f"{i}.{suffix}"
        write_lines(file, shard) if suffix == "jsonl" else pq.write_table(pa.Table.from_pylist(shard), file)
    peaks = []
    for count in (3, 12):
        files = tuple(str(tmp_path / f"{i}.{suffix}") for i in range(count))
        _, peak = traced_peak(
            lambda files=files: writer.write_rows(
                Path(mkdtemp(dir=tmp_path)), files, "retrieval", "train", False, num_workers=1
            )
        )
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 9 * sum(len(text) for row in shard for text in row.values()) / 4
