"""The same prompt stands before the same text wherever it is embedded, as sentence-transformers' token ids show."""

from __future__ import annotations

import json
import os
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.ranks import leave_out_report, run_ranks
from tests.tiny import make_model, text, write_jsonl

PROMPTS = {"query": "aral ", "document": "btin ", "STS": "cmok ", "Classification": "dsul "}
GUIDE_PROMPTS = {"query": "edip ", "document": "fven ", "Classification": "gral "}
QUERIES, POSITIVES, NEGATIVES = ([text(first + i, 4) for i in range(6)] for first in (0, 100, 200))
CORPUS, SENTENCES, INTENTS = ([text(first + i, 4) for i in range(8)] for first in (300, 400, 500))
_RECIPE = """
name: tiny
model: {{name_or_path: {base}, pooling: mean, max_length: 24}}
tasks:
  - {{name: faq, kind: retrieval, path: faq.jsonl, quota: 4, negatives: {{per_query: 1, offset: 0, guide: true}}}}
  - {{name: similar, kind: sts, path: sts/train.jsonl, quota: 4}}
  - {{name: intents, kind: classification, path: intents/train.jsonl, quota: 2,
      negatives: {{scope: own, per_query: 1, guide: true}}}}
guide: {{name_or_path: {guide}}}
mining: {{rule: v1, check: upcoming, interval: 1, remine: {{every: 2, candidates: 2}}}}
training: {{steps: 4, learning_rate: 1.0e-3, micro_batch_tokens: 128}}
evaluation: {{every: 4, data: [beir, sts/test.jsonl, intents]}}
checkpoint: {{every: 3}}
data: {{cache: cache}}
output: run
"""
# Consumer → the texts that it may embed, by the name of their prompt in the folder; the guide has its own folder.
TRAINED = {"query": QUERIES, "document": POSITIVES + NEGATIVES, "STS": SENTENCES, "Classification": INTENTS}
EVALUATED = {"query": QUERIES, "document": CORPUS, "STS": SENTENCES, "Classification": INTENTS}
PAIRS = {"query": QUERIES, "document": POSITIVES}
SEARCHED = {"query": QUERIES, "document": POSITIVES + NEGATIVES}
EMBEDDED = {
    "training": TRAINED,
    "guide": {name: TRAINED[name] for name in GUIDE_PROMPTS},
    "look-ahead": SEARCHED,
    "re-mining": SEARCHED,
    "evaluation": EVALUATED,
    "evaluate": EVALUATED,
    "mine": SEARCHED,
    "filter": PAIRS,
}


def _write_folder(folder: Path, prompts: dict[str, str]) -> Path:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    modules = [Transformer(str(make_model(folder / "backbone")), max_seq_length=24), Pooling(32, "mean"), Normalize()]
    SentenceTransformer(modules=modules, device="cpu", prompts=prompts).save_pretrained(str(folder / "st"))
    return folder / "st"


def _write_data(folder: Path) -> None:
    write_jsonl(
        folder / "faq.jsonl",
        [{"query": QUERIES[i], "positive": POSITIVES[i], "negative": [NEGATIVES[i]]} for i in range(6)],
    )
    pairs = [{"text1": SENTENCES[i], "text2": SENTENCES[i + 4], "score": float(i)} for i in range(4)]
    intents = [{"text": INTENTS[i], "label": f"label{i % 2}"} for i in range(8)]
    for name in ("train", "test"):
        write_jsonl(folder / "sts" / f"{name}.jsonl", pairs)
        write_jsonl(folder / "intents" / f"{name}.jsonl", intents)
    write_jsonl(folder / "beir" / "corpus.jsonl", [{"_id": f"d{i}", "text": CORPUS[i]} for i in range(8)])
    write_jsonl(folder / "beir" / "queries.jsonl", [{"_id": f"q{i}", "text": QUERIES[i]} for i in range(6)])
    (folder / "beir" / "qrels").mkdir()
    (folder / "beir" / "qrels" / "test.tsv").write_text("".join(f"q{i}\td{i}\t1\n" for i in range(6)))
    base, guide = _write_folder(folder / "base", PROMPTS), _write_folder(folder / "guide", GUIDE_PROMPTS)
    (folder / "recipe.yaml").write_text(_RECIPE.format(base=base, guide=guide))


def _embed_everywhere(folder: str) -> dict[str, set[tuple[int, ...]]]:
    """Consumer → the token ids that it made, in one training run and the commands after it."""
    os.chdir(folder)
    leave_out_report()
    from harness import comm, trainer
    from harness.cli.evaluate import evaluate_model
    from harness.cli.filter import filter_data
    from harness.cli.mine import mine_bank
    from harness.config import load_recipe
    from harness.data.table.tokenisation import Tokeniser
    from harness.filtering.config import FilterConfig
    from harness.mining.guide import Guide
    from harness.mining.mine import MineSettings
    from harness.mining.remine import Reranking
    from harness.mining.upcoming import Upcoming
    from harness.run import run

    embedded: dict[str, set[tuple[int, ...]]] = {}
    consumer = threading.local()
    encode, pad_flat = Tokeniser.encode, Tokeniser.pad_flat

    def padded(self, tokens):
        """Training takes the ids that lie in the cache."""
        if getattr(consumer, "name", "") == "training":
            rows = np.split(tokens.ids_E, tokens.start_N[1:])
            embedded.setdefault("training", set()).update(tuple(row.tolist()) for row in rows)
        return pad_flat(self, tokens)

    def recorded(self, *arguments, **options):
        ids = encode(self, *arguments, **options)
        embedded.setdefault(getattr(consumer, "name", "other"), set()).update(map(tuple, ids))
        return ids

    def under(name, function):
        def call(*arguments, **options):
            before, consumer.name = getattr(consumer, "name", "other"), name
            try:
                return function(*arguments, **options)
            finally:
                consumer.name = before

        return call

    Tokeniser.encode, Tokeniser.pad_flat = recorded, padded
    comm.shutdown = lambda: None  # one process group for all
    comm.initialise = lambda *_: None
    for name, owner, function in (
        ("training", run, "token_batches"),
        ("guide", Guide, "mask"),
        ("look-ahead", Upcoming, "__call__"),
        ("re-mining", Reranking, "__call__"),
        ("evaluation", trainer, "evaluate"),
    ):
        setattr(owner, function, under(name, getattr(owner, function)))
    trainer.train(load_recipe("recipe.yaml"))
    under("evaluate", evaluate_model)("base/st", ["beir", "sts/test.jsonl", "intents"])
    settings = MineSettings(2, None, None, "exact", 100)
    under("mine", mine_bank)("base/st", "faq.jsonl", corpus=None, out=Path("bank"), settings=settings)
    config = FilterConfig(min_score=-1.0, duplicates="none")
    under("filter", filter_data)("base/st", "faq.jsonl", corpus=None, out=Path("filtered"), config=config)
    return embedded


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prompts")
    _write_data(folder)
    return folder


@pytest.fixture(scope="module")
def embedded(folder):
    return run_ranks(1, _embed_everywhere, str(folder))[0]


@pytest.fixture(scope="module")
def ids_in_sentence_transformers(folder):
    """(folder, prompt name, texts) → the token ids that sentence-transformers makes of the texts."""
    from sentence_transformers import SentenceTransformer

    models = {name: SentenceTransformer(str(folder / name / "st"), device="cpu") for name in ("base", "guide")}

    def ids(name: str, prompt_name: str, texts: list[str]) -> set[tuple[int, ...]]:
        model, seen = models[name], []
        hook = model[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        encode = {"query": model.encode_query, "document": model.encode_document}
        encode.get(prompt_name, partial(model.encode, prompt_name=prompt_name))(texts)
        hook.remove()
        rows = [zip(batch["input_ids"], batch["attention_mask"], strict=True) for batch in seen]
        return {tuple(row[mask.bool()].tolist()) for batch in rows for row, mask in batch}

    return ids


@pytest.mark.parametrize("consumer", EMBEDDED)
def test_every_consumer_puts_the_folders_prompt_before_the_same_text(embedded, ids_in_sentence_transformers, consumer):
    name = "guide" if consumer == "guide" else "base"
    right = {prompt: ids_in_sentence_transformers(name, prompt, texts) for prompt, texts in EMBEDDED[consumer].items()}
    assert embedded[consumer] <= set().union(*right.values())
    assert all(embedded[consumer] & ids for ids in right.values())


def test_the_export_stores_the_prompts_and_every_record_names_them(folder, embedded):
    stored = json.loads((folder / "run/model/config_sentence_transformers.json").read_text())["prompts"]
    assert {name: stored.get(name) for name in PROMPTS} == PROMPTS
    card = (folder / "run/model/README.md").read_text()
    assert all(f'| `{name}` | `"{prompt}"` |' in card for name, prompt in PROMPTS.items())
    pairs = {"query": "aral ", "document": "btin "}
    of_data = {"beir": pairs, "sts": {"sentence": "cmok "}, "intents": {"sentence": "dsul "}}
    rows = json.loads((folder / "run/evaluation.json").read_text())
    assert [(row["dataset"], row["prompts"]) for row in rows[:3]] == list(of_data.items())
    facts = json.loads((folder / "run/run.json").read_text())
    assert {fact["name"]: fact["prompts"] for fact in facts["evaluation_data"]} == of_data
    assert facts["data"][0]["prompts"] == pairs
    for bank in (folder / "bank", *(folder / "run/banks").glob("step-*/faq")):
        assert json.loads((bank / "bank.json").read_text())["ranked_by"]["prompts"] == pairs
