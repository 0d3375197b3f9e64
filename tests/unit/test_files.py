"""Files and folders appear only when they are complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.files import check_output, create_once, replace_folder, unfinished_folder


def test_a_folder_is_there_only_when_it_is_complete_and_is_made_once(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder"

    def create(folder: Path, num_files: int) -> None:
        folder.mkdir()
        for i in range(num_files):
            (folder / str(i)).write_text("x")

    def killed(folder: Path) -> None:
        create(folder, 3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        create_once(target, killed)
    assert not target.exists()
    create_once(target, lambda folder: create(folder, 2))
    create_once(target, lambda folder: pytest.fail("made again"))
    assert sorted(path.name for path in target.iterdir()) == ["0", "1"]  # no file of the killed start
    assert [path.name for path in target.parent.iterdir()] == ["folder"]


def test_a_file_is_made_whole_over_what_a_killed_start_left(tmp_path: Path) -> None:
    target = tmp_path / "file"
    (tmp_path / ".file").write_text("torn and long")

    def create(file: Path) -> None:
        file.write_text("whole")

    create_once(target, create)
    assert target.read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_place_that_cannot_be_written_to_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check_output(tmp_path / "new" / "folder", "--out")
    check_output(tmp_path / "new.json", "--output", is_file=True)
    for place, is_file, words in (
        (tmp_path / "file", False, "file is a file, expected a folder; name another place"),
        (tmp_path / "file" / "below.json", True, "file is a file, expected a folder"),
        (tmp_path, True, "a folder, expected the path of a file"),
        (Path("/proc/harness"), False, r"/proc cannot be written to \(.+\), expected a folder that can"),
    ):
        with pytest.raises(ValueError, match=f"^--out: got {place}, .*{words}"):
            check_output(place, "--out", is_file=is_file)
    with pytest.raises(ValueError, match="expected a name without NUL"):
        check_output(tmp_path / "a\0b", "--out")
    with pytest.raises(ValueError, match=r"^--out: .*cannot be written to \(File name too long\)"):
        check_output(tmp_path / ("a" * 300), "--out")
    with pytest.raises(ValueError, match=r"GB free, expected room for at least 1,000,000,000.0 GB; free some"):
        check_output(tmp_path / "new", "--out", 10**18)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_text(content)
    return folder


def test_an_old_folder_leaves_only_when_the_new_one_is_whole(tmp_path: Path) -> None:
    old = write(tmp_path / "model", weights="old")
    (tmp_path / ".model.tmp").write_text("not ours")
    with pytest.raises(KeyboardInterrupt), unfinished_folder(old) as unfinished:  # noqa: PT012
        write(unfinished, weights="ne")
        raise KeyboardInterrupt
    assert (old / "weights").read_text() == "old"
    with unfinished_folder(old) as unfinished:
        assert replace_folder(write(unfinished, weights="new"), old) is None
    assert (old / "weights").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".model.tmp", "model"]


def test_an_old_folder_with_foreign_files_is_kept_beside_the_new_one(tmp_path: Path) -> None:
    write(tmp_path / "model", weights="old", notes="mine")
    with unfinished_folder(tmp_path / "model") as unfinished:
        kept = replace_folder(write(unfinished, weights="new"), tmp_path / "model")
    assert kept == tmp_path / "model.earlier-1"
    assert (kept / "notes").read_text() == "mine"


def test_of_a_link_only_the_link_is_replaced(tmp_path: Path) -> None:
    shared = write(tmp_path / "shared", weights="old")
    (tmp_path / "model").symlink_to(shared)
    with unfinished_folder(tmp_path / "model") as unfinished:
        replace_folder(write(unfinished, weights="new"), tmp_path / "model")
    assert (shared / "weights").read_text() == "old"
    assert (tmp_path / "model" / "weights").read_text() == "new"
