"""A bank's facts (bank.json) are written last, so that a bank with facts has all its arrays."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.data.bank import file as bank_file
from harness.data.bank.file import BankFacts


def test_the_facts_are_written_when_the_arrays_and_their_names_are_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(bank_file, "sync", lambda path: done.append(path.name))
    monkeypatch.setattr(bank_file, "replace_file", lambda path, content: done.append(path.name))
    folder = tmp_path / "bank"
    BankFacts("a", None, "b", 4, {}, {}).write(folder)
    assert done[-1] == "bank.json"
    assert {"candidate_RC.npy", "score_RC.npy", "count_R.npy", "bank"} <= set(done[:-1])
