"""Where a model does not pool the tokens of prompts, every path from a text to its embedding leaves them out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

from harness.data.bank.history import BankHistory
from harness.data.bank.negatives import ListedCandidates, NegativeBank
from harness.data.batch.tokens import token_batches
from harness.data.config import PromptsConfig, TaskConfig
from harness.data.data_config import DataConfig
from harness.data.plan.plan import plan
from harness.data.plan.task import Task
from harness.data.table.identity import token_hash
from harness.data.table.index import open_task
from harness.data.table.tokenisation import Tokeniser
from harness.encoder.encoder import Encoder
from harness.encoder.load import config_of_folder, load_encoder
from harness.prompts import NO_PROMPTS, Prompts
from harness.search.embeddings import TableEmbeddings
from harness.search.encode import TextEncoder
from harness.types import ROLES, PromptedText, TokenBatch
from tests.tiny import make_model, text, write_jsonl

LENGTH = 16  # tokens; some texts are cut
QUERY, DOCUMENT, OWN = text(90, 2) + " ", text(91, 4) + " ", text(92, 3) + " "
ROWS = [
    {"query": text(i, 3), "pos": [text(10 + i, 5 + 4 * i)], "neg": [], **({"prompt": OWN} if i == 1 else {})}
    for i in range(3)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers folder with `include_prompt: false`."""
    root = tmp_path_factory.mktemp("model")
    transformer = Transformer(str(make_model(root / "plain")), max_seq_length=LENGTH)
    modules = [transformer, Pooling(32, ("mean", "lasttoken", "cls"), include_prompt=False)]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(root / "out"), create_model_card=False)
    return root / "out"


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Encoder:
    return load_encoder(config_of_folder(str(folder))).eval()


@pytest.fixture(scope="module")
def task(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Task:
    root = tmp_path_factory.mktemp("data")
    prompts = PromptsConfig(query=QUERY, document=DOCUMENT)
    config = TaskConfig(name="faq", kind="retrieval", path="faq.jsonl", quota=3, prompts=prompts)
    path = str(write_jsonl(root / "faq.jsonl", ROWS))
    data = open_task(config, path, DataConfig(cache=str(root / "cache")), Tokeniser(str(folder)), LENGTH, LENGTH)
    bank = BankHistory(NegativeBank(data.num_rows, ListedCandidates(data), 0))
    return Task(config, data, bank, LENGTH, LENGTH)


def truth(folder: Path, text: str, prompt: str) -> np.ndarray:
    return SentenceTransformer(str(folder), device="cpu").encode(text, prompt=prompt, show_progress_bar=False)


def embed(encoder: Encoder, batch: TokenBatch) -> np.ndarray:
    with torch.no_grad():
        return encoder(*batch.on(torch.device("cpu"))).numpy()


def test_training_pools_the_text_and_not_its_prompt(folder, encoder, task):
    step_plan = plan([task], seed=0, step=1)
    rows = np.arange(len(step_plan.texts))
    (batch,) = token_batches(step_plan, [rows], [task], Tokeniser(str(folder)))
    part = step_plan.parts[0]
    embedding_TD = embed(encoder, batch)
    for row, query, positive in zip(part.row_B, part.query_B, part.positive_BP[:, 0], strict=True):
        prompt = ROWS[row].get("prompt", QUERY)
        np.testing.assert_allclose(embedding_TD[query], truth(folder, ROWS[row]["query"], prompt), atol=1e-5)
        expected = truth(folder, ROWS[row]["pos"][0], DOCUMENT)
        np.testing.assert_allclose(embedding_TD[part.document_N[positive]], expected, atol=1e-5)


def test_searches_pool_the_text_and_not_its_prompt(folder, encoder, task, tmp_path):
    """In evaluation the encoder adds the prompts; in mining, filtering and looking ahead texts have them already."""

    def encode(prompts: Prompts) -> TextEncoder:
        forward = lambda batch: torch.from_numpy(embed(encoder, batch))  # noqa: E731
        lengths = {"query": LENGTH, "document": LENGTH}
        tokeniser = Tokeniser(str(folder))
        return TextEncoder(forward, tokeniser, max_lengths=lengths, prompts=prompts, micro_batch_tokens=64)

    prompts = Prompts(query=QUERY, document=DOCUMENT)
    texts = [row["pos"][0] for row in ROWS]
    expected = np.stack([truth(folder, one, DOCUMENT) for one in texts])
    ids = np.flatnonzero(task.data.role_G == 1)
    table = TableEmbeddings(encode(NO_PROMPTS), prompts, tmp_path, {}, lambda *_: None)(
        "positives", task.data, ids, "document"
    )
    np.testing.assert_allclose(encode(prompts)(texts, "document"), expected, atol=1e-5)
    np.testing.assert_allclose(
        encode(NO_PROMPTS)(task.full_texts(task.data, ids, "document"), "document"), expected, atol=1e-5
    )
    np.testing.assert_allclose(table, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-5)


def test_texts_of_equal_tokens_differ_where_pooling_begins_elsewhere(folder):
    tokeniser = Tokeniser(str(folder))
    one, same, other = tokeniser.encode(
        [PromptedText("aral ", "btin cmok"), PromptedText("aral ", "btin cmok"), PromptedText("aral btin ", "cmok")], 9
    )
    assert one == other
    assert token_hash(one) == token_hash(same) != token_hash(other)


def test_a_prompt_that_leaves_no_room_for_the_text_is_refused(folder):
    with pytest.raises(ValueError, match=r"include_prompt: got the prompt .* and no room for text in 4 tokens"):
        Tokeniser(str(folder)).encode([PromptedText("aral btin cmok dsul ", "aral")], 4)


@pytest.mark.parametrize("pools_prompt", [True, False])
def test_a_step_takes_the_ids_that_tokenising_afresh_gives(
    folder, task, tokeniser, tmp_path, monkeypatch, pools_prompt
):
    """With prompts of the task and of rows, texts that are cut, and repeated texts; no step tokenises."""
    used = tokeniser if pools_prompt else Tokeniser(str(folder))
    if pools_prompt:
        data = open_task(task.config, task.data.path, DataConfig(cache=str(tmp_path)), used, 9, LENGTH)
        bank = BankHistory(NegativeBank(data.num_rows, ListedCandidates(data), 0))
        task = Task(task.config, data, bank, 9, LENGTH)
    step_plan = plan([task], seed=0, step=1)
    row_M, text_M = np.arange(len(step_plan.texts))[::-1], step_plan.texts.text_T[::-1]
    fresh = []
    for text_id, (raw, own) in zip(text_M, task.data.read_texts(text_M), strict=True):
        role = ROLES[task.data.role_G[text_id]]
        fresh += used.encode([PromptedText(task.prompt(role, own), raw)], task.max_length(role))
    expected = used.pad(fresh)
    assert {9, LENGTH} & set(map(len, fresh)), "a text is cut"
    monkeypatch.setattr(Tokeniser, "_encode", None)
    monkeypatch.setattr(Tokeniser, "encode_flat", None)
    batch, dummy = token_batches(step_plan, [row_M, row_M[:0]], [task], used)
    assert torch.equal(batch.input_ids_BL, expected.input_ids_BL)
    assert torch.equal(batch.attention_mask_BL, expected.attention_mask_BL)
    if pools_prompt:
        assert batch.pooling_mask_BL is None
    else:
        assert torch.equal(batch.pooling_mask_BL, expected.pooling_mask_BL)
        assert not torch.equal(batch.pooling_mask_BL, batch.attention_mask_BL)
    assert dummy.attention_mask_BL.tolist() == [[1, 0, 0, 0, 0, 0, 0, 0]]
