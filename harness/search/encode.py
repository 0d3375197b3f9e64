"""Turns texts into embeddings. The ranks share the work; all of them, rank 0 alone, or each for itself get the rows.

Evaluation, mining, filtering and the guide model all encode their texts through this module.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from harness import comm
from harness.data.batch.micro_batches import split_into_micro_batches
from harness.data.table.tokenisation import Tokeniser
from harness.prompts import NO_PROMPTS, Prompts
from harness.prompts.doubled import LOOKED_AT, doubled_prompt
from harness.types import EncodingRole, PromptedText, TokenBatch

Forward = Callable[[TokenBatch], Tensor]
ReadTexts = Callable[[np.ndarray], Sequence[str]]  # text numbers → texts
EncodeTexts = Callable[[Sequence[str], EncodingRole], np.ndarray]  # texts, role → embeddings float32 [N, D]

BLOCK_TEXTS = 65_536  # number of texts, over all ranks, whose token ids and embeddings are in memory at a time
_doubled: set[tuple[EncodingRole, str]] = set()  # of which this process has warned
PASSES_PER_SIGN = 8  # forward passes between two messages of the ranks, so that none waits long for a slower one


class Encode(Protocol):
    """The interface of `TextEncoder`, for functions that take an encoder."""

    def __call__(self, texts: Sequence[str], role: EncodingRole) -> np.ndarray: ...

    def read_and_encode(self, read: ReadTexts, order_T: np.ndarray, role: EncodingRole) -> np.ndarray: ...


def encode_each_once(encode: EncodeTexts, texts: Sequence[str], role: EncodingRole) -> np.ndarray:
    """Embeddings float32 [N, D] of all texts; each distinct text is encoded once. Every rank must call this."""
    position = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    row_UD = encode(list(position), role)
    return row_UD if len(position) == len(texts) else row_UD[[position[text] for text in texts]]


def encode_on_main(encode: EncodeTexts, texts: Sequence[str], role: EncodingRole) -> np.ndarray:
    """As `encode_each_once` on rank 0; the other ranks, which take part in the work, get no rows: [0, D]."""
    position = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    unique = list(position)
    row_UD = encode.on_main(unique, role) if isinstance(encode, TextEncoder) else encode(unique, role)
    if not comm.is_main():
        return row_UD[:0].copy()
    return row_UD if len(position) == len(texts) else row_UD[[position[text] for text in texts]]


def encode_share(encode: EncodeTexts, read: ReadTexts, number_N: np.ndarray, role: EncodingRole) -> np.ndarray:
    """Embeddings float32 [N, D] of this rank's own texts, which only this rank gets. Every rank must call this.

    read: returns the texts with the given numbers. A plain function `encode` is called with this rank's texts alone.
    """
    if isinstance(encode, TextEncoder):
        return encode.encode_share(read, number_N, role)
    return encode(list(read(number_N)), role)


class TextEncoder:
    """`encode(texts, role)` returns float32 [N, D], not normalised. Every rank must call it with the same texts.

    Besides the result, which is in CPU memory, a rank holds one block of `BLOCK_TEXTS` embeddings at a time. If
    `max_lengths` has no entry for the role `sentence`, the length of `query` is used.
    """

    def __init__(
        self,
        forward: Forward,
        tokeniser: Tokeniser,
        *,
        max_lengths: Mapping[EncodingRole, int],
        prompts: Prompts,
        micro_batch_tokens: int,
    ) -> None:
        self._forward = forward
        self._tokeniser = tokeniser
        self._max_lengths = {"sentence": max_lengths["query"], **max_lengths}
        self._prompts = prompts
        self._micro_batch_tokens = micro_batch_tokens

    def without_prompts(self) -> TextEncoder:
        """A copy of this encoder that adds no prompts, for texts that already start with their prompts."""
        return self.with_prompts(NO_PROMPTS)

    def with_prompts(self, prompts: Prompts) -> TextEncoder:
        """A copy of this encoder that puts these prompts before texts."""
        return TextEncoder(
            self._forward,
            self._tokeniser,
            max_lengths=self._max_lengths,
            prompts=prompts,
            micro_batch_tokens=self._micro_batch_tokens,
        )

    def __call__(self, texts: Sequence[str], role: EncodingRole = "document") -> np.ndarray:
        return self.read_and_encode(lambda share: [texts[i] for i in share], _longest_first(texts), role)

    def on_main(self, texts: Sequence[str], role: EncodingRole) -> np.ndarray:
        """As a call, but only rank 0 gets the rows; the others get none, [0, D]."""
        return self._encode_blocks(lambda share: [texts[i] for i in share], _longest_first(texts), role, comm.is_main())

    def read_and_encode(self, read: ReadTexts, order_T: np.ndarray, role: EncodingRole) -> np.ndarray:
        """Encode texts of which each rank reads only its own share: float32 [T, D], row i belongs to text i.

        order_T: the text numbers 0 … T - 1 in the order in which they are assigned to the ranks 0, 1, … W - 1, 0, 1, …
        It must be equal on every rank.
        """
        return self._encode_blocks(read, order_T, role, keep=True)

    @torch.no_grad()
    def encode_share(self, read: ReadTexts, number_N: np.ndarray, role: EncodingRole) -> np.ndarray:
        """This rank's embeddings float32 [N, D] of the texts with these numbers. Every rank must call it with its own.

        Nothing is exchanged but signs of life: a rank holds its own rows, and the token ids of one block.
        """
        per_block = max(1, BLOCK_TEXTS // comm.world_size())
        num_blocks = int(comm.all_reduce_max(torch.tensor(-(-len(number_N) // per_block), device=comm.device())))
        result_ND: np.ndarray | None = None
        for first in range(0, max(1, num_blocks) * per_block, per_block):
            number_B = number_N[first : first + per_block]
            row_BD = self._encode_ids(self._token_ids(read(number_B), role), len(number_B)).cpu().numpy()
            if result_ND is None:
                result_ND = np.empty((len(number_N), row_BD.shape[1]), dtype=np.float32)
            result_ND[first : first + len(number_B)] = row_BD
        assert result_ND is not None
        return result_ND

    @torch.no_grad()
    def _encode_blocks(self, read: ReadTexts, order_T: np.ndarray, role: EncodingRole, keep: bool) -> np.ndarray:
        """See `read_and_encode`; no rows [0, D] if this rank does not keep them."""
        result_TD: np.ndarray | None = None
        for first in range(0, max(1, len(order_T)), BLOCK_TEXTS):
            block_B = order_T[first : first + BLOCK_TEXTS]
            gathered_RD = self._encode_block(read, block_B, role)
            if result_TD is None:
                result_TD = np.empty((len(order_T) if keep else 0, gathered_RD.shape[1]), dtype=np.float32)
            if keep:
                _restore_order(gathered_RD, block_B, result_TD)
        assert result_TD is not None
        return result_TD

    def _encode_block(self, read: ReadTexts, block_B: np.ndarray, role: EncodingRole) -> np.ndarray:
        """All ranks' embeddings of a block, in the order of the ranks. Rank r encodes the texts r, r + W, r + 2W, …

        Every rank contributes the same number of rows; the last row of some ranks is padding.
        """
        share = block_B[comm.rank() :: comm.world_size()]
        ids = self._token_ids(read(share), role)
        row_RD = self._encode_ids(ids, -(-len(block_B) // comm.world_size()))
        return comm.all_gather_rows(row_RD).cpu().numpy()

    def _token_ids(self, texts: Sequence[str], role: EncodingRole) -> list[list[int]]:
        prompt = self._prompts.before(role)
        _warn_of_doubled(texts, role, prompt)
        return self._tokeniser.encode([_prompted(prompt, text) for text in texts], self._max_lengths[role])

    def _encode_ids(self, ids: list[list[int]], rows_per_rank: int) -> Tensor:
        """This rank's embeddings [rows_per_rank, D], in micro-batches.

        All ranks run the same number of forward passes, if necessary with an empty batch, because under ZeRO-3 every
        pass gathers the weights from all ranks.
        """
        length_R = np.array([len(row) for row in ids], dtype=np.int64)
        batches = split_into_micro_batches(np.arange(len(ids)), length_R, self._micro_batch_tokens)
        num_passes = int(comm.all_reduce_max(torch.tensor(max(1, len(batches)), device=comm.device())))
        row_RD: Tensor | None = None
        for index in range(num_passes):
            batch = batches[index] if index < len(batches) else np.empty(0, dtype=np.int64)
            embedding_BD = self._forward(self._tokeniser.pad([ids[i] for i in batch])).float()
            if row_RD is None:
                row_RD = embedding_BD.new_zeros((rows_per_rank, embedding_BD.shape[1]))
            row_RD[torch.from_numpy(batch).to(row_RD.device)] = embedding_BD[: len(batch)]
            if (index + 1) % PASSES_PER_SIGN == 0:
                comm.sign_of_life()
        assert row_RD is not None
        return row_RD


def _longest_first(texts: Sequence[str]) -> np.ndarray:
    """The order in which texts are dealt to the ranks: all get texts of about equal lengths.

    The length in characters is precise enough for this, and each rank then tokenises only its own share.
    """
    return np.argsort([-len(text) for text in texts], kind="stable").astype(np.int64)


def _prompted(prompt: str, text: str) -> str:
    """The text with the encoder's prompt in front; a text that already has its own keeps that one."""
    return PromptedText(prompt, text) if prompt else text


def _warn_of_doubled(texts: Sequence[str], role: EncodingRole, prompt: str) -> None:
    """Say, once for each prompt, that texts begin with it already."""
    without_own = [text for text in texts[:LOOKED_AT] if not isinstance(text, PromptedText)]
    line = doubled_prompt(without_own, role, prompt)
    if line is not None and comm.is_main() and (role, prompt) not in _doubled:
        _doubled.add((role, prompt))
        warnings.warn(line, stacklevel=2)


def _restore_order(gathered_RD: np.ndarray, block_B: np.ndarray, result_TD: np.ndarray) -> None:
    """Copy a block's gathered embeddings to the rows of `result_TD` that belong to its texts."""
    rows_per_rank = len(gathered_RD) // comm.world_size()
    for rank in range(comm.world_size()):
        share = block_B[rank :: comm.world_size()]
        result_TD[share] = gathered_RD[rank * rows_per_rank :][: len(share)]
