"""Reading and indexing a data set from a cold cache, opening it again, and the batches of a step.

Texts are eleven words of the demo model's vocabulary, drawn as often as words of a language are (Zipf), and
a running number, so that no text stands twice.
"""

from __future__ import annotations

import json
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.lib import format as npy_format

from benchmarks.growth.row import Row
from harness.data.bank.history import BankHistory
from harness.data.bank.negatives import ListedCandidates, NegativeBank
from harness.data.batch.tokens import token_batches
from harness.data.config import TaskConfig
from harness.data.data_config import DataConfig
from harness.data.plan.plan import plan
from harness.data.plan.task import Task
from harness.data.table.findings import remarks
from harness.data.table.index import META_FILE, TaskData, open_task
from harness.data.table.rows.pieces import SCHEMA, TEXTS_FILE
from harness.data.table.tokenisation import Tokeniser

MODEL, LENGTH, WORDS, SHARDS, QUOTA = "demo-minilm", 128, 11, 8, 256
LEAST_ROWS_PER_SECOND, MOST_SECONDS_TO_OPEN = 40_000, 5.0
_TEXTS_OF_A_BATCH = 16_384


def rows(scale: float = 1.0) -> list[Row]:
    """The rows of the growth table. scale: of the number of rows; at 1, 500,000 to read and 100 million to open."""
    tokeniser = Tokeniser(MODEL)
    with tempfile.TemporaryDirectory() as name:
        folder, count = Path(name), int(500_000 * scale)
        examples = list(_examples(tokeniser, count))
        measured = []
        for suffix, writer in (("jsonl", _write_lines), ("parquet", _write_parquet)):
            source = folder / suffix
            source.mkdir()
            for i in range(SHARDS):
                writer(source / f"{i}.{suffix}", examples[i::SHARDS])
            measured.append(_read(source, folder / f"cache of {suffix}", tokeniser, count))
            shutil.rmtree(folder / f"cache of {suffix}")
        return [*measured, _open_again(folder, tokeniser, int(100_000_000 * scale)), _step(folder, tokeniser)]


def _read(source: Path, cache: Path, tokeniser: Tokeniser, count: int) -> Row:
    with _measured() as cost:
        data = _open(source, cache, tokeniser)
    assert data.num_rows == count
    seconds, cpu_seconds, peak_bytes = cost()
    what = f"read, check, tokenise and index {SHARDS} shards of {source.name}"
    goal = f">= {LEAST_ROWS_PER_SECOND:,} rows/s on 2 cores"
    return Row(
        what,
        f"{count:,} rows, {2 * count:,} short texts",
        seconds,
        cpu_seconds,
        peak_bytes,
        goal,
        count / seconds >= LEAST_ROWS_PER_SECOND,
    )


def _open_again(folder: Path, tokeniser: Tokeniser, count: int) -> Row:
    """Open a table of `count` rows that holds nothing but zeros: files with holes, which take no room on the disk."""
    source = folder / "small.jsonl"
    _write_lines(source, list(_examples(tokeniser, 4)))
    _open(source, folder / "cache", tokeniser)
    for file in (folder / "cache").glob("rows/*/**/*.npy"):
        _stretch(file, count)
    (meta,) = (folder / "cache").glob(f"rows/*/{META_FILE}")
    facts = json.loads(meta.read_text())
    meta.write_text(json.dumps({**facts, "num_rows": count, "num_texts": 2 * count}))
    _write_empty_texts(meta.with_name(TEXTS_FILE), 2 * count)
    with _measured() as cost:
        data = _open(source, folder / "cache", tokeniser)
        remarks(_task(source), data)
        NegativeBank(count, ListedCandidates(data), 0)
    assert data.num_rows == count
    seconds, cpu_seconds, peak_bytes = cost()
    goal = f"< {MOST_SECONDS_TO_OPEN:g} s"
    size = f"{count:,} rows"
    return Row("open an indexed data set", size, seconds, cpu_seconds, peak_bytes, goal, seconds < MOST_SECONDS_TO_OPEN)


def _step(folder: Path, tokeniser: Tokeniser) -> Row:
    """The token batches of a step, and how often the tokenizer is called for them."""
    source = folder / "step.jsonl"
    _write_lines(source, list(_examples(tokeniser, 4 * QUOTA)))
    data = _open(source, folder / "cache", tokeniser)
    bank = BankHistory(NegativeBank(data.num_rows, ListedCandidates(data), 0))
    task = Task(_task(source), data, bank, LENGTH, LENGTH)
    step_plan = plan([task], seed=0, step=1)
    calls: list[object] = []
    counting = Tokeniser(MODEL)
    counting._words = None  # so that every way to tokenise leads through `_encode`
    counting._encode = lambda *arguments: calls.append(arguments) or []  # type: ignore[method-assign, func-returns-value]
    with _measured() as cost:
        token_batches(step_plan, [np.arange(len(step_plan.texts))], [task], counting)
    seconds, cpu_seconds, peak_bytes = cost()
    size = f"{len(step_plan.texts)} texts"
    return Row("token batches of a step", size, seconds, cpu_seconds, peak_bytes, "no tokeniser call", not calls)


def _task(source: Path) -> TaskConfig:
    return TaskConfig(name="short", kind="retrieval", path=str(source), quota=QUOTA)


def _open(source: Path, cache: Path, tokeniser: Tokeniser) -> TaskData:
    return open_task(_task(source), str(source), DataConfig(cache=str(cache)), tokeniser, LENGTH, LENGTH)


def _examples(tokeniser: Tokeniser, count: int) -> Iterator[dict[str, str]]:
    words = np.array([word for word in tokeniser.tokenizer.get_vocab() if word.isalpha()])
    share = 1 / np.arange(1, len(words) + 1)
    drawn = np.random.default_rng(0).choice(words, (count, 2, WORDS), p=share / share.sum())
    for i, (query, positive) in enumerate(drawn):
        yield {"query": f"{' '.join(query)} {i}", "positive": f"{' '.join(positive)} {i}"}


def _write_lines(file: Path, examples: list[dict[str, str]]) -> None:
    file.write_text("".join(json.dumps(example) + "\n" for example in examples))


def _write_parquet(file: Path, examples: list[dict[str, str]]) -> None:
    pq.write_table(pa.Table.from_pylist(examples), file)


def _stretch(file: Path, count: int) -> None:
    """Make an array as long as `count` rows need; what is new is a hole, read as zeros."""
    array = np.load(file, mmap_mode="r")
    name = file.stem
    length = {"_R": count, "_R1": count + 1, "_G": 2 * count, "_G1": 2 * count + 1}.get(name[name.rindex("_") :])
    length = 20 * count if length is None else length
    new = npy_format.open_memmap(file.with_suffix(".new"), mode="w+", dtype=array.dtype, shape=(length,))
    if name == "token_start_G1":
        new[-1] = 20 * count
    del new
    file.with_suffix(".new").replace(file)


def _write_empty_texts(file: Path, count: int) -> None:
    """A stream of empty texts as the writer makes it; the zeros of its batches are holes."""
    batch = pa.record_batch(
        [pa.array([""] * _TEXTS_OF_A_BATCH, SCHEMA.types[0]), _nulls(_TEXTS_OF_A_BATCH)], schema=SCHEMA
    )
    message = batch.serialize().to_pybytes()
    header = message.rstrip(b"\0")
    with file.open("wb") as stream:
        stream.write(SCHEMA.serialize().to_pybytes())
        for _ in range(count // _TEXTS_OF_A_BATCH):
            stream.write(header)
            stream.seek(len(message) - len(header), 1)
        rest = count % _TEXTS_OF_A_BATCH
        stream.write(batch.slice(0, rest).serialize().to_pybytes() if rest else b"")
        stream.write(b"\xff\xff\xff\xff\0\0\0\0")  # the end of the stream


def _nulls(count: int) -> pa.Array:
    return pa.nulls(count, SCHEMA.types[1])


@contextmanager
def _measured() -> Iterator[Callable[[], tuple[float, float, int]]]:
    """Gives a function for seconds, CPU seconds with those of child processes, and growth of the peak memory."""
    before, started = _usage(), time.perf_counter()
    ended: list[tuple[float, float, int]] = []
    yield lambda: (ended[0][0] - started, ended[0][1] - before[0], ended[0][2] - before[1])
    now = _usage()
    ended.append((time.perf_counter(), *now))


def _usage() -> tuple[float, int]:
    """CPU seconds of this process and its ended children, and the peak memory of this process in bytes."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime, own.ru_maxrss * 1024
