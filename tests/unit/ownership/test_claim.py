"""Nothing foreign is written among, replaced or deleted; what our own killed starts left is taken up again."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from harness.ownership.claim import OutputFolder, is_unfinished
from harness.ownership.files import is_json_with, refuse_foreign_file


def output(path: Path) -> OutputFolder:
    return OutputFolder(path, "--out", "an unfinished bank", lambda folder: is_unfinished(folder, "mine"), print)


def begin(out: Path, command: str) -> None:
    """What a start leaves that has ended early."""
    with contextlib.suppress(KeyboardInterrupt), output(out).claimed(command):
        (out / "work").mkdir()
        raise KeyboardInterrupt


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_with_foreign_files_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "thesis.tex").write_text("x")
    words = r"^--out: got .*, which holds thesis.tex, work and is not an unfinished bank"
    with pytest.raises(ValueError, match=words), output(tmp_path).claimed("mine"):
        pytest.fail("entered")
    assert names(tmp_path) == ["thesis.tex", "work"]


def test_a_claim_that_fails_before_it_has_written_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a mistake"), output(tmp_path / "a" / "b").claimed("mine"):
        raise ValueError("a mistake")
    assert names(tmp_path) == []


def test_what_a_start_has_begun_is_its_own_until_it_has_finished(tmp_path: Path) -> None:
    out = tmp_path / "bank"
    begin(out, "mine")
    with output(out).claimed("mine"):
        (out / "bank.json").write_text("{}")
    assert names(out) == ["bank.json", "work"]
    with pytest.raises(ValueError, match=r"holds bank.json, work and is not"), output(out).claimed("mine"):
        pass


def test_the_unfinished_folder_of_another_command_is_foreign(tmp_path: Path) -> None:
    out = tmp_path / "bank"
    begin(out, "filter")
    with pytest.raises(ValueError, match="is not an unfinished bank"), output(out).claimed("mine"):
        pass


def test_a_folder_is_claimed_once_at_a_time(tmp_path: Path) -> None:
    with output(tmp_path / "bank").claimed("mine"):
        with pytest.raises(ValueError, match="in use by host"), output(tmp_path / "bank").claimed("mine"):
            pass
        assert (tmp_path / "bank").is_dir()


def test_a_file_is_replaced_only_if_it_is_of_the_same_kind(tmp_path: Path) -> None:
    file, is_scores = tmp_path / "scores.json", is_json_with("model", "datasets")
    refuse_foreign_file(file, "--output", "a file of scores", is_scores)
    for content in ("", '{"model": "m", "datasets": {}, "more": 1}'):
        file.write_text(content)
        refuse_foreign_file(file, "--output", "a file of scores", is_scores)
    for content in ('{"text1": "a"}', "[1]", "not JSON", " "):
        file.write_text(content)
        with pytest.raises(ValueError, match=r"--output: got .*, a file that is not a file of scores"):
            refuse_foreign_file(file, "--output", "a file of scores", is_scores)
