"""The benchmark of the prediction judges both directions and trains on texts that fill the whole length."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.prediction.benchmark import BOUND, Row, show, write_pairs


def row(predicted_bytes: int) -> Row:
    return Row(1, "fp32", 1024, "update", predicted_bytes, 1000, None, 2.0)


def test_a_prediction_fails_above_and_below_the_bound() -> None:
    assert row(round(1000 * (1 + BOUND))).is_within
    assert not row(1200).is_within
    assert not row(800).is_within
    assert "FAIL" in show(row(800))
    assert "not known" in show(row(800))


def test_no_two_texts_are_alike_and_all_fill_the_length(tmp_path: Path) -> None:
    write_pairs(tmp_path, 50)
    rows = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    texts = [text for pair in rows for text in pair.values()]
    assert len(set(texts)) == 100
    assert min(len(text.split()) for text in texts) > 128
