"""The growth rows of evaluation and of near duplicates measure what they say, at a tiny size on one rank."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.growth import duplicates, evaluation


def test_vectors_make_a_querys_document_its_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else nothing would say whether the search finds it; `evaluated` checks the score."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    evaluation.write_data(tmp_path / "data", evaluation.QUERIES)
    cost, grown = evaluation.evaluated(str(tmp_path))
    assert cost.peak_bytes > grown >= 0


def test_a_tenth_of_the_ordinary_pairs_are_near_duplicates(tmp_path: Path) -> None:
    _, comparisons, repeated = duplicates.find(str(tmp_path), False, 500)
    assert 30 < repeated < 70
    assert comparisons < 200  # few pairs share a bucket by chance
