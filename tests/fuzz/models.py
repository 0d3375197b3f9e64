"""Model folders: their JSON files and the header of their weights, changed and damaged."""

from __future__ import annotations

import json
import random
import shutil
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from harness.encoder.stored_prompts import missing_prompts, prompts_of_folder
from harness.model_folder.configuration import backbone_config, default_pooling, positions_of_tokens
from harness.model_folder.layout import read_layout
from harness.model_folder.preflight import Preflight
from harness.model_folder.weight_files import check_weights
from tests.fuzz.judgement import Find, judge
from tests.fuzz.target import Target
from tests.fuzz.values import as_json, changed_tree, changes_of, damaged, seeds

_FILES: dict[str, Any] = {
    "modules.json": [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"},
        {"idx": 3, "name": "3", "path": "3_Normalize", "type": "sentence_transformers.models.Normalize"},
    ],
    "1_Pooling/config.json": {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True, "include_prompt": True},
    "2_Dense/config.json": {
        "in_features": 32, "out_features": 8, "bias": True, "activation_function": "torch.nn.modules.activation.Tanh",
    },
    "config_sentence_transformers.json": {
        "prompts": {"query": "q: ", "document": ""}, "default_prompt_name": None, "similarity_fn_name": "cosine",
    },
    "sentence_bert_config.json": {"max_seq_length": 24, "do_lower_case": False},
    "tokenizer_config.json": {"model_max_length": 64},
    "config.json": {
        "model_type": "bert", "architectures": ["BertModel"], "hidden_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 4,
        "intermediate_size": 64, "max_position_embeddings": 64, "vocab_size": 90, "hidden_dropout_prob": 0.1,
    "pad_token_id": 0,
    },
}  # fmt: skip
_WORDS = (
    "sentence_transformers.models.Dense", "sentence_transformers.models.WordEmbeddings", "Pooling", "../x", "/x",
    "cls", "mean",
    "pooling_mode", "max", "lasttoken", "model_args", "tokenizer_args", "truncate_dim", "auto_map", "bert",
    "roberta", "qwen3",
    "t5", "quantization_config", "torch.nn.Identity", "os.system", "weight_map", "max_seq_length", "rope_scaling",
    "text_config",
    "max_position_embeddings", "model_max_length",
)  # fmt: skip


@cache
def _whole(folder: Path) -> Path:
    """A model folder with a file of weights of its own, as `_FILES` says."""
    import torch
    from safetensors.torch import save_file

    model = folder / "model"
    for name, content in _FILES.items():
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_text(json.dumps(content))
    save_file(
        {"linear.weight": torch.zeros(8, 32), "linear.bias": torch.zeros(8)}, model / "2_Dense" / "model.safetensors"
    )
    save_file({"embeddings.weight": torch.zeros(4, 2)}, model / "model.safetensors")
    return model


def _attempt_files(drawn: Any, folder: Path) -> Find | str:
    (name, changes), seed, removed = drawn
    model = _whole(folder)
    content = damaged(as_json(changed_tree(_FILES[name], changes), seed).encode("utf-8", "surrogatepass"), seed)
    (model / name).write_bytes(content)
    if removed is not None:
        (model / removed).unlink(missing_ok=True)

    def read() -> None:
        read_layout(model)
        prompts_of_folder(str(model))
        missing_prompts(str(model))
        if name == "config.json":
            config = backbone_config(str(model), False)
            positions_of_tokens(config)
            default_pooling(config)

    found = judge(read)
    for changed in {name, *([removed] if removed else [])}:
        (model / changed).write_text(json.dumps(_FILES[changed]))
    return found


def _attempt_weights(drawn: Any, folder: Path) -> Find | str:
    model, (index, seed, changes) = _whole(folder), drawn
    place = folder / "weights"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    weights = (model / "model.safetensors").read_bytes()
    if index:
        tree = {"metadata": {}, "weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
        text = as_json(changed_tree(tree, changes), seed).encode("utf-8", "surrogatepass")
        (place / "model.safetensors.index.json").write_bytes(damaged(text, seed))
        (place / "one.safetensors").write_bytes(weights)
        (place / "two.safetensors").write_bytes(damaged(weights, seed >> 1))
    else:
        header = json.loads(weights[8 : 8 + int.from_bytes(weights[:8], "little")])
        text = as_json(changed_tree(header, changes), seed).encode("utf-8", "surrogatepass")
        size = len(text) if random.Random(seed).random() < 0.9 else seed
        (place / "model.safetensors").write_bytes(damaged(size.to_bytes(8, "little") + text + weights[-32:], seed))
    return judge(lambda: check_weights(place))


@cache
def _tiny(folder: Path) -> tuple[Path, dict[str, bytes]]:
    from tests.tiny import make_model

    model = make_model(folder / "tiny")
    return model, {file.name: file.read_bytes() for file in model.glob("*.json")}


def _attempt_preflight(drawn: Any, folder: Path) -> Find | str:
    (_, changes), seed, _ = drawn
    model, files = _tiny(folder)
    name = sorted(files)[seed % len(files)]
    tree = changed_tree(json.loads(files[name]), changes)
    (model / name).write_bytes(damaged(as_json(tree, seed).encode("utf-8", "surrogatepass"), seed))
    found = judge(lambda: Preflight(str(model), longest_text=24, largest_dim=32).check())
    (model / name).write_bytes(files[name])
    return found


_file = st.tuples(st.sampled_from(sorted(_FILES)), changes_of(_WORDS))
_files = st.tuples(_file, seeds, st.one_of(st.none(), st.none(), st.none(), st.sampled_from(sorted(_FILES))))
TARGETS = (
    Target("models: configuration", _files, _attempt_files, 1.5),
    Target("models: weights", st.tuples(st.booleans(), seeds, changes_of(_WORDS)), _attempt_weights, 1.0),
    Target("models: all checks", _files, _attempt_preflight, 0.1),
)
