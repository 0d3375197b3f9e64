"""`harness mine` ranks as brute force does and continues after a kill; a run draws its negatives from the bank."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from harness import files
from harness.cli.mine import mine_bank
from harness.data.bank.file import FACTS, BankFacts, open_bank
from harness.data.data_config import DataConfig
from harness.data.table.index import TableConfig, TaskData, open_table
from harness.data.table.tokenisation import Tokeniser
from harness.mining.mine import MineSettings
from harness.mining.mined_texts import mined_texts
from harness.prompts import NO_PROMPTS
from harness.search import embeddings as embeddings_module
from harness.search import top_k as search
from harness.search.block_store import BlockStore
from tests.ranks import leave_out_report, run_ranks
from tests.tiny import text, write_jsonl

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def corpus(folder: Path) -> Path:
    """Positives of some queries, texts unrelated to any query, one text twice, and a text that equals a query."""
    rows = [{"text": text(1000 + i, 4 + i % 9)} for i in range(20)] + [{"text": text(6000 + i, 6)} for i in range(30)]
    return write_jsonl(folder / "corpus.jsonl", [*rows, rows[25], {"title": "", "text": text(3, 6)}])


def table(folder: Path, kind: str, path: Path) -> TaskData:
    tokeniser = Tokeniser(str(folder / "model"))
    config = TableConfig(path.name, kind, "train", NO_PROMPTS, (24, 24))  # type: ignore[arg-type]
    return open_table(config, str(path), DataConfig(cache=str(folder / "cache")), tokeniser)


def run_mine(
    folder: Path, out: str, corpus: Path | None = None, pooling: str = "mean", **settings: float | str
) -> Path:
    shutil.rmtree(folder / out, ignore_errors=True)
    return start(folder, out, corpus, pooling, **settings)


def start(folder: Path, out: str, corpus: Path | None = None, pooling: str = "mean", **settings: float | str) -> Path:
    """Start mining into the folder `out`, or continue it."""
    mine_bank(
        str(folder / "model"),
        str(folder / "retrieval.jsonl"),
        corpus=None if corpus is None else str(corpus),
        out=folder / out,
        settings=MineSettings(num_candidates=8, **settings),  # type: ignore[arg-type]
        max_length=24,
        pooling=pooling,  # type: ignore[arg-type]
    )
    return folder / out


def contents(bank: Path) -> list[bytes]:
    return [(bank / name).read_bytes() for name in ("candidate_RC.npy", "score_RC.npy", "count_R.npy", FACTS)]


def embed(folder: Path, texts: list[str]) -> np.ndarray:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    module = Transformer(str(folder / "model"), max_seq_length=24)
    model = SentenceTransformer(modules=[module, Pooling(module.get_embedding_dimension(), "mean")], device="cpu")
    return model.encode(texts, normalize_embeddings=True)


@pytest.mark.parametrize("relative", [None, 0.999])
def test_candidates_are_those_of_brute_force(folder: Path, corpus: Path, relative: float | None) -> None:
    """Best first. Left out: known positives, the query's own text and, with a limit, texts too near to the positive."""
    source = [json.loads(line) for line in (folder / "retrieval.jsonl").read_text().splitlines()]
    bank = run_mine(folder, "bank", corpus, **({} if relative is None else {"relative": relative}))
    documents = table(folder, "corpus", corpus)
    opened = open_bank(bank, table(folder, "retrieval", folder / "retrieval.jsonl"), documents, offset=0)
    texts = [one for one, _ in documents.read_texts(np.arange(documents.num_rows))]
    unique = sorted(set(texts))
    document_CD = embed(folder, unique)
    limited = 0
    for row, example in enumerate(source):
        query_D, positive_PD = embed(folder, [example["query"]])[0], embed(folder, example["positive"])
        score_C = document_CD @ query_D
        limit = min(positive_PD @ query_D) * (relative or np.inf)
        allowed = [i for i, one in enumerate(unique) if one not in example["positive"] and one != example["query"]]
        near = [i for i in allowed if score_C[i] >= limit]
        limited += len(near)
        expected = sorted(set(allowed) - set(near), key=lambda i: -score_C[i])[:8]
        ranks = np.arange(8)[None]
        ids, scores = opened.text_ids(np.array([row]), ranks)[0], opened.scores(np.array([row]), ranks)[0]
        count = int(opened.count(np.array([row]))[0])
        assert count == len(expected)
        assert (ids[count:] == -1).all()
        np.testing.assert_allclose(scores[:count], score_C[expected], atol=1e-5)
        found = [unique.index(texts[i]) for i in ids[:count]]
        np.testing.assert_allclose(
            score_C[found], score_C[expected], atol=1e-5
        )  # candidates with equal scores may swap
        assert len(set(found)) == count
    assert (limited > 0) == (relative is not None)


def test_without_a_corpus_the_recipes_own_documents_are_ranked(folder: Path) -> None:
    bank = run_mine(folder, "own_bank")
    data = table(folder, "retrieval", folder / "retrieval.jsonl")
    opened = open_bank(bank, data, None, offset=0)
    ids = opened.text_ids(np.arange(data.num_rows), np.tile(np.arange(8), (data.num_rows, 1)))
    assert (ids >= 0).all()
    assert (data.role_G[ids] == 1).all()
    hashes = data.text_hash_G[ids]
    assert all(len(set(row)) == len(row) for row in hashes.tolist())


def test_a_killed_start_is_continued_and_gives_the_same_bank(
    folder: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while documents are encoded: the second start encodes only the remaining ones."""
    uninterrupted = run_mine(folder, "whole", corpus)
    monkeypatch.setattr(embeddings_module, "BLOCK_TEXTS", 16)
    written: list[int] = []
    original = embeddings_module._write

    def write(path: Path, first: int, *rest: object) -> None:
        original(path, first, *rest)  # type: ignore[arg-type]
        written.append(first)
        if path.name == "documents" and first == 16:
            raise KeyboardInterrupt

    monkeypatch.setattr(embeddings_module, "_write", write)
    with pytest.raises(KeyboardInterrupt):
        run_mine(folder, "killed", corpus)
    before = len(written)
    monkeypatch.setattr(embeddings_module, "_write", original)
    calls: list[int] = []
    monkeypatch.setattr(
        embeddings_module, "_write", lambda path, first, *rest: (calls.append(first), original(path, first, *rest))
    )
    start(folder, "killed", corpus)
    assert before == 3 + 2  # queries in three blocks, two of documents
    assert calls == [32, 48]
    for name in ("candidate_RC", "count_R"):
        assert np.array_equal(np.load(uninterrupted / f"{name}.npy"), np.load(folder / "killed" / f"{name}.npy"))
    assert not (folder / "killed" / "work").exists()


def test_a_start_killed_in_the_search_goes_on_behind_its_finished_blocks(
    folder: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """40 queries in blocks of 16; killed when two blocks are on disk."""
    uninterrupted = run_mine(folder, "whole_search", corpus)
    monkeypatch.setattr(search, "BLOCK_QUERIES", 16)
    monkeypatch.setattr(search, "GATHERED_QUERIES", 6)
    searched: list[int] = []
    original = search.search_rows
    monkeypatch.setattr(search, "search_rows", lambda one, rows: (searched.extend(rows), original(one, rows))[1])
    with monkeypatch.context() as patch:
        write = BlockStore.write

        def write_two(store: BlockStore, first: int, found: object) -> None:
            write(store, first, found)  # type: ignore[arg-type]
            if first == 16:
                raise KeyboardInterrupt

        patch.setattr(BlockStore, "write", write_two)
        with pytest.raises(KeyboardInterrupt):
            run_mine(folder, "killed_search", corpus)
    assert searched == list(range(32))
    searched.clear()
    start(folder, "killed_search", corpus)
    assert searched == list(range(32, 40))
    assert contents(folder / "killed_search") == contents(uninterrupted)


def test_a_start_killed_while_it_writes_the_facts_goes_on(
    folder: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uninterrupted = run_mine(folder, "whole_facts", corpus)
    replace = files.os.replace

    def replace_or_die(source: Path, target: Path) -> None:
        if target.name == FACTS:
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", replace_or_die)
        with pytest.raises(KeyboardInterrupt):
            run_mine(folder, "killed_facts", corpus)
    start(folder, "killed_facts", corpus)
    assert contents(folder / "killed_facts") == contents(uninterrupted)


def test_work_with_another_pooling_is_not_continued(
    folder: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uninterrupted = run_mine(folder, "whole_mean", corpus)

    def kill(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(search, "search_rows", kill)
        with pytest.raises(KeyboardInterrupt):
            run_mine(folder, "other_pooling", corpus, pooling="cls")
    start(folder, "other_pooling", corpus)
    assert contents(folder / "other_pooling") == contents(uninterrupted)


def test_a_finished_bank_is_refused_and_what_its_start_left_of_its_work_removed(folder: Path, corpus: Path) -> None:
    bank = run_mine(folder, "finished", corpus)
    before = contents(bank)
    (bank / "work" / "search").mkdir(parents=True)
    with pytest.raises(ValueError, match="holds a finished bank"):
        start(folder, "finished", corpus)
    assert (bank / "work").exists()  # a finished start leaves none, so this is somebody else's
    (bank / ".unfinished").write_text('{"command": "mine"}')
    with pytest.raises(ValueError, match="holds a finished bank"):
        start(folder, "finished", corpus)
    assert not (bank / "work").exists()
    assert contents(bank) == before


def test_texts_are_embedded_in_the_order_in_which_they_lie_on_disk(folder: Path, corpus: Path) -> None:
    texts = mined_texts(table(folder, "retrieval", folder / "retrieval.jsonl"), table(folder, "corpus", corpus))
    assert (np.diff(texts.query_id_Q) > 0).all()
    assert (np.diff(texts.document_id_C) > 0).all()


def train(folder: str, bank: str, output: str) -> None:
    """Runs on a rank."""
    import torch

    from harness.config import load_recipe
    from harness.trainer import train as run_training

    torch.set_num_threads(1)
    leave_out_report()
    changes = [f"output={folder}/{output}", f"tasks.faq.negatives.bank={bank}", "tasks.faq.negatives.offset=1"]
    run_training(load_recipe(f"{folder}/tiny.yaml", [*changes, "mining.rule=v2", "mining.floor=2.0"]))


def test_a_run_draws_from_the_bank_and_moves_on_in_it(folder: Path, corpus: Path) -> None:
    """With a floor above 1 every negative is replaced at every step."""
    bank = run_mine(folder, "train_bank", corpus)
    run_ranks(2, train, str(folder), str(bank), "bank_run")
    rows = [json.loads(line) for line in (folder / "bank_run" / "metrics.jsonl").read_text().splitlines()]
    assert all(row["negatives_replaced"] == 16 for row in rows[:3])
    assert BankFacts.read(bank).corpus == str(corpus)


def start_from_ranking(folder: str, bank: str) -> str:
    """Runs on a rank: return the message by which a run refuses the scores of a bank as S0."""
    from harness.config import load_recipe
    from harness.run.build import build_run

    changes = [f"tasks.faq.negatives.bank={bank}", "mining.rule=v2", "mining.start=ranking"]
    try:
        build_run(load_recipe(f"{folder}/tiny.yaml", changes))
    except ValueError as error:
        return str(error)
    return ""


def test_a_rankings_scores_are_s0_only_for_a_run_that_starts_with_the_same_weights_and_pooling(
    folder: Path, corpus: Path
) -> None:
    bank, other = run_mine(folder, "ranked", corpus), run_mine(folder, "ranked_by_cls", corpus, pooling="cls")
    assert run_ranks(1, start_from_ranking, str(folder), str(bank)) == [""]
    message = run_ranks(1, start_from_ranking, str(folder), str(other))[0]
    assert "ranked with other pooling than the run starts with" in message
    facts = json.loads((bank / FACTS).read_text())
    facts["ranked_by"]["weights"] = "others"
    (bank / FACTS).write_text(json.dumps(facts))
    message = run_ranks(1, start_from_ranking, str(folder), str(bank))[0]
    assert "ranked with other weights than the run starts with" in message


def test_a_bank_of_other_data_is_refused(folder: Path, corpus: Path) -> None:
    bank = run_mine(folder, "stale", corpus)
    data = table(folder, "retrieval", folder / "retrieval.jsonl")
    with pytest.raises(ValueError, match="made for another corpus"):
        open_bank(bank, data, data, offset=0)


def test_above_a_stated_size_faiss_searches_and_the_bank_says_what_it_missed(folder: Path, corpus: Path) -> None:
    """The corpus has 51 different documents. With so few, FAISS IVF makes one list, so its search is exact."""
    pytest.importorskip("faiss")
    below = run_mine(folder, "below", corpus, index="ivf", index_above=51)
    above = run_mine(folder, "above", corpus, index="ivf", index_above=50)
    assert BankFacts.read(below).search == {"index": "exact", "recall": 1.0}
    assert BankFacts.read(above).search == {"index": "ivf", "recall": 1.0}
    for name in ("candidate_RC.npy", "score_RC.npy", "count_R.npy"):
        assert (above / name).read_bytes() == (below / name).read_bytes()
