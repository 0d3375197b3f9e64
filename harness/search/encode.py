"""Turns texts into embeddings: the ranks share the work, and all get the same rows, whatever the number of ranks.

The only way from texts to vectors for evaluation, mining, filtering and the guide model.
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
from harness.types import EncodingRole, TokenBatch

Forward = Callable[[TokenBatch], Tensor]
ReadTexts = Callable[[np.ndarray], Sequence[str]]  # gives the texts with these numbers
EncodeTexts = Callable[[Sequence[str], EncodingRole], np.ndarray]  # gives embeddings float32 [N, D] in a role

BLOCK_TEXTS = 65_536  # over all ranks, texts whose token ids and embeddings are held at a time


class Encode(Protocol):
    """What `TextEncoder` does, for those who take one."""

    def __call__(self, texts: Sequence[str], role: EncodingRole) -> np.ndarray: ...

    def read_and_encode(self, read: ReadTexts, order_T: np.ndarray, role: EncodingRole) -> np.ndarray: ...


def encode_each_once(encode: EncodeTexts, texts: Sequence[str], role: EncodingRole) -> np.ndarray:
    """Embeddings float32 [N, D] of all texts; each different text is encoded once. Every rank calls it."""
    position = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    row_UD = encode(list(position), role)
    return row_UD if len(position) == len(texts) else row_UD[[position[text] for text in texts]]


class TextEncoder:
    """`encode(texts, role)` gives float32 [N, D], not normalised. Every rank must call it with the same texts.

    Besides the result, which lies in CPU memory, a rank holds one block of `BLOCK_TEXTS` embeddings at a time.
    Without a length of its own, the role `sentence` takes the query's.
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
        """The same encoder for texts that start with their prompts already."""
        return TextEncoder(
            self._forward,
            self._tokeniser,
            max_lengths=self._max_lengths,
            prompts=NO_PROMPTS,
            micro_batch_tokens=self._micro_batch_tokens,
        )

    def __call__(self, texts: Sequence[str], role: EncodingRole = "document") -> np.ndarray:
        # Longest first, so that all ranks get texts of about the same lengths. Character counts are near enough to
        # token counts for that, and a rank then tokenises its own share only.
        order = np.argsort([-len(text) for text in texts], kind="stable").astype(np.int64)
        return self.read_and_encode(lambda share: [texts[i] for i in share], order, role)

    @torch.no_grad()
    def read_and_encode(self, read: ReadTexts, order_T: np.ndarray, role: EncodingRole) -> np.ndarray:
        """Encode texts that each rank reads by itself, only its own share: float32 [T, D], row i of text i.

        order_T: the numbers 0 … T - 1 in the order in which they are given to ranks 0, 1, … W - 1, 0, 1, …; the same
        on every rank.
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
        """All ranks' embeddings of a block, those of rank 0 first. Rank r encodes texts r, r + W, r + 2W, …

        Every rank contributes as many rows; the last one of some is padding.
        """
        share = block_B[comm.rank() :: comm.world_size()]
        prompt = self._prompts.before(role)
        ids = self._tokeniser.encode([prompt + text for text in read(share)], self._max_lengths[role])
        row_RD = self._encode_ids(ids, -(-len(block_B) // comm.world_size()))
        return comm.all_gather_rows(row_RD).cpu().numpy()

    def _encode_ids(self, ids: list[list[int]], rows_per_rank: int) -> Tensor:
        """This rank's embeddings [rows_per_rank, D], in micro-batches.

        All ranks run the same number of forward passes, some of them on an empty batch: under ZeRO-3 each pass gathers
        the weights from all ranks.
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


def _restore_order(gathered_RD: np.ndarray, block_B: np.ndarray, result_TD: np.ndarray) -> None:
    """Copy a block's gathered embeddings to the rows of `result_TD` that belong to its texts."""
    rows_per_rank = len(gathered_RD) // comm.world_size()
    for rank in range(comm.world_size()):
        share = block_B[rank :: comm.world_size()]
        result_TD[share] = gathered_RD[rank * rows_per_rank :][: len(share)]
