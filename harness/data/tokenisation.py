"""From text to token ids: the only place of the data floor that imports transformers."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import torch
import xxhash
from transformers import AutoTokenizer

from harness.types import TokenBatch
from harness.weights import resolve_model

# Lengths are padded up to a multiple of this, which tensor cores like and which costs at most 7 tokens a text.
PAD_TO_MULTIPLE_OF = 8


def no_such_model(name_or_path: str, error: Exception) -> str:
    """The one line a user sees when neither a folder nor the hub gives a model."""
    reason = " ".join(str(error).split())
    return (
        f"model.name_or_path: got {name_or_path}, expected a folder with a tokenizer and safetensors weights, or the "
        f"name of such a model on a hub that can be reached ({reason[:300]})"
    )


class Tokeniser:
    """A tokenizer with truncation, whose results depend on (text, max_length) only."""

    def __init__(self, name_or_path: str, trust_remote_code: bool = False) -> None:
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(
                resolve_model(name_or_path), trust_remote_code=trust_remote_code, use_fast=True
            )
        except (OSError, ValueError) as error:
            if isinstance(error, ValueError) and "trust_remote_code" not in str(error):
                raise
            raise ValueError(no_such_model(name_or_path, error)) from error
        if self.tokenizer.pad_token is None:  # decoders often have none; the mask hides whatever stands there
            self.tokenizer.pad_token = self.tokenizer.eos_token

    @property
    def fingerprint(self) -> str:
        """A digest of vocabulary, merges, normalisation and special tokens."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        state = backend.to_str() if backend is not None else json.dumps(self.tokenizer.get_vocab(), sort_keys=True)
        special = json.dumps(self.tokenizer.special_tokens_map, sort_keys=True, default=str)
        # Truncation and padding are call arguments; the backend keeps the last ones used in its state.
        parsed = json.loads(state)
        parsed.pop("truncation", None)
        parsed.pop("padding", None)
        return xxhash.xxh3_128_hexdigest((json.dumps(parsed, sort_keys=True) + special).encode())

    def encode(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Token ids of each text, special tokens included, cut to `max_length` tokens."""
        if not texts:
            return []
        encoded = self.tokenizer(
            list(texts), add_special_tokens=True, truncation=True, max_length=max_length, return_attention_mask=False
        )
        return encoded["input_ids"]

    def pad(self, ids: Sequence[Sequence[int]]) -> TokenBatch:
        """Pad to the longest row on the tokenizer's side; no rows give one masked-in padding token (a dummy)."""
        rows = [np.asarray(row, dtype=np.int64) for row in ids] or [np.array([self.tokenizer.pad_token_id])]
        longest = max(len(row) for row in rows)
        longest = -(-longest // PAD_TO_MULTIPLE_OF) * PAD_TO_MULTIPLE_OF
        input_ids = np.full((len(rows), longest), self.tokenizer.pad_token_id, dtype=np.int64)
        mask = np.zeros_like(input_ids)
        left = self.tokenizer.padding_side == "left"
        for i, row in enumerate(rows):
            span = slice(longest - len(row), longest) if left else slice(0, len(row))
            input_ids[i, span] = row
            mask[i, span] = 1
        return TokenBatch(torch.from_numpy(input_ids), torch.from_numpy(mask))


def token_hash(ids: Sequence[int]) -> int:
    """A 64-bit digest of token ids: texts with equal digests are one text of the step."""
    return xxhash.xxh3_64_intdigest(np.asarray(ids, dtype=np.int32).tobytes())


def text_hash(text: str) -> int:
    """A 64-bit digest of the raw text, which the masks compare."""
    return xxhash.xxh3_64_intdigest(text.encode("utf-8"))
