"""The pairs of a source with the hashes that tell texts apart, tokenised as the model reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.data.source.facts import ReadSettings
from harness.data.table.identity import token_hash
from harness.data.table.tokenisation import Tokeniser
from harness.filtering.config import FilterConfig, RuleConfig
from harness.filtering.duplicates import is_repeated
from harness.filtering.filter import FilterRequest
from harness.filtering.pairs import PairTable, Verdicts, write_pairs
from harness.filtering.reasons import Reason
from harness.prompts import NO_PROMPTS, Prompts
from tests.tiny import text, write_jsonl

LONG = text(7, 12)
ROWS = [
    {"query": text(1), "positive": text(100)},
    {"query": f"{LONG} aral", "positive": text(101)},
    {"query": f"{LONG} btin", "positive": text(101)},  # cut after 8 tokens, it is the row above
    {"query": text(2), "positive": text(101)},
    {"query": f"{LONG} cmok", "positive": f"{LONG} dsul"},  # cut, the positive is the query
]


def table_of(folder: Path, tokeniser: Tokeniser, prompts: Prompts, max_length: int) -> PairTable:
    path = write_jsonl(folder / "pairs.jsonl", ROWS)
    lengths = (max_length, max_length)
    nothing = FilterConfig()
    request = FilterRequest(
        str(path), "train", None, nothing, tokeniser, prompts, lengths, {}, folder, lambda done: None
    )
    out = folder / f"table{max_length}{prompts.query}"
    write_pairs(out, str(path), "train", ReadSettings(), RuleConfig(), request.hash_tokens, request.reading)
    return PairTable.open(out)


@pytest.mark.parametrize(("max_length", "repeated", "own"), [(8, [2], [4]), (24, [], [])])
def test_pairs_that_encode_alike_once_cut_are_one_pair(
    tmp_path: Path, tokeniser: Tokeniser, max_length: int, repeated: list[int], own: list[int]
) -> None:
    table = table_of(tmp_path, tokeniser, NO_PROMPTS, max_length)
    tokens = [table.token_hash_G[text_P] for text_P in (table.query_P, table.positive_P)]
    assert np.flatnonzero(is_repeated(table.hash_P, *tokens)).tolist() == repeated
    assert np.flatnonzero(Verdicts.of_rules(table).reason_P == Reason.POSITIVE_IS_QUERY).tolist() == own


def test_texts_are_hashed_with_the_prompt_of_their_role(tmp_path: Path, tokeniser: Tokeniser) -> None:
    table = table_of(tmp_path, tokeniser, Prompts("aral ", "btin "), 24)
    ids = tokeniser.encode([f"aral {text(1)}", f"btin {text(100)}"], 24)
    assert table.token_hash_G[[table.query_P[0], table.positive_P[0]]].tolist() == [token_hash(one) for one in ids]
