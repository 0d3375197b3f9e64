"""How many queries make steps with and without hard negatives equally large."""

from __future__ import annotations

import json
from pathlib import Path

from harness.data.table.tokenisation import Tokeniser


def equal_token_quota(model: str, data: Path, name: str, quota: int, per_query: int, max_length: int) -> int:
    """Number of queries without hard negatives that have as many tokens as `quota` queries with `per_query` each."""
    tokeniser = Tokeniser(model)

    def mean_length(file: Path, key: str) -> float:
        texts = [json.loads(line)[key] for line in file.read_text(encoding="utf-8").split("\n") if line]
        return sum(len(ids) for ids in tokeniser.encode(texts, max_length)) / len(texts)

    query = mean_length(data / "train" / f"{name}.jsonl", "query")
    document = mean_length(data / "corpus" / f"{name}.jsonl", "text")
    return max(1, round(quota * (query + (1 + per_query) * document) / (query + document)))
