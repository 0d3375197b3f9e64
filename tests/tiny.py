"""Write a tiny model folder and tiny data files, on which integration tests train."""

from __future__ import annotations

import json
import string
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

WORDS = [f"{a}{b}" for a in "abcdefgh" for b in ("ral", "tin", "mok", "sul", "ven", "dip")]


def make_model(folder: Path, dropout: float = 0.1) -> Path:
    """A BERT of 2 layers and 32 dimensions with a word tokenizer, as a Hugging Face folder."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*special, *WORDS, *string.ascii_lowercase, *string.digits, *(f"##{c}" for c in string.ascii_lowercase)]
    tokenizer = Tokenizer(WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    BertModel(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def make_cross_encoder(folder: Path, model: Path, num_labels: int = 1) -> Path:
    """A cross-encoder with the tokenizer of the folder `model`."""
    # With the usual initialisation the scores of all pairs agree in three digits.
    config = BertConfig.from_pretrained(model, num_labels=num_labels, initializer_range=0.5)
    torch.manual_seed(1)
    ranker = BertForSequenceClassification(config)
    ranker.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save_pretrained(folder)
    return folder


def text(seed: int, words: int = 6) -> str:
    """A text of `words` words that depends on the seed only."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(WORDS), (words,), generator=generator).tolist()
    return " ".join(WORDS[i] for i in chosen)


def write_jsonl(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def make_data(folder: Path) -> Path:
    """Write training files and evaluation sets of retrieval, STS and classification."""
    retrieval = [
        {
            "query": text(i, 3 + i % 5),
            "positive": [text(1000 + i, 4 + i % 9), text(2000 + i, 5)][: 1 + i % 2],
            "negative": [text(3000 + (i * 7 + j) % 50, 6) for j in range(i % 4)],
        }
        for i in range(40)
    ]
    write_jsonl(folder / "retrieval.jsonl", retrieval)
    sts = [{"text1": text(i, 5), "text2": text(i + i % 3, 5), "score": float(i % 6)} for i in range(30)]
    write_jsonl(folder / "sts" / "train.jsonl", sts)
    write_jsonl(folder / "sts" / "test.jsonl", sts[:12])
    intents = [{"text": text(5000 + i, 5), "label": f"label{i % 4}"} for i in range(32)]
    write_jsonl(folder / "intents" / "train.jsonl", intents)
    write_jsonl(folder / "intents" / "test.jsonl", intents[:16])
    beir = folder / "faq"
    write_jsonl(beir / "corpus.jsonl", [{"_id": f"d{i}", "title": "", "text": text(1000 + i, 8)} for i in range(20)])
    write_jsonl(beir / "queries.jsonl", [{"_id": f"q{i}", "text": text(i, 4)} for i in range(10)])
    (beir / "qrels").mkdir()
    lines = ["query-id\tcorpus-id\tscore"] + [f"q{i}\td{i}\t1" for i in range(10)]
    (beir / "qrels" / "test.tsv").write_text("\n".join(lines) + "\n")
    return folder


def make_recipe(folder: Path, **changes: object) -> Path:
    """Write a recipe for the model of `make_model` and the data of `make_data` in `folder`. changes: dotted keys."""
    lines = f"""
name: tiny
model: {{name_or_path: {folder / "model"}, pooling: mean, matryoshka_dims: [8, 32], max_length: 24}}
tasks:
  - {{name: faq, kind: retrieval, path: retrieval.jsonl, quota: 8, negatives: {{scope: task, per_query: 2}}}}
  - {{name: similar, kind: sts, path: sts/train.jsonl, quota: 6}}
  - {{name: intents, kind: classification, path: intents/train.jsonl, quota: 4,
      negatives: {{scope: own, per_query: 3}}}}
training: {{steps: 6, learning_rate: 1.0e-3, micro_batch_tokens: 128}}
deepspeed: zero1
evaluation: {{every: 3, data: [faq, sts/test.jsonl, intents]}}
checkpoint: {{every: 2, keep: 2}}
data: {{cache: {folder / "cache"}}}
output: {folder / "run"}
"""
    path = folder / "tiny.yaml"
    path.write_text(lines)
    return path
