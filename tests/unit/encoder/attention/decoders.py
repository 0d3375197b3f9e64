"""Tiny decoders as Hugging Face folders, made from nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from tokenizers import Tokenizer, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from torch import nn
from transformers import (
    Gemma3TextConfig,
    Gemma3TextModel,
    Lfm2Config,
    Lfm2Model,
    LlamaConfig,
    LlamaModel,
    MambaConfig,
    MambaModel,
    MistralConfig,
    MistralModel,
    PreTrainedModel,
    Qwen2Config,
    Qwen2Model,
    Qwen3Config,
    Qwen3ForCausalLM,
    StableLmConfig,
    StableLmModel,
)

from tests.tiny import WORDS, make_model
from tests.unit.encoder.models import change_json

SIZES = {
    "vocab_size": 120, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 64, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3,
}  # fmt: skip


def backbone(name: str) -> PreTrainedModel:
    torch.manual_seed(0)
    makers = {
        "qwen2": lambda: Qwen2Model(Qwen2Config(**SIZES)),
        "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=8)),
        "llama": lambda: LlamaModel(LlamaConfig(**SIZES)),
        "mistral": lambda: MistralModel(MistralConfig(**SIZES, sliding_window=16)),
        "gemma3": lambda: Gemma3TextModel(
            Gemma3TextConfig(
                **SIZES, head_dim=8, sliding_window=16, layer_types=["sliding_attention", "full_attention"]
            )
        ),
        "stablelm": lambda: StableLmModel(StableLmConfig(**SIZES)),
        "lfm2": lambda: Lfm2Model(Lfm2Config(**SIZES, layer_types=["conv", "full_attention"])),
        "mamba": lambda: MambaModel(MambaConfig(vocab_size=120, hidden_size=32, num_hidden_layers=2, pad_token_id=0)),
    }
    return makers[name]()


def make_decoder(folder: Path, name: str = "qwen3", end: str | None = None) -> Path:
    """A decoder with the word tokenizer of `make_model`, which adds nothing to a text but `end`, if it is given."""
    words = make_model(folder / "words")
    model = backbone(name)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(words / file, folder / file)
    shutil.rmtree(folder / "words")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)  # as Qwen's, which adds no token
    if end is not None:
        template = processors.TemplateProcessing(single=f"$A {end}", special_tokens=[(end, tokenizer.token_to_id(end))])
        tokenizer.post_processor = template
    tokenizer.save(str(folder / "tokenizer.json"))
    change_json(
        folder / "tokenizer_config.json",
        model_input_names=["input_ids", "attention_mask"],
        eos_token="[SEP]",
        bos_token=None,
        cls_token=None,
        sep_token=None,
        mask_token=None,
    )
    return folder


def make_llama(folder: Path) -> Path:
    """A Llama with a tokenizer of its class, which puts `<s>` before a text and nothing behind it."""
    make_decoder(folder, "llama")
    tokenizer = Tokenizer(BPE(unk_token="<unk>", fuse_unk=True))
    trainer = BpeTrainer(vocab_size=110, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False)
    tokenizer.train_from_iterator([f"▁{word}" for word in WORDS], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    settings |= {"add_bos_token": True, "add_eos_token": False, "model_max_length": 64}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder
