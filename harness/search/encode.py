"""Turns texts into embeddings. The ranks share the work, and every rank gets all embeddings.

Evaluation, mining, filtering and the guide model all encode their texts through this module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from harness import comm
from harness.data.batch.micro_batches import split_into_micro_batches
from harness.data.table.tokenisation import Tokeniser
from harness.prompts import NO_PROMPTS, Prompts
from harness.types import EncodingRole, PromptedText, TokenBatch

Forward = Callable[[TokenBatch], Tensor]
ReadTexts = Callable[[np.ndarray], Sequence[str]]  # text numbers → texts
EncodeTexts = Callable[[Sequence[str], EncodingRole], np.ndarray]  # texts, role → embeddings float32 [N, D]

BLOCK_TEXTS = 65_536  # number of texts, over all ranks, whose token ids and embeddings are in memory at a time


class Encode(Protocol):
    """The interface of `TextEncoder`, for functions that take an encoder."""

    def __call__(self, texts: Sequence[str], role: EncodingRole) -> np.ndarray: ...

    def read_and_encode(self, read: ReadTexts, order_T: np.ndarray, role: EncodingRole) -> np.ndarray: ...


def encode_each_once(encode: EncodeTexts, texts: Sequence[str], role: EncodingRole) -> np.ndarray:
    """Embeddings float32 [N, D] of all texts; each distinct text is encoded once. Every rank must call this."""
    position = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    row_UD = encode(list(position), role)
    return row_UD if len(position) == len(texts) else row_UD[[position[text] for text in texts]]


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
        # Longest first, so that all ranks get texts of about equal lengths. The length in characters is precise enough
        # for this, and each rank then tokenises only its own share.
        order = np.argsort([-len(text) for text in texts], kind="stable").astype(np.int64)
        return self.read_and_encode(lambda share: [texts[i] for i in share], order, role)

    @torch.no_grad()
    def read_and_encode(self, read: ReadTexts, order_T: np.ndarray, role: EncodingRole) -> np.ndarray:
        """Encode texts of which each rank reads only its own share: float32 [T, D], row i belongs to text i.

        order_T: the text numbers 0 … T - 1 in the order in which they are assigned to the ranks 0, 1, … W - 1, 0, 1, …
        It must be equal on every rank.
        """
        result_TD: np.ndarray | None = None
        for first in range(0, max(1, len(order_T)), BLOCK_TEXTS):
            block_B = order_T[first : first + BLOCK_TEXTS]
            gathered_RD = self._encode_block(read, block_B, role)
            if result_TD is None:
                result_TD = np.empty((len(order_T), gathered_RD.shape[1]), dtype=np.float32)
            _restore_order(gathered_RD, block_B, result_TD)
        assert result_TD is not None
        return result_TD

    def _encode_block(self, read: ReadTexts, block_B: np.ndarray, role: EncodingRole) -> np.ndarray:
        """All ranks' embeddings of a block, in the order of the ranks. Rank r encodes the texts r, r + W, r + 2W, …

        Every rank contributes the same number of rows; the last row of some ranks is padding.
        """
        share = block_B[comm.rank() :: comm.world_size()]
        prompt = self._prompts.before(role)
        ids = self._tokeniser.encode([_prompted(prompt, text) for text in read(share)], self._max_lengths[role])
        row_RD = self._encode_ids(ids, -(-len(block_B) // comm.world_size()))
        return comm.all_gather_rows(row_RD).cpu().numpy()

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
        assert row_RD is not None
        return row_RD


def _prompted(prompt: str, text: str) -> str:
    """The text with the encoder's prompt in front; a text that already has its own keeps that one."""
    return PromptedText(prompt, text) if prompt else text


def _restore_order(gathered_RD: np.ndarray, block_B: np.ndarray, result_TD: np.ndarray) -> None:
    """Copy a block's gathered embeddings to the rows of `result_TD` that belong to its texts."""
    rows_per_rank = len(gathered_RD) // comm.world_size()
    for rank in range(comm.world_size()):
        share = block_B[rank :: comm.world_size()]
        result_TD[share] = gathered_RD[rank * rows_per_rank :][: len(share)]
