"""Tokenises each different word once, for tokenizers that treat every word of a text alone.

The libraries' cost is by the word (about 2 µs), and most words of a data set are repeated. A text is cut at its blanks,
each new word goes through the library's own tokenizer, and the ids of a text are those of its words. That is exact only
if nothing in the tokenizer sees beyond a blank: `word_encoder` reads its parts and gives None where one may.
"""

from __future__ import annotations

import json
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer

from harness.data.ragged import expand_ranges
from harness.data.table.tokens.flat import FlatTokens

WORDS_KEPT = 500_000  # about 100 MB; then the memory of words starts again
_REPEATED = 0.5  # from this share of a batch's characters in new words on, whole texts are cheaper
# Parts that change a text character by character, or within the marks that follow a character.
_LOCAL_NORMALIZERS = {"BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "StripAccents"}
# Parts that cut at every blank and drop it.
_SPLITTING = {"BertPreTokenizer", "Whitespace", "WhitespaceSplit"}
_SPLITTING_FURTHER = {"Punctuation", "Digits"}
_MODELS = {"WordPiece", "WordLevel"}


def word_encoder(backend: Tokenizer) -> WordEncoder | None:
    """An encoder word by word whose ids are those of `backend`, or None if that is not certain."""
    state = json.loads(backend.to_str())
    if not (
        all(name in _LOCAL_NORMALIZERS for name in _parts(state["normalizer"], "normalizers"))
        and _splits_at_blanks(_parts(state["pre_tokenizer"], "pretokenizers"))
        and state["model"]["type"] in _MODELS
        and all(_is_within_a_word(token) for token in state["added_tokens"])
    ):
        return None
    frame = _special_ids(backend)
    return None if frame is None else WordEncoder(backend, *frame)


class WordEncoder:
    """Encodes texts by a memory of words. Not for several threads at once."""

    def __init__(self, backend: Tokenizer, before: list[int], after: list[int]) -> None:
        self._backend, self._before, self._after = backend, before, after
        self._forget()

    def _forget(self) -> None:
        self._number: dict[str, int] = {}
        self._ids_E = np.empty(0, dtype=np.int32)
        self._start_U1 = np.zeros(1, dtype=np.int64)

    def encode(self, texts: list[str], max_length: int) -> FlatTokens | None:
        """The ids of each text, special tokens included, cut at the end to `max_length`.

        None: most of the characters lie in words that are new, so that encoding whole texts costs less.
        """
        if len(self._number) > WORDS_KEPT:
            self._forget()
        words_N = pc.split_pattern(pa.array(texts, pa.large_string()), " ")
        coded = words_N.flatten().dictionary_encode()
        unique = coded.dictionary.to_pylist()
        new = [word for word in unique if word not in self._number]
        if sum(map(len, new)) > _REPEATED * sum(map(len, texts)):
            return None
        if new:
            self._learn(new)
        number_U = np.fromiter((self._number[word] for word in unique), np.int64, len(unique))
        word_E = number_U[coded.indices.to_numpy()]
        start_E, stop_E = self._start_U1[word_E], self._start_U1[word_E + 1]
        token_before_E1 = np.concatenate([[0], np.cumsum(stop_E - start_E)])
        token_start_N1 = token_before_E1[words_N.offsets.to_numpy()]
        _, place = expand_ranges(start_E, stop_E)
        return self._framed(self._ids_E[place], token_start_N1, max_length)

    def _learn(self, words: list[str]) -> None:
        rows = [encoding.ids for encoding in self._backend.encode_batch_fast(words, add_special_tokens=False)]
        length_U = np.fromiter(map(len, rows), np.int64, len(rows))
        ids_E = np.fromiter(chain.from_iterable(rows), np.int32, int(length_U.sum()))
        self._number.update(zip(words, range(len(self._number), len(self._number) + len(words)), strict=True))
        self._start_U1 = np.concatenate([self._start_U1, len(self._ids_E) + np.cumsum(length_U)])
        self._ids_E = np.concatenate([self._ids_E, ids_E])

    def _framed(self, ids_E: np.ndarray, start_N1: np.ndarray, max_length: int) -> FlatTokens:
        """Cut each text and put the special tokens before and after it."""
        before, after = len(self._before), len(self._after)
        kept_N = np.minimum(np.diff(start_N1), max_length - before - after)
        length_N = kept_N + before + after
        framed_E = np.empty(int(length_N.sum()), dtype=np.int32)
        begin_N = np.cumsum(length_N) - length_N
        for i, token in enumerate(self._before):
            framed_E[begin_N + i] = token
        for i, token in enumerate(self._after):
            framed_E[begin_N + before + kept_N + i] = token
        _, source = expand_ranges(start_N1[:-1], start_N1[:-1] + kept_N)
        _, target = expand_ranges(begin_N + before, begin_N + before + kept_N)
        framed_E[target] = ids_E[source]
        return FlatTokens(framed_E, length_N)


def _parts(part: dict[str, Any] | None, key: str) -> list[str]:
    """The types of a part of a tokenizer; those of its members if it is a sequence."""
    if part is None:
        return []
    return [name for one in part[key] for name in _parts(one, key)] if part["type"] == "Sequence" else [part["type"]]


def _splits_at_blanks(names: list[str]) -> bool:
    return bool(set(names) & _SPLITTING) and set(names) <= _SPLITTING | _SPLITTING_FURTHER


def _is_within_a_word(token: dict[str, Any]) -> bool:
    """Whether a token that is cut out of texts literally has no blank, and none after normalisation either."""
    content = token["content"]
    return bool(content) and not any(map(str.isspace, content)) and (content.isascii() or not token["normalized"])


def _special_ids(backend: Tokenizer) -> tuple[list[int], list[int]] | None:
    """(ids before, ids after) every text; None if the frame is another one."""
    frames = []
    for probe in ("a", "a b"):
        body, whole = backend.encode(probe, add_special_tokens=False).ids, backend.encode(probe).ids
        count = len(whole) - len(body)
        places = [i for i in range(count + 1) if whole[i : i + len(body)] == body]
        if not body or count != backend.num_special_tokens_to_add(False) or len(places) != 1:
            return None
        frames.append((whole[: places[0]], whole[places[0] + len(body) :]))
    return frames[0] if frames[0] == frames[1] else None
