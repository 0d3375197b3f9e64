"""The prompt and length of a text depend on its role; equal texts are encoded once."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.data.table.tokenisation import Tokeniser
from harness.prompts import NO_PROMPTS, Prompts
from harness.search.encode import TextEncoder, encode_each_once
from harness.search.unit_rows import unit_rows
from harness.types import EncodingRole, TokenBatch
from tests.tiny import make_model, text


def embed(batch: TokenBatch) -> torch.Tensor:
    """Embed each text as (sum of its token ids, number of its tokens)."""
    ids, mask = batch.input_ids_BL, batch.attention_mask_BL
    return torch.stack([(ids * mask).sum(1), mask.sum(1)], dim=1).float()


@pytest.fixture(scope="module")
def tokeniser(tmp_path_factory: pytest.TempPathFactory) -> Tokeniser:
    folder: Path = make_model(tmp_path_factory.mktemp("model"))
    return Tokeniser(str(folder))


@pytest.mark.parametrize("own", [True, False])
def test_each_role_has_its_prompt_and_length_and_a_sentence_without_them_takes_the_querys(
    tokeniser: Tokeniser, own: bool
) -> None:
    lengths: dict[EncodingRole, int] = {"query": 5, "document": 9}
    prompts = Prompts(query="aral ")
    if own:
        lengths["sentence"], prompts = 7, Prompts(query="aral ", sentence="btin ")
    encode = TextEncoder(embed, tokeniser, max_lengths=lengths, prompts=prompts, micro_batch_tokens=32)
    texts = [text(i, 1 + i) for i in range(12)]
    before = {"query": "aral ", "document": "", "sentence": "btin "}
    for role in ("query", "document", "sentence"):
        used: EncodingRole = role if own or role != "sentence" else "query"
        expected = tokeniser.encode([before[used] + one for one in texts], lengths[used])
        np.testing.assert_array_equal(encode(texts, role), [[sum(ids), len(ids)] for ids in expected])


def test_texts_that_begin_with_their_prompt_are_warned_of_once(tokeniser: Tokeniser) -> None:
    lengths: dict[EncodingRole, int] = {"query": 9, "document": 9}
    prompts = Prompts(query="said twice: ")
    encode = TextEncoder(embed, tokeniser, max_lengths=lengths, prompts=prompts, micro_batch_tokens=32)
    words = r"2 of the first 3 texts of role query begin with the query prompt and get it once more"
    texts = ["said twice: a", "said twice: b", "c"]
    with pytest.warns(UserWarning, match=words):
        encode(texts, "query")
    with warnings.catch_warnings(action="error"):
        encode(texts, "query")
        encode(texts, "document")


def test_no_texts_give_no_rows_of_the_same_width(tokeniser: Tokeniser) -> None:
    lengths: dict[EncodingRole, int] = {"query": 5, "document": 9}
    encode = TextEncoder(embed, tokeniser, max_lengths=lengths, prompts=NO_PROMPTS, micro_batch_tokens=32)
    assert encode([], "document").shape == (0, 2)


@pytest.mark.parametrize("texts", [["bb", "a", "bb", "ccc", "a"], ["a", "bb"], []])
def test_equal_texts_are_encoded_once_and_all_get_their_row(texts: list[str]) -> None:
    asked: list[str] = []

    def encode(some: Sequence[str], role: EncodingRole) -> np.ndarray:
        asked.extend(some)
        return np.array([[len(one)] for one in some], dtype=np.float32).reshape(-1, 1)

    assert encode_each_once(encode, texts, "document").tolist() == [[len(one)] for one in texts]
    assert asked == list(dict.fromkeys(texts))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_embeddings_of_a_model_in_half_precision_are_normalised_in_float32(
    tokeniser: Tokeniser, dtype: torch.dtype
) -> None:
    """A half has 8 or 11 bits: unit rows in it would be off by up to 0.4 %, and many cosines would be tied."""

    def embed_in_half(batch: TokenBatch) -> torch.Tensor:
        return torch.stack([embed(batch)[:, 1] * factor / 7 for factor in (1, 2, 3)], dim=1).to(dtype)

    lengths: dict[EncodingRole, int] = {"query": 5, "document": 9}
    encode = TextEncoder(embed_in_half, tokeniser, max_lengths=lengths, prompts=NO_PROMPTS, micro_batch_tokens=32)
    rows = encode([text(i, 1 + i) for i in range(6)], "document")
    assert rows.dtype == np.float32
    lengths_N = np.linalg.norm(unit_rows(rows).astype(np.float64), axis=1)
    np.testing.assert_allclose(lengths_N, 1, atol=1e-6)
