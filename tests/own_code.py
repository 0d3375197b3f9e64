"""Writes a tiny model that comes with code of its own, in two modules beside its weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

_CONFIGURATION = """
from transformers import PretrainedConfig


class TinyConfig(PretrainedConfig):
    model_type = "{kind}"

    def __init__(self, vocab_size=99, hidden_size=16, max_position_embeddings=64, pad_token_id=0, **others):
        self.vocab_size, self.hidden_size = vocab_size, hidden_size
        self.max_position_embeddings = max_position_embeddings
        super().__init__(pad_token_id=pad_token_id, **others)
"""
_MODEL = """
import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from .configuration_{kind} import TinyConfig


class TinyModel(PreTrainedModel):
    config_class = TinyConfig

    def __init__(self, config):
        super().__init__(config)
        self.words = nn.Embedding(config.vocab_size, config.hidden_size)
        self.mix = nn.Linear(config.hidden_size, config.hidden_size)
        {more}
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None, **others):
        return BaseModelOutput(last_hidden_state=torch.tanh(self.mix(self.words(input_ids))))
"""


def make_own_code(folder: Path, tokenizer_of: Path, kind: str, more: str = "pass") -> Path:
    """A model of type `kind` with the tokenizer of the model folder `tokenizer_of`. more: a line of its `__init__`.

    `kind` must differ between tests, because transformers keeps the classes of a process by their names.
    """
    folder.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer_of / name, folder)
    vocabulary = len(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"])
    (folder / f"configuration_{kind}.py").write_text(_CONFIGURATION.format(kind=kind))
    (folder / f"modeling_{kind}.py").write_text(_MODEL.format(kind=kind, more=more))
    torch.manual_seed(0)
    weights = {
        "words.weight": torch.randn(vocabulary, 16),
        "mix.weight": torch.randn(16, 16),
        "mix.bias": torch.zeros(16),
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    settings = {
        "architectures": ["TinyModel"],
        "hidden_size": 16,
        "max_position_embeddings": 64,
        "model_type": kind,
        "vocab_size": vocabulary,
        "auto_map": {
            "AutoConfig": f"configuration_{kind}.TinyConfig",
            "AutoModel": f"modeling_{kind}.TinyModel",
        },
    }
    (folder / "config.json").write_text(json.dumps(settings))
    return folder
