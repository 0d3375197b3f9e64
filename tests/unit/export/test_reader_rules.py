"""Single rules of the emulated readers, as the sources say that their docstrings name: a change of one file, what
becomes of the row, and words of its reason or note."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.export.readers import judge_folder
from tests.unit.encoder.attention.decoders import make_decoder
from tests.unit.encoder.models import change_json
from tests.unit.export.folders import exported

TEI, DENSE = "text-embeddings-inference", "2_Dense/config.json"
CONFIG, POOLING, TOKENIZER, LENGTH = (
    "config.json",
    "1_Pooling/config.json",
    "tokenizer.json",
    "sentence_bert_config.json",
)
PARAMETERS = {"rope_type": "default", "rope_theta": 5.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
BERT_TOKENS = {"type": "BertNormalizer", "lowercase": False}
NO_FLAGS = dict.fromkeys(["pooling_mode_cls_token", "pooling_mode_mean_tokens", "pooling_mode_lasttoken"], False)
GEMMA = {"layer_types": ["sliding_attention"] * 5 + ["full_attention"]}
NEW_POOLING = "sentence_transformers.sentence_transformer.modules.pooling.Pooling"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Exports without and with a projection, and of decoders that read both ways."""
    place = tmp_path_factory.mktemp("exports")
    made = {kind: exported(place / kind, kind)[0] for kind in ("bert", "qwen3", "modernbert")}
    made["projected"] = exported(place / "projected", "bert", projection_dim=20)[0]
    for name in ("qwen2", "qwen3", "llama", "mistral", "gemma3"):
        start = make_decoder(place / f"{name} start", name)
        settings: dict[str, Any] = {"pooling": "mean", "attention_mask": "bidirectional", "max_length": 8}
        made[f"both {name}"] = exported(place / f"both {name}", "qwen3", name_or_path=str(start), **settings)[0]
    return made


def judged(folder: Path, reader: str) -> tuple[str, str]:
    """What the reader does, and its reasons and notes in one text."""
    [verdict] = judge_folder(folder, [reader])
    return verdict.reads, "\n".join((*verdict.reasons, *verdict.notes))


RULES: dict[str, tuple[str, str, dict[str, Any], str, str, str]] = {
    # text-embeddings-inference
    "flags that it does not read may be absent": (
        "bert", POOLING, {"pooling_mode_max_tokens": None}, TEI, "rightly", "",
    ),
    "a classifier's architecture": (
        "bert", CONFIG, {"architectures": ["BertForSequenceClassification"]}, TEI, "not", "served as one",
    ),
    "a field that its BERT must have": (
        "bert", CONFIG, {"pad_token_id": None}, TEI, "not", "missing field pad_token_id",
    ),
    "a field that its ModernBERT must have": (
        "modernbert", CONFIG, {"cls_token_id": None}, TEI, "not", "missing field cls_token_id",
    ),
    "several end tokens": ("qwen3", CONFIG, {"eos_token_id": [3, 4]}, TEI, "not", "eos_token_id is no number"),
    "a model type that is none of its own": (
        "bert", CONFIG, {"model_type": "jina_bert"}, TEI, "not", "model type jina_bert is none of its own",
    ),
    "the base in rope_parameters is enough, but not for 1.8": (
        "qwen3", CONFIG, {"rope_theta": None}, TEI, "rightly", "1.8 does not start",
    ),
    "no base at all": (
        "qwen3", CONFIG, {"rope_theta": None, "rope_parameters": None}, TEI, "not", "neither rope_theta nor",
    ),
    "rope_parameters of two kinds of layers": (
        "both gemma3", CONFIG, {"rope_parameters": {"full_attention": PARAMETERS}}, TEI, "not", "field rope_theta",
    ),
    "stretched positions": (
        "qwen3", CONFIG, {"rope_parameters": {**YARN, "rope_theta": 5.0}}, TEI, "wrongly", "rope_scaling is not read",
    ),
    "longer texts than a batch may hold": (
        "bert", LENGTH, {"max_seq_length": 32768}, TEI, "wrongly", "cuts texts to 16384 tokens",
    ),
    "both ways by is_causal alone": (
        "both qwen3", CONFIG, {"use_bidirectional_attention": None}, TEI, "wrongly", "does not see those after it",
    ),
    "Qwen2 reads is_causal": ("both qwen2", CONFIG, {}, TEI, "rightly", "1.8 reads every qwen2 as bidirectional"),
    "every Gemma 3 is bidirectional": (
        "both gemma3", CONFIG, {"use_bidirectional_attention": False}, TEI, "wrongly", "every gemma3_text",
    ),
    # vLLM
    "do_lower_case is no longer asked for": ("bert", LENGTH, {"do_lower_case": None}, "vllm", "rightly", ""),
    "do_lower_case was asked for": (
        "bert", LENGTH, {"do_lower_case": None}, "vllm-old", "wrongly", "has no do_lower_case",
    ),
    "no activation": (
        "projected", DENSE, {"activation_function": None}, "vllm", "wrongly", "takes no activation, not Tanh",
    ),
    "no activation in a server in Rust": (
        "projected", DENSE, {"activation_function": None}, TEI, "wrongly", "takes no activation, not Tanh",
    ),
    "a residual": ("projected", DENSE, {"use_residual": True}, "vllm", "wrongly", "use_residual is not read"),
    "an activation needs its whole name": (
        "projected", DENSE, {"activation_function": "torch.nn.Tanh"}, "vllm", "wrongly", "activation torch.nn.tanh",
    ),
    "is_causal of a decoder that does not ask": (
        "both qwen3", CONFIG, {"model_type": "gemma2"}, "vllm", "wrongly", "is_causal: false is not read for gemma2",
    ),
    "the last flag that it has wins": (
        "bert", POOLING, {"pooling_mode_cls_token": True}, "vllm-old", "wrongly", "takes the pooling mean",
    ),
    "but the first in 0.11": (
        "bert", POOLING, {"pooling_mode_cls_token": True}, "vllm-old", "wrongly", "0.11 takes the pooling cls",
    ),
    # llama.cpp
    "the new name of a pooling": (
        "bert", POOLING, {**NO_FLAGS, "pooling_mode": "mean"}, "llama.cpp", "rightly", "",
    ),
    "an architecture that it does not know": (
        "both qwen3", CONFIG, {"architectures": ["MistralModel"]}, "llama.cpp", "not", "MistralModel is not supported",
    ),
    "an architecture without a pooling": (
        "both qwen3", CONFIG, {"architectures": ["LlamaModel"]}, "llama.cpp", "wrongly", "writes no pooling type",
    ),
    "is_causal is kept": ("both qwen3", CONFIG, {}, "llama.cpp", "rightly", "is_causal: false is kept"),
    "a tokenizer that says nothing of lower-casing": (
        "bert", TOKENIZER, {"normalizer": None}, "llama.cpp", "wrongly", "texts are lower-cased",
    ),
    "a tokenizer that keeps capitals": (
        "bert", TOKENIZER, {"normalizer": BERT_TOKENS}, "llama.cpp", "rightly", "from before 2026-06 lower-cases",
    ),
    "a tokenizer that strips accents": ("bert", TOKENIZER, {}, "llama.cpp", "rightly", "of a Korean syllable only"),
    "another activation than gelu": (
        "bert", CONFIG, {"hidden_act": "relu"}, "llama.cpp", "wrongly", "hidden_act: relu is not read",
    ),
    "a form of gelu": ("bert", CONFIG, {"hidden_act": "gelu_new"}, "llama.cpp", "rightly", ""),
    "the small number of ModernBERT's norms": (
        "modernbert", CONFIG, {"layer_norm_eps": None}, "llama.cpp", "not", "no layer_norm_eps",
    ),
    "ModernBERT as it is exported": ("modernbert", CONFIG, {}, "llama.cpp", "rightly", ""),
    "layers of Gemma 3 in another order": (
        "both gemma3", CONFIG, {"layer_types": ["full_attention"] * 6}, "llama.cpp", "wrongly", "is not read",
    ),
    "layers of Gemma 3 in its own order": (
        "both gemma3", CONFIG, GEMMA, "llama.cpp",
        "rightly", "",
    ),
    "fewer layers than Gemma 3 has before one that sees all": (
        "both gemma3", CONFIG, {}, "llama.cpp", "not", "fewer than six layers",
    ),
    "Gemma 3 without its pieces": (
        "both gemma3", TOKENIZER, {"model": {"type": "BPE", "byte_fallback": True}}, "llama.cpp", "not",
        "no tokenizer.model",
    ),
    "Llama 2 without its pieces": (
        "both llama", TOKENIZER, {"model": {"type": "BPE", "byte_fallback": True}}, "llama.cpp", "wrongly",
        "pieces are joined in another order",
    ),
    "a tokenizer that composes accents": (
        "qwen3", TOKENIZER, {"model": {"type": "BPE"}, "normalizer": {"type": "NFC"}}, "llama.cpp", "rightly",
        "does not compose accents",
    ),
    "every Gemma 3 is bidirectional there, too": (
        "both gemma3", CONFIG, GEMMA | {"use_bidirectional_attention": False}, "llama.cpp", "wrongly",
        "every Gemma3TextModel",
    ),
    "the bias of Gemma 3's projection": (
        "projected", CONFIG, {"model_type": "gemma3_text"}, "llama.cpp", "wrongly", "the projection's bias is dropped",
    ),
    # transformers 4
    "a Gemma that reads both ways before 4.56": (
        "both gemma3", CONFIG, {}, "sentence-transformers-3", "wrongly", "use_bidirectional_attention is not read",
    ),
    "a class that begins texts by itself": (
        "bert", "tokenizer_config.json", {"tokenizer_class": "LlamaTokenizer"}, "transformers-4", "wrongly",
        "LlamaTokenizer lets texts end with no special token (add_eos_token), against tokenizer.json",
    ),
    "a class that is told to": (
        "bert", "tokenizer_config.json", {"tokenizer_class": "LlamaTokenizer", "add_eos_token": True}, "transformers-4",
        "rightly", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
def test_a_reader_does_what_its_source_says(folders, tmp_path, rule):
    kind, file, changes, reader, reads, words = RULES[rule]
    copy = shutil.copytree(folders[kind], tmp_path / "copy")
    content = {**json.loads((copy / file).read_text()), **changes}
    kept = {key: value for key, value in content.items() if value is not None or key not in changes}
    (copy / file).write_text(json.dumps(kept))
    found, said = judged(copy, reader)
    assert (found, words in said) == (reads, True), said


def test_without_a_pooling_known_to_it_vllm_always_gives_vectors_of_length_1(folders, tmp_path):
    """Not the names of modules.json decide then, but what the pooler does by default."""
    copy = shutil.copytree(folders["bert"], tmp_path / "copy")
    modules = json.loads((copy / "modules.json").read_text())
    modules[1]["type"] = NEW_POOLING
    (copy / "modules.json").write_text(json.dumps(modules[:2]))
    change_json(copy / POOLING, pooling_mode_cls_token=True, pooling_mode_mean_tokens=False)
    assert "does not know Pooling" in judged(copy, "vllm-old")[1]
    (copy / "modules.json").write_text(json.dumps(modules))
    assert "length 1" not in judged(copy, "vllm-old")[1]


def test_a_bert_without_a_pooling_file_is_pooled_by_its_first_token(folders, tmp_path):
    copy = shutil.copytree(folders["bert"], tmp_path / "copy")
    shutil.move(copy / "1_Pooling", copy / "pooling")
    modules = json.loads((copy / "modules.json").read_text())
    modules[1]["path"] = "pooling"
    (copy / "modules.json").write_text(json.dumps(modules))
    assert judged(copy, TEI)[0] == "wrongly"
    assert "takes the pooling cls" in judged(copy, TEI)[1]


def test_several_blanks_are_one_in_llama_cpp_where_an_export_says_so(folders, tmp_path):
    """Its converter reads that of XLM-R's tokenizers from a setting that is about something else."""
    copy = shutil.copytree(folders["bert"], tmp_path / "copy")
    pieces = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, {"type": "Metaspace"}]}
    change_json(copy / TOKENIZER, model={"type": "Unigram"}, pre_tokenizer=pieces)
    change_json(copy / CONFIG, model_type="xlm-roberta", architectures=["XLMRobertaModel"])
    assert "several blanks are one" in judged(copy, "llama.cpp")[1]
    change_json(copy / "tokenizer_config.json", clean_up_tokenization_spaces=True)
    assert judged(copy, "llama.cpp")[0] == "rightly"


@pytest.mark.parametrize("name", ["qwen3", "llama", "mistral", "qwen2", "gemma3"])
def test_servers_read_a_bidirectional_export_both_ways(folders, name):
    """One key each: is_causal for vLLM and Qwen2, use_bidirectional_attention for the others, and one base of positions
    in place of Gemma 3's two entries."""
    for reader in (TEI, "vllm"):
        assert judged(folders[f"both {name}"], reader)[0] == "rightly"
