"""A randomly initialised BERT and random texts, for shapes and lengths that no model or data at hand has."""

from __future__ import annotations

import json
import random
from pathlib import Path

SHAPES = {  # layers, hidden, heads, intermediate
    "bert_base": (12, 768, 12, 3072),
    "bert_large": (24, 1024, 16, 4096),
}


def write_model(folder: Path, shape: str, max_length: int) -> Path:
    """Write a model folder with random weights; its tokenizer is that of the demo model."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    from harness.model_folder.find import resolve_model

    layers, hidden, heads, intermediate = SHAPES[shape]
    tokenizer = AutoTokenizer.from_pretrained(resolve_model("demo-minilm"))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=intermediate,
        max_position_embeddings=max(512, max_length),
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_pairs(file: Path, count: int, max_length: int) -> None:
    """Write pairs of random words. Lengths are even from a quarter of `max_length` to all of it, in tokens."""
    from transformers import AutoTokenizer

    from harness.model_folder.find import resolve_model

    tokenizer = AutoTokenizer.from_pretrained(resolve_model("demo-minilm"))
    words = sorted(word for word in tokenizer.get_vocab() if word.isascii() and word.isalpha() and len(word) > 2)
    generator = random.Random(0)

    def text() -> str:
        return " ".join(generator.choices(words, k=generator.randint(max_length // 4, max_length)))

    with file.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps({"query": text(), "positive": text()}) + "\n" for _ in range(count))
