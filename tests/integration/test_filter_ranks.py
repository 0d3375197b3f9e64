"""`harness filter` on several ranks: they keep the same rows, write one report, and all end with rank 0's error."""

from __future__ import annotations

import contextlib
import io
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness import comm
from harness.filtering import filter as filter_module
from harness.filtering import output, pairs
from harness.filtering.near import signatures
from tests.integration.test_filter import (
    NONE_DROPPED,
    SETTINGS,
    contents,
    filter_config,
    report,
    rows,
    run_filter,
    small_blocks,
)
from tests.ranks import run_ranks
from tests.tiny import write_jsonl

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def source(folder: Path) -> Path:
    return write_jsonl(folder / "pairs.jsonl", rows())


@pytest.fixture(scope="module")
def uninterrupted(folder: Path, source: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        small_blocks(patch)
        run_filter(str(folder), "whole", **SETTINGS)
    return folder / "whole"


@pytest.mark.parametrize("ranks", [2, 3])
def test_several_ranks_keep_the_same_rows(folder: Path, uninterrupted: Path, ranks: int) -> None:
    out = f"ranks_{ranks}"
    shutil.rmtree(folder / out, ignore_errors=True)
    run_ranks(ranks, filter_on_a_rank, str(folder), out)
    assert contents(folder / out)[:1] == contents(uninterrupted)[:1]
    found, expected = report(folder / out), report(uninterrupted)
    assert {**found, "scores": None} == {**expected, "scores": None}
    assert found["scores"]["histogram"] == expected["scores"]["histogram"]


def filter_on_a_rank(folder: str, out: str) -> None:
    signatures.BLOCK_PAIRS = 16
    run_filter(folder, out, **SETTINGS)


def show_finished(folder: str, out: str) -> str:
    """Runs on a rank. Rank 1 does not see the report yet."""
    if comm.rank() == 1:
        filter_module.REPORT = "not_seen_yet.json"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        filter_config(folder, out, NONE_DROPPED)
    return printed.getvalue()


def test_rank_0_says_whether_a_filter_is_finished_and_shows_it_once(folder: Path, source: Path) -> None:
    filter_config(str(folder), "finished_once", NONE_DROPPED)
    printed = run_ranks(2, show_finished, str(folder), "finished_once", timeout=90)
    assert "rows kept" in printed[0]
    assert printed[1] == ""


def failed(folder: str, kind: str) -> str:
    """Runs on a rank: return its error message."""
    data = "pairs.jsonl"
    if kind == "no usable row":
        data = "unusable.jsonl"
    elif comm.is_main():
        module, name = {"while reading": (pairs, "pair_hash"), "at the end": (output, "_json_line")}[kind]
        setattr(module, name, disk_full)
    with pytest.raises((ValueError, OSError)) as caught:
        filter_config(folder, f"failed_{kind}", NONE_DROPPED, data=data)
    return str(caught.value)


def disk_full(*arguments: Any) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("kind", ["no usable row", "while reading", "at the end"])
def test_an_error_of_rank_0_ends_all_ranks(folder: Path, source: Path, kind: str) -> None:
    write_jsonl(folder / "unusable.jsonl", [{"text1": "a", "text2": "b", "score": 1.0}])
    words = "got no usable row" if kind == "no usable row" else "No space left on device"
    assert all(words in message for message in run_ranks(2, failed, str(folder), kind, timeout=90))
