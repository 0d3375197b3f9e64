"""Turns texts into token ids."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from contextlib import suppress
from threading import Lock

import numpy as np
import torch
import xxhash
from tokenizers import normalizers
from transformers import PreTrainedTokenizerBase

from harness.model_folder.configuration import backbone_config, position_limit
from harness.model_folder.find import no_such_model, resolve_model
from harness.model_folder.layout import backbone_folder, read_layout
from harness.model_folder.tokenizer import load_tokenizer
from harness.types import PromptedText, TokenBatch

# Lengths are padded to a multiple of this number: tensor cores need it for full speed, and it costs at most 7 tokens
# per text.
PAD_TO_MULTIPLE_OF = 8


class TokenIds(list[int]):
    """The token ids of a text, of which the first `prompt_tokens` are not pooled."""

    prompt_tokens = 0


class Tokeniser:
    """A tokenizer with truncation. Its results depend only on (text, max_length), and many threads may use it at once.

    `tokenizer` is the one to save with the model; it is never used to encode, so that its state does not change.
    """

    def __init__(self, name_or_path: str, trust_remote_code: bool = False) -> None:
        folder = resolve_model(name_or_path, trust_remote_code)
        layout, path = read_layout(folder), backbone_folder(folder)
        try:
            self.tokenizer = load_tokenizer(path, trust_remote_code)
        except OSError as error:
            raise ValueError(no_such_model(name_or_path, error)) from error
        if layout.lower_case:
            _lower_case(self.tokenizer, name_or_path)
        # With padding on the left, a text's absolute positions would depend on the other texts of its micro-batch. The
        # exported model pads on the right, too.
        self.tokenizer.padding_side = "right"
        _check_token_types(self.tokenizer, name_or_path, trust_remote_code)
        # The backend stores the maximum length as state. Without a lock, one thread would change it for another one.
        self._encoding = copy.deepcopy(self.tokenizer)
        self._lock = Lock()
        self._pools_prompt = layout.include_prompt
        self._special_ids = frozenset(self.tokenizer.all_special_ids)
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
        pooled = "" if self._pools_prompt else "prompt not pooled"
        return xxhash.xxh3_128_hexdigest((json.dumps(parsed, sort_keys=True) + special + pooled).encode())

    def encode(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Token ids of each text, including special tokens, cut to `max_length` tokens.

        If the model does not pool the tokens of prompts, each row is a `TokenIds` that counts them.

        Raises:
            ValueError: such a text has no token besides its prompt's.
        """
        if not texts:
            return []
        ids = self._encode(texts, max_length)
        return ids if self._pools_prompt else self._with_prompt_tokens(texts, ids, max_length)

    def _encode(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        with self._lock:
            encoded = self._encoding(
                list(texts),
                add_special_tokens=True,
                truncation=True,
                max_length=max_length,
                return_attention_mask=False,
            )
        return encoded["input_ids"]

    def _with_prompt_tokens(self, texts: Sequence[str], ids: list[list[int]], max_length: int) -> list[list[int]]:
        """Copies of the rows that know how many of their tokens belong to the prompt.

        As in sentence-transformers, this is the number of tokens of the prompt alone, without a special token at the
        end. A token across the border of prompt and text therefore counts as the text's.
        """
        prompts = [text.prompt if isinstance(text, PromptedText) else "" for text in texts]
        different = sorted(set(prompts) - {""})
        count = {"": 0}
        for prompt, row in zip(different, self._encode(different, max_length) if different else [], strict=True):
            count[prompt] = len(row) - (bool(row) and row[-1] in self._special_ids)
        rows: list[list[int]] = []
        for prompt, row_ids in zip(prompts, ids, strict=True):
            rows.append(row := TokenIds(row_ids))
            row.prompt_tokens = count[prompt]
            ends_special = bool(row) and row[-1] in self._special_ids
            is_cut = len(row) >= max_length or not ends_special
            if prompt and is_cut and row.prompt_tokens >= len(row) - ends_special:
                raise ValueError(
                    f"include_prompt: got the prompt {prompt[:60]!a} of {count[prompt]} tokens and no room for text "
                    f"in {max_length} tokens, but this model (include_prompt: false) pools the text's tokens only; "
                    "raise the maximum length"
                )
        return rows

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
        pooling_mask = None
        if not self._pools_prompt:
            pooling_mask = torch.from_numpy(mask.copy())
            for i, ids_of_row in enumerate(ids):
                pooling_mask[i, : getattr(ids_of_row, "prompt_tokens", 0)] = 0
        return TokenBatch(torch.from_numpy(input_ids), torch.from_numpy(mask), pooling_mask)


# With these types, segments that are all 0 give other states than no segments.
_READS_SEGMENT_0 = ("codegen", "ctrl", "gpt2", "gptj", "openai-gpt", "xlnet")


def _check_token_types(tokenizer: PreTrainedTokenizerBase, name_or_path: str, trust_remote_code: bool) -> None:
    """Refuse a tokenizer that puts a single text into other segments than 0, because encoders are given no segments."""
    segments = tokenizer("a").get("token_type_ids", [])
    model_type = None
    if segments:
        with suppress(OSError, ValueError):  # the folder holds a tokenizer but no model
            folder = backbone_folder(resolve_model(name_or_path, trust_remote_code))
            model_type = backbone_config(folder, trust_remote_code).model_type
    if any(segments) or model_type in _READS_SEGMENT_0:
        raise ValueError(
            f"model.name_or_path: got {name_or_path}, whose tokenizer gives token_type_ids {segments} for one text, "
            f"expected {'0 for every token' if any(segments) else f'none for a model of type {model_type}'}; if the "
            'model was trained without them, set "model_input_names": ["input_ids", "attention_mask"] in '
            "tokenizer_config.json"
        )


def _lower_case(tokenizer: PreTrainedTokenizerBase, name_or_path: str) -> None:
    """Lower-case every text before the tokenizer's own normalisation, as sentence-transformers does."""
    if not tokenizer.is_fast:
        raise ValueError(
            f"model.name_or_path: got {name_or_path} with do_lower_case: true and a tokenizer written in Python, "
            "expected a tokenizer.json; save the tokenizer with transformers 5 first"
        )
    backend = tokenizer.backend_tokenizer
    own = [] if backend.normalizer is None else [backend.normalizer]
    backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *own])


def _position_limit(name_or_path: str, trust_remote_code: bool) -> int | None:
    try:
        return position_limit(name_or_path, trust_remote_code)
    except ValueError:  # the folder holds a tokenizer but no model
        return None


def token_hash(ids: Sequence[int]) -> int:
    """A 64-bit hash of token ids, and of where pooling begins. Texts of a step with equal hashes are encoded once."""
    prompt_tokens = getattr(ids, "prompt_tokens", 0)
    hashed = [*ids, -prompt_tokens] if prompt_tokens else ids
    return xxhash.xxh3_64_intdigest(np.asarray(hashed, dtype=np.int32).tobytes())


def text_hash(text: str) -> int:
    """A 64-bit hash of the raw text. It decides whether a document is a known positive of a query."""
    return xxhash.xxh3_64_intdigest(text.encode("utf-8"))
