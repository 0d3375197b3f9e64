"""Turns texts into token ids."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, cast

import numpy as np
import torch
import xxhash
from tokenizers import normalizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from harness.data.table.tokens.flat import FlatTokens
from harness.data.table.tokens.words import WordEncoder, word_encoder
from harness.files import sizes_and_hashes
from harness.model_folder.configuration import backbone_config, steady_limit
from harness.model_folder.end_of_text import AppendEos, append_end
from harness.model_folder.find import no_such_model, resolve_model
from harness.model_folder.layout import backbone_folder, read_layout, tokenizer_folder
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

    def __init__(self, name_or_path: str, trust_remote_code: bool = False, append_eos: AppendEos = False) -> None:
        """append_eos: whether every text ends with the end token, where the folder's tokenizer does not do it itself;
        "auto": if it can. The tokenizer that is saved with the model does it, too.
        """
        folder = resolve_model(name_or_path, trust_remote_code)
        layout, path = read_layout(folder), tokenizer_folder(folder)
        try:
            self.tokenizer = load_tokenizer(path, trust_remote_code)
        except OSError as error:
            raise ValueError(no_such_model(name_or_path, error)) from error
        if append_eos:
            append_end(self.tokenizer, name_or_path, is_required=append_eos is True)
        if layout.lower_case:
            _lower_case(self.tokenizer, name_or_path)
        # With padding on the left, a text's absolute positions would depend on the other texts of its micro-batch. The
        # exported model pads on the right, too.
        self.tokenizer.padding_side = "right"
        _check_token_types(self.tokenizer, name_or_path, trust_remote_code)
        # The backend stores the maximum length as state. Without a lock, one thread would change it for another one.
        self._encoding = copy.deepcopy(self.tokenizer)
        self._lock = Lock()
        self._words = self._word_encoder()
        # Merges are in no vocabulary: PhoBERT's bpe.codes joins pieces that are all there, in its own order.
        names = () if self.tokenizer.is_fast else self.tokenizer.vocab_files_names.values()
        files = [file for name in names if (file := Path(path) / name).is_file()]
        self._file_hashes = {name: hash_ for name, (_, hash_) in sizes_and_hashes(Path(path), files).items()}
        self._pools_prompt = layout.include_prompt
        self._special_ids = frozenset(self.tokenizer.all_special_ids)
        self._position_limit = _position_limit(name_or_path, trust_remote_code)

    @property
    def fingerprint(self) -> str:
        """A hash of all that token ids depend on: vocabulary, merges, normalisation, special tokens, settings."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        state = backend.to_str() if backend is not None else json.dumps(self.tokenizer.get_vocab(), sort_keys=True)
        special = json.dumps(self.tokenizer.special_tokens_map, sort_keys=True, default=str)
        # Truncation and padding are arguments of a call. The backend keeps those of the last call in its state, so they
        # must not enter the hash.
        parsed = json.loads(state)
        parsed.pop("truncation", None)
        parsed.pop("padding", None)
        pooled = "" if self._pools_prompt else "prompt not pooled"
        text = json.dumps(parsed, sort_keys=True) + special + pooled + self._settings()
        return xxhash.xxh3_128_hexdigest(text.encode())

    def _settings(self) -> str:
        """What of tokenizer_config.json changes token ids beside the backend, if it is not the default."""
        tokenizer = self.tokenizer
        found: dict[str, str | int] = {}
        if tokenizer.truncation_side != "right":
            found["truncation_side"] = tokenizer.truncation_side
        if tokenizer.split_special_tokens:
            found["split_special_tokens"] = True
        if not tokenizer.is_fast:  # its settings (do_lower_case) stand nowhere else
            found |= {name: value for name, value in tokenizer.init_kwargs.items() if isinstance(value, bool | int)}
            found |= self._file_hashes
        return json.dumps(found, sort_keys=True) if found else ""

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

    def encode_flat(self, texts: Sequence[str], max_length: int) -> FlatTokens:
        """As `encode`, in one array, and word by word where the tokenizer allows that: for many texts."""
        if self._pools_prompt and self._words is not None and texts:
            with self._lock:
                found = self._words.encode(list(texts), max_length)
            if found is not None:
                return found
        return FlatTokens.of_rows(self.encode(texts, max_length))

    @property
    def largest_id(self) -> int:
        """The largest token id that a text can hold."""
        return max(self.tokenizer.get_vocab().values())

    def _word_encoder(self) -> WordEncoder | None:
        methods = ("__call__", "_encode_plus", "_convert_encoding")
        fast = PreTrainedTokenizerFast
        if not isinstance(self.tokenizer, fast) or self.tokenizer.truncation_side != "right":
            return None
        if any(getattr(type(self.tokenizer), name) is not getattr(fast, name) for name in methods):
            return None  # a class with an encoding of its own
        backend = copy.deepcopy(self.tokenizer.backend_tokenizer)
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = self.tokenizer.split_special_tokens
        return word_encoder(backend)

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
                    f"include_prompt: got the prompt {prompt[:60]!r} of {count[prompt]} tokens and no room for text "
                    f"in {max_length} tokens, but this model (include_prompt: false) pools the text's tokens only; "
                    "raise the maximum length"
                )
        return rows

    def pad(self, ids: Sequence[Sequence[int]]) -> TokenBatch:
        """`pad_flat` of a list of ids for each text."""
        return self.pad_flat(FlatTokens.of_rows(ids))

    def pad_flat(self, tokens: FlatTokens) -> TokenBatch:
        """Pad on the right to the longest row, rounded up to a multiple of 8, but not beyond the model's positions.

        No text gives a dummy batch: one row with one padding token that the mask marks as a real token.
        """
        if not len(tokens.length_N):
            tokens = FlatTokens(np.array([self.tokenizer.pad_token_id], np.int32), np.ones(1, np.int64))
        longest = int(tokens.length_N.max())
        width = -(-longest // PAD_TO_MULTIPLE_OF) * PAD_TO_MULTIPLE_OF
        if self._position_limit is not None:
            width = max(longest, min(width, self._position_limit))
        place_L = np.arange(width)
        is_token_NL = place_L < tokens.length_N[:, None]
        ids_NL = np.full(is_token_NL.shape, self.tokenizer.pad_token_id, dtype=np.int64)
        ids_NL[is_token_NL] = tokens.ids_E
        pooled_NL = None
        if not self._pools_prompt:
            prompts = tokens.prompt_tokens_N
            start_N = np.zeros(len(tokens.length_N), np.int32) if prompts is None else prompts
            pooled_NL = torch.from_numpy((is_token_NL & (place_L >= start_N[:, None])).astype(np.int64))
        return TokenBatch(torch.from_numpy(ids_NL), torch.from_numpy(is_token_NL.astype(np.int64)), pooled_NL)


# With these types, segments that are all 0 give other states than no segments.
_READS_SEGMENT_0 = (
    "codegen", "ctrl", "flaubert", "gpt2", "gpt_bigcode", "gpt_neo", "gptj", "openai-gpt", "xlm", "xlnet",
)  # fmt: skip


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
    """Lower-case every text before the tokenizer's own normalisation, unless that has a step for it, as
    sentence-transformers does.
    """
    if not tokenizer.is_fast:
        raise ValueError(
            f"model.name_or_path: got {name_or_path} with do_lower_case: true and a tokenizer written in Python, "
            "expected a tokenizer.json; save the tokenizer with transformers 5 first"
        )
    backend = tokenizer.backend_tokenizer
    own = [] if backend.normalizer is None else [backend.normalizer]
    parts = list(cast(Iterable[Any], own[0])) if own and isinstance(own[0], normalizers.Sequence) else own
    # A second lower-casing, before what comes before the first one, would change texts for that.
    if not any(isinstance(part, normalizers.Lowercase) for part in parts):
        backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *own])


def _position_limit(name_or_path: str, trust_remote_code: bool) -> int | None:
    try:
        return steady_limit(name_or_path, trust_remote_code)
    except ValueError:  # the folder holds a tokenizer but no model
        return None
