"""Writes the token ids of every text of a table, with lengths, hashes and their lookup.

`token_E` holds the ids of all texts one after another, in 2 bytes each where the vocabulary fits and in 4 otherwise;
`token_start_G1` where each text begins. `prompt_tokens_G` is written for models that do not pool the prompt only.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa

from harness.data.table.lookup import write_query_token_lookup
from harness.data.table.npy import ArrayFile, open_array
from harness.data.table.rows.pieces import TEXTS_FILE
from harness.data.table.tokenisation import Tokeniser
from harness.data.table.tokens.flat import FlatTokens
from harness.prompts import Prompts
from harness.types import ROLES, PromptedText

TOKENISE_TEXTS = 8192
_LARGEST_UINT16 = 2**16 - 1


def write_tokens(
    folder: Path,
    rows_folder: Path,
    tokeniser: Tokeniser,
    prompts: Prompts,
    max_lengths: tuple[int, int],
    progress: Callable[[int], None] | None = None,
) -> None:
    """Tokenise prompt + text, cut to the maximum length of the text's role; write ids, lengths, hashes and lookup.

    max_lengths: in tokens, in the order of ROLES. progress: called with the number of texts tokenised since the last
    call.
    """
    role_G = open_array(rows_folder / "role_G.npy")
    start = 0
    with _TokenFiles(folder, tokeniser.largest_id) as files, pa.OSFile(str(rows_folder / TEXTS_FILE), "rb") as source:
        for record_batch in pa.ipc.open_stream(source):
            for offset in range(0, record_batch.num_rows, TOKENISE_TEXTS):
                batch = record_batch.slice(offset, TOKENISE_TEXTS)
                role_N = np.asarray(role_G[start : start + batch.num_rows])
                columns = batch["text"].to_pylist(), batch["prompt"].to_pylist()
                files.append(tokenise(*columns, role_N, tokeniser, prompts, max_lengths))
                start += batch.num_rows
                if progress is not None:
                    progress(batch.num_rows)
    write_query_token_lookup(folder, open_array(rows_folder / "row_start_R1.npy"))


def tokenise(
    texts: list[str],
    own_prompts: list[str | None],
    role_N: np.ndarray,
    tokeniser: Tokeniser,
    prompts: Prompts,
    max_lengths: tuple[int, int],
) -> FlatTokens:
    """The token ids of each text, as `write_tokens` says. own_prompts: the rows' own."""
    parts, places = [], []
    for code, role in enumerate(ROLES):
        chosen = np.flatnonzero(role_N == code)
        before = prompts.before(role, None)
        strings = [
            PromptedText(prompts.before(role, own_prompts[i]), texts[i]) if before or own_prompts[i] else texts[i]
            for i in chosen.tolist()
        ]
        parts.append(tokeniser.encode_flat(strings, max_lengths[code]))
        places.append(chosen)
    return FlatTokens.joined(parts, np.argsort(np.concatenate(places), kind="stable"))


class _TokenFiles:
    """The files of the token ids, written in pieces."""

    def __init__(self, folder: Path, largest_id: int) -> None:
        dtypes = {"length_G": "int32", "token_hash_G": "uint64", "token_start_G1": "int64"}
        dtypes["token_E"] = "uint16" if largest_id <= _LARGEST_UINT16 else "uint32"
        self._folder, self._stack = folder, ExitStack()
        self._files = {name: self._stack.enter_context(_file(folder, name, dtype)) for name, dtype in dtypes.items()}
        self._files["token_start_G1"].append([0])
        self._num_tokens = 0

    def __enter__(self) -> _TokenFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def append(self, tokens: FlatTokens) -> None:
        """Write the tokens of the next texts."""
        if tokens.prompt_tokens_N is not None:
            if "prompt_tokens_G" not in self._files:
                assert self._num_tokens == 0, "a tokeniser counts the tokens of prompts for all texts or for none"
                self._files["prompt_tokens_G"] = self._stack.enter_context(
                    _file(self._folder, "prompt_tokens_G", "int32")
                )
            self._files["prompt_tokens_G"].append(tokens.prompt_tokens_N)
        self._files["length_G"].append(tokens.length_N)
        self._files["token_hash_G"].append(tokens.hashes())
        self._files["token_start_G1"].append(self._num_tokens + np.cumsum(tokens.length_N))
        self._files["token_E"].append(tokens.ids_E)
        self._num_tokens += len(tokens.ids_E)


def _file(folder: Path, name: str, dtype: str) -> ArrayFile:
    return ArrayFile(folder / f"{name}.npy", dtype)
