"""A bank's facts (bank.json) are written last, so that a bank with facts has all its arrays."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from harness.data.bank import file as bank_file
from harness.data.bank.file import BankFacts, check_bank


def test_the_facts_are_written_when_the_arrays_and_their_names_are_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(bank_file, "sizes_and_hashes", lambda folder, files: {})
    monkeypatch.setattr(bank_file, "sync", lambda path: done.append(path.name))
    monkeypatch.setattr(bank_file, "replace_file", lambda path, content: done.append(path.name))
    folder = tmp_path / "bank"
    BankFacts("a", None, "b", 4, {}, {}).write(folder)
    assert done[-1] == "bank.json"
    assert {"candidate_RC.npy", "score_RC.npy", "count_R.npy", "bank"} <= set(done[:-1])


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    for name in ("candidate_RC", "score_RC", "count_R"):
        np.save(tmp_path / f"{name}.npy", np.arange(8, dtype=np.float32))
    BankFacts("a", None, "b", 4, {}, {}).write(tmp_path)
    check_bank(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["candidate_RC", "score_RC", "count_R"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "missing"])
def test_a_damaged_array_is_found_when_the_bank_is_opened(bank: Path, name: str, damage: str) -> None:
    file = bank / f"{name}.npy"
    whole = file.read_bytes()
    file.unlink()
    if damage != "missing":
        file.write_bytes(whole[:-1] if damage == "cut" else whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match=rf"^negatives\.bank: got .*which is damaged \({name}\.npy.*mine it again$"):
        check_bank(bank)


def test_a_bank_whose_facts_name_no_hash_is_not_taken_unchecked(bank: Path) -> None:
    facts = json.loads((bank / "bank.json").read_text())
    (bank / "bank.json").write_text(json.dumps(facts | {"arrays": {}}))
    with pytest.raises(ValueError, match=r"no hash of candidate_RC\.npy"):
        check_bank(bank)
