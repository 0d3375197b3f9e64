"""Where relative data paths are looked up, and the names of data sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.data.source.locate import cache_root, dataset_name, locate


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    found = {name: tmp_path / name for name in ("recipe", "data", "work")}
    for folder in found.values():
        folder.mkdir()
    monkeypatch.chdir(found["work"])
    return found


def find(path: str, folders: dict[str, Path], allow_hub: bool = True, recipe: bool = True) -> str:
    return locate(
        path,
        recipe_folder=folders["recipe"] if recipe else None,
        data_root=folders["data"],
        allow_hub=allow_hub,
    )


def test_a_path_of_a_recipe_is_looked_up_beside_it_then_under_the_data_root(folders: dict[str, Path]) -> None:
    """The working directory is not searched, so that a recipe uses the same data wherever it is started."""
    (folders["work"] / "pairs.jsonl").touch()
    with pytest.raises(ValueError, match="no such file or folder"):
        find("pairs.jsonl", folders)
    for place in ("data", "recipe"):  # the file written last takes precedence
        (folders[place] / "pairs.jsonl").touch()
        assert find("pairs.jsonl", folders) == str(folders[place] / "pairs.jsonl")


def test_a_path_of_the_command_line_is_looked_up_under_the_data_root_then_in_the_working_directory(
    folders: dict[str, Path],
) -> None:
    for place in ("work", "data"):
        (folders[place] / "pairs.jsonl").touch()
        assert find("pairs.jsonl", folders, recipe=False) == str(folders[place] / "pairs.jsonl")


def test_an_absolute_path_is_taken_as_it_is(folders: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "elsewhere.jsonl"
    file.touch()
    assert find(str(file), folders) == str(file)


@pytest.mark.parametrize(("recipe", "places"), [(True, {"recipe", "data"}), (False, {"data", "work"})])
def test_a_missing_file_names_the_places_looked_at_and_the_knob(
    folders: dict[str, Path], recipe: bool, places: set[str]
) -> None:
    with pytest.raises(ValueError, match="--data-root") as error:
        find("train/pairs.jsonl.gz", folders, recipe=recipe)
    named = {place for place in folders if str(folders[place] / "train" / "pairs.jsonl.gz") in str(error.value)}
    assert named == places
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["squad", "owner/name", "sentence-transformers/stsb-v2.1"])
def test_a_hub_name_that_exists_nowhere_comes_back_as_it_is(name: str, folders: dict[str, Path]) -> None:
    assert find(name, folders) == name
    with pytest.raises(ValueError, match="no such file or folder"):
        find(name, folders, allow_hub=False)


@pytest.mark.parametrize("name", ["a/b/c", "./name", "owner/name.parquet", "/owner/name"])
def test_what_is_no_hub_name_is_an_error(name: str, folders: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="no such file or folder"):
        find(name, folders)


def test_the_cache_folder_is_configured_or_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == tmp_path / "conan-harness"
    assert cache_root(str(tmp_path / "mine")) == tmp_path / "mine"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root(None) == tmp_path / ".cache" / "conan-harness"


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["retrieval/faq", "sts/stsb/test.jsonl.gz", "x/banking.parquet"], ["faq", "stsb", "banking"]),
        (["a/faq", "b/faq", "c/stsb"], ["a/faq", "b/faq", "stsb"]),
        (["a/stsb/test.jsonl.gz", "b/stsb/dev.jsonl"], ["a/stsb", "b/stsb"]),
        (["sts/stsb/train.jsonl", "sts/stsb/test.jsonl.gz"], ["stsb/train", "stsb/test"]),
        (["a/test"], ["test"]),
        ([], []),
    ],
)
def test_names_are_the_folders_and_clashes_get_the_grandparent_in_front(paths: list[str], names: list[str]) -> None:
    assert dataset_name(paths) == names


def test_a_data_set_given_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="twice"):
        dataset_name(["a/faq", "b/faq", "a/./faq"])
