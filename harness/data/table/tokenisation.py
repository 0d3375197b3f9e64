"""Turns texts into token ids. This is the only module of harness/data that imports transformers."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from threading import Lock

import numpy as np
import torch
import xxhash
from transformers import AutoTokenizer

from harness.model_folder.configuration import position_limit
from harness.model_folder.find import no_such_model, resolve_model
from harness.model_folder.layout import backbone_folder
from harness.types import TokenBatch

# Lengths are padded to a multiple of this number: tensor cores need it for full speed, and it costs at most 7 tokens
# per text.
PAD_TO_MULTIPLE_OF = 8


class Tokeniser:
    """A tokenizer with truncation. Its results depend only on (text, max_length), and many threads may use it at once.

    `tokenizer` is the one to save with the model; it is never used to encode, so that its state does not change.
    """

    def __init__(self, name_or_path: str, trust_remote_code: bool = False) -> None:
        path = backbone_folder(resolve_model(name_or_path, trust_remote_code))
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code, use_fast=True)
        except (OSError, ValueError) as error:
            if isinstance(error, ValueError) and "trust_remote_code" not in str(error):
                raise
            raise ValueError(no_such_model(name_or_path, error)) from error
        if self.tokenizer.pad_token is None:  # as in many decoders; any token will do, because the mask hides it
            self.tokenizer.pad_token = self.tokenizer.eos_token
        # With padding on the left, a text's absolute positions would depend on the other texts of its micro-batch. The
        # exported model pads on the right, too.
        self.tokenizer.padding_side = "right"
        # The backend stores the maximum length as state. Without a lock, one thread would change it for another one.
        self._encoding = copy.deepcopy(self.tokenizer)
        self._lock = Lock()
        self._position_limit = _position_limit(name_or_path, trust_remote_code)

    @property
    def fingerprint(self) -> str:
        """A hash of vocabulary, merges, normalisation and special tokens."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        state = backend.to_str() if backend is not None else json.dumps(self.tokenizer.get_vocab(), sort_keys=True)
        special = json.dumps(self.tokenizer.special_tokens_map, sort_keys=True, default=str)
        # Truncation and padding are arguments of a call. The backend keeps those of the last call in its state, so they
        # must not enter the hash.
        parsed = json.loads(state)
        parsed.pop("truncation", None)
        parsed.pop("padding", None)
        return xxhash.xxh3_128_hexdigest((json.dumps(parsed, sort_keys=True) + special).encode())

    def encode(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Token ids of each text, including special tokens, cut to `max_length` tokens."""
        if not texts:
            return []
        with self._lock:
            encoded = self._encoding(
                list(texts),
                add_special_tokens=True,
                truncation=True,
                max_length=max_length,
                return_attention_mask=False,
            )
        return encoded["input_ids"]

    def pad(self, ids: Sequence[Sequence[int]]) -> TokenBatch:
        """Pad on the right to the longest row, rounded up to a multiple of 8, but not beyond the model's positions.

        An empty `ids` gives a dummy batch: one row with one padding token that the mask marks as a real token.
        """
        rows = [np.asarray(row, dtype=np.int64) for row in ids] or [np.array([self.tokenizer.pad_token_id])]
        longest = max(len(row) for row in rows)
        width = -(-longest // PAD_TO_MULTIPLE_OF) * PAD_TO_MULTIPLE_OF
        if self._position_limit is not None:
            width = max(longest, min(width, self._position_limit))
        input_ids = np.full((len(rows), width), self.tokenizer.pad_token_id, dtype=np.int64)
        mask = np.zeros_like(input_ids)
        for i, row in enumerate(rows):
            input_ids[i, : len(row)] = row
            mask[i, : len(row)] = 1
        return TokenBatch(torch.from_numpy(input_ids), torch.from_numpy(mask))


def _position_limit(name_or_path: str, trust_remote_code: bool) -> int | None:
    try:
        return position_limit(name_or_path, trust_remote_code)
    except ValueError:  # the folder holds a tokenizer but no model
        return None


def token_hash(ids: Sequence[int]) -> int:
    """A 64-bit hash of token ids. Texts of a step with equal hashes are encoded once."""
    return xxhash.xxh3_64_intdigest(np.asarray(ids, dtype=np.int32).tobytes())


def text_hash(text: str) -> int:
    """A 64-bit hash of the raw text. It decides whether a document is a known positive of a query."""
    return xxhash.xxh3_64_intdigest(text.encode("utf-8"))
