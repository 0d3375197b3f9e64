"""Finds the files of a source: one file, several, those of a folder, or those that a pattern fits."""

from __future__ import annotations

import glob
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from harness.data.source.containers.table import is_saved_dataset, suffix_of
from harness.data.source.whole import missing_shards, refuse_repeated, refuse_what_is_passed_over

# Names of splits as they stand in file names: a folder with train.jsonl and test.jsonl is read by split.
_SPLIT_OF_WORD = {
    "train": "train",
    "training": "train",
    "dev": "dev",
    "validation": "dev",
    "valid": "dev",
    "val": "dev",
    "test": "test",
    "testing": "test",
}
_METADATA = re.compile(r"(dataset_infos?|state|dataset_dict|\..*)\.json|\..*")
_PATTERN = re.compile(r"[*?\[]")


def source_files(path: str | Sequence[str], split: str) -> list[str]:
    """The files of a source, those of a folder or of a pattern by name. A hub name is returned as it is.

    path: a file, a folder, a pattern such as `data/*.jsonl.gz`, or several of these.

    Raises:
        ValueError: a folder or a pattern has no file that can be read, or it is not plain which ones are meant; a file
            is named twice, or a folder holds what is no whole set of files.
    """
    files = (
        _files_of(path, split) if isinstance(path, str) else [file for one in path for file in _files_of(one, split)]
    )
    if len(files) > 1:
        refuse_repeated(files)
    return files


def _files_of(path: str, split: str) -> list[str]:
    place = Path(path)
    if place.is_dir():
        return [path] if is_saved_dataset(place) else _files_of_folder(place, split)
    if is_pattern(path):
        fitting = [Path(entry) for entry in glob.glob(path, recursive=True)]
        found = sorted(str(entry) for entry in fitting if entry.is_file())
        refuse_what_is_passed_over(f"the pattern {path!r}", fitting, map(Path, found))
        if not found:
            raise ValueError(f"tasks.path: got the pattern {path!r}, expected at least one file that it fits")
        return found
    return [path]


def refuse_unused_split(path: str | Sequence[str], split: str) -> None:
    """Check that a split that a recipe names chooses something: a file and a pattern are read whole.

    Raises:
        ValueError: it chooses nothing in a file, a pattern, or a folder whose files are not named after splits.
    """
    if split == "train":  # the default
        return
    for one in [path] if isinstance(path, str) else path:
        place = Path(one)
        is_read_whole = place.is_file() or is_pattern(one) or (place.is_dir() and not _has_splits(place))
        if is_read_whole and _split_of(place.name) != _SPLIT_OF_WORD.get(split, split):
            raise ValueError(
                f"tasks.split: got {split!r} for {one!r}, which is read whole, expected it with a hub name, a folder "
                "saved by datasets, or one of files named after splits (train.jsonl, test.jsonl); remove the key"
            )


def _has_splits(folder: Path) -> bool:
    return is_saved_dataset(folder) or any(
        _split_of(entry.name) for entry in folder.iterdir() if suffix_of(entry.name) and entry.is_file()
    )


def is_pattern(path: str) -> bool:
    """Whether a path is a pattern of file names, and not itself the name of a file or folder."""
    return _PATTERN.search(path) is not None and not Path(path).exists()


def _files_of_folder(folder: Path, split: str) -> list[str]:
    entries = [entry for entry in folder.iterdir() if not entry.is_dir()]
    names = sorted(entry.name for entry in entries if entry.is_file())
    names = [name for name in names if suffix_of(name) and not _METADATA.fullmatch(name)]
    refuse_what_is_passed_over(f"folder {str(folder)!r}", entries, (folder / name for name in names))
    if names:
        _refuse_subfolders(folder, names[0])
    stems = Counter(_stem(name) for name in names)
    repeated = next((stem for stem, count in stems.items() if count > 1), None)
    if repeated is not None:
        raise ValueError(
            f"tasks.path: got folder {str(folder)!r} with several files called {repeated!r}, expected each once; "
            "name the files, or a pattern such as FOLDER/*.jsonl"
        )
    split_of_file = {name: _split_of(name) for name in names}
    if any(split_of_file.values()):
        chosen = [name for name in names if split_of_file[name] == _SPLIT_OF_WORD.get(split, split)]
        unclear = next((name for name in names if split_of_file[name] is None), None)
        if unclear is not None or not chosen:
            got = f"{unclear!r} beside files named after splits" if chosen else f"no file of split {split!r}"
            raise ValueError(
                f"tasks.path: got folder {str(folder)!r} with {got}, expected files that are all of one kind; name "
                "the files, a pattern such as FOLDER/*.jsonl, or another tasks.split"
            )
        names = chosen
    if not names:
        raise ValueError(
            f"tasks.path: got folder {str(folder)!r}, expected files in it that can be read, or one written by "
            "datasets' save_to_disk; name the files, or a pattern such as FOLDER/**/*.parquet"
        )
    incomplete = missing_shards(names)
    if incomplete:
        raise ValueError(
            f"tasks.path: got folder {str(folder)!r}, of which {incomplete[0]}, expected all of them; fetch the "
            "others, or name those that are meant with a pattern such as FOLDER/*.parquet"
        )
    return [str(folder / name) for name in names]


def _refuse_subfolders(folder: Path, beside: str) -> None:
    """Files in subfolders would be passed over, so it has to be said which are meant."""
    nested = (file for sub in folder.iterdir() if sub.is_dir() and sub.name[0] != "." for file in sub.rglob("*"))
    found = next((file for file in nested if file.is_file() and suffix_of(file.name)), None)
    if found is not None:
        raise ValueError(
            f"tasks.path: got folder {str(folder)!r} with {beside!r} and {str(found.relative_to(folder))!r}, expected "
            "files in one folder; name the files, or a pattern such as FOLDER/*.jsonl or FOLDER/**/*.jsonl"
        )


def _stem(name: str) -> str:
    return name.removesuffix(suffix_of(name) or "")


def _split_of(name: str) -> str | None:
    """The split that the first word of a file's name stands for, as in `train-00000-of-00002.parquet`."""
    return _SPLIT_OF_WORD.get(re.split(r"[-_.]", name)[0].lower())
