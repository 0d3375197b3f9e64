"""Helpers that load a tiny model as an encoder, embed a few texts with it, and export it."""

from __future__ import annotations

import json

import torch

from harness.data.table.tokenisation import Tokeniser
from harness.encoder.config import ModelConfig
from harness.encoder.load import load_encoder
from harness.export.sentence_transformers_folder import write_model
from harness.prompts import ModelPrompts
from tests.tiny import text

TEXTS = [text(i, 2 + 3 * i) for i in range(5)]


def config(folder, **settings):
    return ModelConfig(name_or_path=str(folder), **{"max_length": 24, **settings})


def embed(encoder, folder, texts=TEXTS):
    tokeniser = Tokeniser(str(folder))
    batch = tokeniser.pad(tokeniser.encode(texts, 24))
    with torch.no_grad():
        return encoder.eval()(batch.input_ids_BL, batch.attention_mask_BL).numpy()


def export(folder, out, **settings):
    encoder = load_encoder(config(folder, **settings))
    tokenizer = Tokeniser(str(folder)).tokenizer
    write_model(
        out, encoder, encoder.state_dict(), tokenizer, config(folder, **settings), prompts=ModelPrompts(), card="card"
    )
    return encoder


def change_json(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
