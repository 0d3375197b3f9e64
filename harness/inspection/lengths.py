"""How long texts are in tokens: by the model's tokenizer if it is on this machine, else by their characters."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.model_folder.find import DEMO_MODEL, is_path

_CHARACTERS_OF_A_TOKEN = 4.0  # of scripts with blanks between words; CJK: 1
_MOST_TOKENS = 8192


@dataclass(frozen=True, slots=True)
class Measure:
    """measure: texts → tokens. is_exact: by the model's tokenizer. limit: tokens that the model can read, if known."""

    measure: Callable[[list[str]], np.ndarray]
    is_exact: bool
    limit: int | None


def measure_of(model: str | None) -> Measure:
    """How to measure for a model; None: no model is chosen yet. Nothing is downloaded.

    Raises:
        ValueError: a folder that holds no model that can be read.
    """
    if model is None or not (is_path(model) or Path(model).is_dir() or model == DEMO_MODEL):
        return Measure(estimated, False, None)
    from harness.data.table.tokenisation import Tokeniser
    from harness.model_folder.configuration import steady_limit

    tokeniser = Tokeniser(model)
    limit = steady_limit(model)

    def tokens(texts: list[str]) -> np.ndarray:
        return np.array([len(ids) for ids in tokeniser.encode(texts, limit or _MOST_TOKENS)], dtype=np.int64)

    return Measure(tokens, True, limit)


def estimated(texts: list[str]) -> np.ndarray:
    """Tokens by the number of characters: one for each of CJK, one for four of others; two more around a text."""
    return np.array([2 + int(sum(map(_tokens_of, text))) for text in texts], dtype=np.int64)


def _tokens_of(letter: str) -> float:
    return 1.0 if ord(letter) > 0x2E7F and unicodedata.east_asian_width(letter) in "WF" else 1 / _CHARACTERS_OF_A_TOKEN
