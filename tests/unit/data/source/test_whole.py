"""A folder or pattern is read whole, each file once, or refused: what lies there and is not read is named."""

from __future__ import annotations

import os
import re
from pathlib import Path

import datasets
import pytest

from harness.data.source.shards import refuse_unused_split, source_files
from harness.data.source.whole import missing_shards
from tests.unit.data.source.rows_of import read, write

ROWS = [{"query": "q", "positive": "p"}]


@pytest.mark.parametrize(
    "name",
    ["b.JSONL", "b.jsonl.zip", "b.parquet.incomplete", "b.jsonl.gz.part", "data-00000-of-00001.arrow", "b.Parquet.tmp"],
)
def test_a_file_with_rows_that_cannot_be_read_is_not_passed_over(tmp_path: Path, name: str) -> None:
    """A download that broke off, an ending in capitals or an archive would leave the data set half read."""
    write(tmp_path / "a.jsonl", ROWS)
    write(tmp_path / name, "x")
    with pytest.raises(ValueError, match=rf"with {re.escape(repr(name))}, a file that is not read"):
        source_files(str(tmp_path), "train")


def test_files_that_hold_no_rows_may_lie_beside_data(tmp_path: Path) -> None:
    for name in (
        "README.md",
        "LICENSE.txt",
        "a.jsonl.md5",
        "a.jsonl.idx",
        ".a.jsonl.part",
        "dataset_info.json",
        "_SUCCESS",
    ):
        write(tmp_path / name, "x")
    path = write(tmp_path / "a.jsonl", ROWS)
    assert source_files(str(tmp_path), "train") == [path]


@pytest.mark.parametrize("asked", ["", "*.jsonl"])
def test_a_link_to_nothing_is_named(tmp_path: Path, asked: str) -> None:
    """The hub's cache is links; what they lead to may have been deleted or never fetched."""
    write(tmp_path / "a.jsonl", ROWS)
    os.symlink(tmp_path / "gone.jsonl", tmp_path / "b.jsonl")
    with pytest.raises(ValueError, match=r"with 'b\.jsonl', a link to a file that is not there"):
        source_files(os.path.join(tmp_path, asked).rstrip("/"), "train")


@pytest.mark.parametrize("link", [os.symlink, os.link])
@pytest.mark.parametrize("asked", ["", "*.jsonl"])
def test_one_file_under_two_names_is_refused(tmp_path: Path, link: object, asked: str) -> None:
    path = write(tmp_path / "a.jsonl", ROWS)
    link(path, tmp_path / "b.jsonl")  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"a\.jsonl' and '.*b\.jsonl', which are one file, expected each file once"):
        source_files(os.path.join(tmp_path, asked).rstrip("/"), "train")


def test_links_to_different_files_are_read(tmp_path: Path) -> None:
    for name in "xy":
        write(tmp_path / "blobs" / name, ROWS)
        (tmp_path / "data").mkdir(exist_ok=True)
        os.symlink(tmp_path / "blobs" / name, tmp_path / "data" / f"{name}.jsonl")
    assert [Path(file).name for file in source_files(str(tmp_path / "data"), "train")] == ["x.jsonl", "y.jsonl"]


def test_a_pattern_that_fits_a_folder_of_rows_beside_files_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", ROWS)
    write(tmp_path / "sub" / "b.jsonl", ROWS)
    with pytest.raises(ValueError, match="with the folder 'sub', which is not read"):
        source_files(f"{tmp_path}/*", "train")
    assert len(source_files(f"{tmp_path}/**/*", "train")) == 2


def test_a_pattern_that_fits_folders_saved_by_datasets_is_refused(tmp_path: Path) -> None:
    datasets.Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(ValueError, match="with the folder 'saved', which is not read"):
        source_files(f"{tmp_path}/*", "train")


def test_a_folder_without_one_of_its_shards_is_refused(tmp_path: Path) -> None:
    for number in (0, 2):
        write(tmp_path / f"train-{number:05d}-of-00003.jsonl", ROWS)
        write(tmp_path / f"test-{number // 2:05d}-of-00002.jsonl", ROWS)
    with pytest.raises(ValueError, match="2 of 3 shards are there: 'train-00001-of-00003' is missing"):
        source_files(str(tmp_path), "train")
    assert len(source_files(str(tmp_path), "test")) == 2
    assert (
        len(source_files(f"{tmp_path}/train-*", "train")) == 2
    )  # a pattern says which are meant; a line tells the rest


def test_shards_are_counted_from_zero_or_one_for_each_folder() -> None:
    assert missing_shards([f"a/x-{i}-of-3.parquet" for i in range(3)]) == []
    assert missing_shards([f"a/x-0000{i}-of-00003.parquet" for i in (1, 2, 3)]) == []
    assert missing_shards(["a/x-1-of-2.jsonl", "b/x-2-of-2.jsonl"]) == [
        "1 of 2 shards are there: 'x-0-of-2' is missing",
        "1 of 2 shards are there: 'x-1-of-2' is missing",
    ]


def test_a_saved_dataset_of_another_split_than_is_asked_for_is_refused(tmp_path: Path) -> None:
    from harness.data.source.files import read_rows

    datasets.Dataset.from_list(ROWS, split="train").save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(ValueError, match=r"tasks\.split: got 'test', expected 'train', which is all of"):
        read_rows(str(tmp_path / "saved"), "test")


@pytest.mark.parametrize("name", ["rows.jsonl", "folder/rows.jsonl", "folder/*.jsonl"])
def test_a_split_that_chooses_nothing_is_refused(tmp_path: Path, name: str) -> None:
    """A user who writes `split: test` beside one file believes that the rows of a split are read."""
    write(tmp_path / name.replace("*", "rows"), ROWS)
    path = str(tmp_path / name)
    for read_whole in (path, str(tmp_path / "folder")) if name == "folder/rows.jsonl" else (path,):
        refuse_unused_split(read_whole, "train")
        with pytest.raises(ValueError, match=r"tasks\.split: got 'test' for .*, which is read whole"):
            refuse_unused_split([read_whole], "test")


def test_a_split_beside_what_has_splits_is_taken(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write(tmp_path / "by_name" / f"{split}.jsonl", ROWS)
    datasets.DatasetDict({"test": datasets.Dataset.from_list(ROWS)}).save_to_disk(str(tmp_path / "saved"))
    for path in (tmp_path / "by_name", tmp_path / "by_name/test.jsonl", tmp_path / "saved", "owner/name"):
        refuse_unused_split(str(path), "test")


def test_files_that_number_their_classes_otherwise_are_refused(tmp_path: Path) -> None:
    """In one file 1 is "good", in the other "bad": a model would be trained on both as one label."""
    for name, names in (("a", ["bad", "good"]), ("b", ["good", "bad"]), ("c", ["bad", "good"])):
        features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
        rows = {"text": ["x", "y"], "label": [0, 1]}
        datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / f"{name}.parquet")
    a, b, c = (str(tmp_path / f"{name}.parquet") for name in "abc")
    assert len(read((a, c), "classification")[0]) == 4
    with pytest.raises(ValueError, match=r"b\.parquet: label: got class labels .* expected those of .*a\.parquet"):
        read((a, b), "classification")
