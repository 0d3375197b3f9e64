"""The exported files have the names and values that older and other readers look for."""

from __future__ import annotations

import json

import pytest
from sentence_transformers import SentenceTransformer

from harness.encoder.load import config_of_folder
from harness.export.read_by_all import joins_blanks, pooling_settings, rope_of_transformers_4
from harness.export.sentence_transformers_folder import verify_model
from harness.model_folder.layout import read_layout
from harness.prompts import ModelPrompts
from harness.prompts.names_of_others import with_names_of_others
from tests.unit.encoder.models import TEXTS, change_json, config
from tests.unit.export.folders import BACKBONES, PROMPTS, exported, start

BOTH = {"full_attention": {"rope_theta": 5.0}, "sliding_attention": {"rope_theta": 2.0}}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}


@pytest.mark.parametrize("kind", BACKBONES)
def test_a_folder_in_the_old_layout_gives_the_trained_embeddings(tmp_path, kind):
    out, embedding_BD = exported(tmp_path, kind, projection_dim=20)
    assert verify_model(out, TEXTS, embedding_BD, config(tmp_path / "start")) < 1e-5


def test_the_settings_of_the_model_stand_where_readers_look(tmp_path):
    out, _ = exported(tmp_path, "bert", matryoshka_dims=(8, 32))
    files = {name: json.loads((out / name).read_text()) for name in ("config.json", "sentence_bert_config.json")}
    assert files["config.json"]["matryoshka_dimensions"] == [8, 32]
    assert files["config.json"]["is_matryoshka"] is True
    assert files["sentence_bert_config.json"] == {"max_seq_length": 24, "do_lower_case": False}
    model = SentenceTransformer(str(out), device="cpu")
    assert (model.similarity_fn_name, model.prompts) == ("cosine", {"document": "", **PROMPTS.named})
    assert list(json.loads((out / "1_Pooling" / "config.json").read_text()))[-1] == "include_prompt"


def test_a_model_that_is_not_trained_for_several_sizes_does_not_say_so(tmp_path):
    """A model that starts from one that is: config.json keeps keys that transformers does not know."""
    first, _ = exported(tmp_path / "a", "bert", matryoshka_dims=(8, 32))
    again, _ = exported(tmp_path / "b", "bert", name_or_path=str(first))
    assert not {"is_matryoshka", "matryoshka_dimensions"} & json.loads((again / "config.json").read_text()).keys()


def test_an_export_has_what_llama_cpp_and_fastembed_look_for(tmp_path):
    """A norm's small number by its older name, one length, the pieces of a tokenizer, and what becomes of blanks."""
    first = start(tmp_path / "start", "modernbert")
    change_json(first / "tokenizer_config.json", max_length=7, vocab_file="/somewhere/tokenizer.model")
    (first / "tokenizer.model").write_bytes(b"pieces")
    out, _ = exported(tmp_path, "modernbert", name_or_path=str(first))
    settings, tokenizer = (json.loads((out / name).read_text()) for name in ("config.json", "tokenizer_config.json"))
    assert settings["layer_norm_eps"] == settings["norm_eps"]
    assert tokenizer["max_length"] == 24
    assert not {"vocab_file", "clean_up_tokenization_spaces"} & tokenizer.keys()
    assert (out / "tokenizer.model").read_bytes() == b"pieces"


def test_a_unigram_tokenizer_that_splits_at_blanks_joins_several():
    blanks = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, {"type": "Metaspace"}]}
    assert joins_blanks({"model": {"type": "Unigram"}, "pre_tokenizer": blanks})
    assert not joins_blanks({"model": {"type": "Unigram"}, "pre_tokenizer": {"type": "Metaspace"}})
    assert not joins_blanks({"model": {"type": "WordPiece"}, "pre_tokenizer": None})


def test_flags_have_no_order_so_that_another_order_is_a_list():
    assert pooling_settings(["cls", "mean"], 32, True)["pooling_mode_cls_token"] is True
    assert pooling_settings(["mean", "cls"], 32, True)["pooling_mode"] == ["mean", "cls"]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"model_type": "bert"}, {}),
        ({"model_type": "qwen3", "rope_parameters": {"rope_type": "default", "rope_theta": 5.0}}, {"rope_theta": 5.0}),
        (
            {"model_type": "qwen2", "rope_parameters": {**YARN, "rope_theta": 5.0}},
            {"rope_theta": 5.0, "rope_scaling": YARN},
        ),
        (
            {"model_type": "gpt_neox", "rope_parameters": {"rope_theta": 5.0, "partial_rotary_factor": 0.5}},
            {"rotary_emb_base": 5.0, "rotary_pct": 0.5},
        ),
        (
            {"model_type": "modernbert", "rope_parameters": BOTH},
            {"global_rope_theta": 5.0, "local_rope_theta": 2.0},
        ),
        (
            {"model_type": "gemma3_text", "rope_parameters": BOTH},
            {"rope_theta": 5.0, "rope_local_base_freq": 2.0},
        ),
    ],
)  # fmt: skip
def test_rotary_positions_have_the_names_of_transformers_4(config, expected):
    assert rope_of_transformers_4(config) == expected


@pytest.mark.parametrize(
    "prompts",
    [
        ModelPrompts({"query": "q: ", "passage": "p: "}),
        ModelPrompts({"sentence": "s: ", "STS": "t: "}),
        ModelPrompts({"query": "q: ", "Classification": "c: "}, "query"),
        ModelPrompts({"corpus": "p: ", "document": ""}),
        ModelPrompts(),
    ],
)
def test_every_kind_of_data_gets_the_same_prompt_from_the_exported_folder(tmp_path, prompts):
    """And mteb and sentence-transformers find it by names that they know."""
    kinds = ("retrieval", "reranking", "sts", "pair_classification", "classification", "clustering", None)
    written = with_names_of_others(prompts)
    assert [written.of_kind(kind) for kind in kinds] == [prompts.of_kind(kind) for kind in kinds]
    out, _ = exported(tmp_path, "bert", prompts=prompts)
    layout = read_layout(out)
    again = ModelPrompts.of_folder(layout.prompts, layout.default_prompt_name, "x")
    assert [again.of_kind(kind) for kind in kinds] == [prompts.of_kind(kind) for kind in kinds]
    assert config_of_folder(str(out)).max_length == 24


def test_mteb_takes_the_prompts_of_an_export():
    """None is dropped, and each kind of task gets the one that training put before its texts."""
    from mteb.models.abs_encoder import AbsEncoder

    written = with_names_of_others(ModelPrompts({"query": "q: ", "passage": "p: ", "sentence": "s: "})).named
    taken, _ = AbsEncoder.validate_task_to_prompt_name(dict(written), raise_for_invalid_keys=False)
    assert taken == {"query": "q: ", "document": "p: "} | dict.fromkeys(
        ("STS", "PairClassification", "Classification", "Clustering"), "s: "
    )
