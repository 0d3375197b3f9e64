"""Several ranks embed many texts: each reads and encodes a share, and all get the same rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from harness import comm
from harness.data.table.tokenisation import Tokeniser
from harness.prompts import NO_PROMPTS
from harness.search import embeddings as module
from harness.search import encode as encode_module
from harness.search.cosine import share_of_rank
from harness.search.encode import TextEncoder, encode_on_main, encode_share
from harness.types import TokenBatch
from tests.ranks import run_ranks
from tests.tiny import make_model, text

pytestmark = pytest.mark.distributed

NUM_TEXTS = 23


def token_sums(batch: TokenBatch) -> torch.Tensor:
    """Embed each text as (sum of its token ids, number of its tokens): exact integers in any micro-batch."""
    ids, mask = batch.input_ids_BL, batch.attention_mask_BL
    return torch.stack([(ids * mask).sum(1), mask.sum(1)], dim=1).float()


def summing_encoder(model: str) -> TextEncoder:
    return TextEncoder(
        token_sums,
        Tokeniser(model),
        max_lengths={"query": 24, "document": 24},
        prompts=NO_PROMPTS,
        micro_batch_tokens=32,
    )


def embed(model: str, folder: Path, num_texts: int = NUM_TEXTS) -> tuple[np.ndarray, list[int]]:
    """Runs on a rank: return the rows that this rank gets and the ids of the texts that it read."""
    module.BLOCK_TEXTS = 10
    encode = summing_encoder(model)
    ids_read: list[int] = []

    def read(ids: np.ndarray) -> list[str]:
        ids_read.extend(ids.tolist())
        return [text(i, 1 + i % 2 * 9) for i in ids.tolist()]

    rows = module.embeddings(encode, read, 100 + np.arange(num_texts), "document", folder, {"data": 1})
    return np.array(rows), ids_read


def test_a_rank_reads_its_share_only_and_all_get_the_rows_of_one_rank(tmp_path: Path) -> None:
    model = str(make_model(tmp_path / "model"))
    (alone, ids), *_ = run_ranks(1, embed, model, tmp_path / "1")
    assert sorted(ids) == list(range(100, 100 + NUM_TEXTS))
    for ranks in (2, 3):
        results = run_ranks(ranks, embed, model, tmp_path / str(ranks))
        assert sorted(i for _, ids in results for i in ids) == list(range(100, 100 + NUM_TEXTS))
        assert max(len(ids) for _, ids in results) <= sum(-(-block // ranks) for block in (10, 10, 3))
        for rows, _ in results:
            np.testing.assert_array_equal(rows, alone)


def test_no_texts_give_no_rows_of_the_models_width(tmp_path: Path) -> None:
    model = str(make_model(tmp_path / "model"))
    for rows, ids in run_ranks(2, embed, model, tmp_path / "none", 0):
        assert rows.shape == (0, 2)
        assert ids == []


def shares(model: str, num_texts: int) -> tuple[list[list[float]], list[list[float]], int, int]:
    """Runs on a rank: the rows of its own texts, those that rank 0 alone gets, and their widths."""
    encode_module.BLOCK_TEXTS = 4
    encode_module.PASSES_PER_SIGN = 2
    encode = summing_encoder(model)
    texts = [text(i, 1 + i % 2 * 9) for i in range(num_texts)]
    own = encode_share(encode, lambda ids: [texts[i] for i in ids], np.asarray(share_of_rank(num_texts)), "document")
    main = encode_on_main(encode, [*texts, *texts[:1]], "document")
    assert len(encode.on_main(texts, "document")) == (num_texts if comm.is_main() else 0)
    return own.tolist(), main.tolist(), own.shape[1], main.shape[1]


@pytest.mark.parametrize("num_texts", [2, 13])
def test_each_rank_keeps_its_share_only_or_rank_0_has_all(tmp_path: Path, num_texts: int) -> None:
    """With 2 texts, a rank of 3 has none, but takes part in what all do."""
    model = str(make_model(tmp_path / "model"))
    ((expected, _, _, _),) = run_ranks(1, shares, model, num_texts)
    results = run_ranks(3, shares, model, num_texts)
    assert [row for own, _, _, _ in results for row in own] == expected
    assert max(len(own) for own, _, _, _ in results) <= -(-num_texts // 3)
    assert [main for _, main, _, _ in results] == [[*expected, expected[0]], [], []]
    assert {width for _, _, *widths in results for width in widths} == {2}


def failed_write(model: str, folder: Path) -> str:
    """Runs on a rank: return the error message of this rank when the disk of rank 0 is full."""

    def disk_full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    module._write = disk_full
    with pytest.raises((ValueError, OSError)) as caught:
        embed(model, folder)
    return str(caught.value)


def test_a_write_that_fails_on_rank_0_ends_all_ranks(tmp_path: Path) -> None:
    """Otherwise the other ranks would wait for rank 0 in the next collective."""
    model = str(make_model(tmp_path / "model"))
    messages = run_ranks(2, failed_write, model, tmp_path / "full", timeout=90)
    assert all("No space left on device" in message for message in messages)
