"""Paths in a recipe and on the command line, including the demo data."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.run import places
from harness.run.places import locate_data


def test_the_demo_prefix_points_into_the_built_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    built = cache / "demo-docstrings-0"
    (built / "train").mkdir(parents=True)
    (built / "train" / "retrieval.jsonl.gz").touch()
    roots = []

    def build(root: Path) -> Path:
        roots.append(root)
        return built

    monkeypatch.setattr(places, "build_demo_corpus", build)
    path = locate_data("demo-docstrings/train/retrieval.jsonl.gz", cache=str(cache))
    assert path == str(built / "train" / "retrieval.jsonl.gz")
    assert roots == [cache]
    for missing in ("demo-docstrings/train/other.jsonl.gz", "demo-docstrings/other"):
        with pytest.raises(ValueError, match="no such file"):
            locate_data(missing, cache=str(cache))


def test_any_other_path_builds_no_demo_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "build_demo_corpus", lambda root: pytest.fail("built the demo data"))
    (tmp_path / "pairs.jsonl").touch()
    assert locate_data("pairs.jsonl", data_root=tmp_path) == str(tmp_path / "pairs.jsonl")
    assert locate_data("owner/name", data_root=tmp_path) == "owner/name"
