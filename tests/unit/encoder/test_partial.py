"""Training a part of a model: which weights LoRA, DoRA and freezing leave to train, and which adapters are read."""

from __future__ import annotations

import json
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from harness.encoder.encoder import Encoder, fingerprint
from harness.encoder.load import load_encoder
from harness.encoder.partial.adapter import without_new_adapter
from harness.encoder.partial.config import FreezeSettings
from harness.encoder.partial.depth import depths, freeze
from harness.encoder.partial.targets import target_names
from tests.golden_encoders import tiny_backbone, tiny_encoder
from tests.tiny import make_model
from tests.unit.encoder.models import change_json, config, embed

LORA = {"rank": 4, "target_modules": ["query", "output.dense"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


def trained(encoder):
    return {name for name, weight in encoder.named_parameters() if weight.requires_grad}


def peft_adapter(folder, out, **settings):
    """An adapter that peft itself has made, with random weights; returns its token states' mean of TEXTS."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    arguments = {"r": 4, "target_modules": ["query", "dense"], "init_lora_weights": False, **settings}
    model = get_peft_model(AutoModel.from_pretrained(folder), LoraConfig(**arguments)).eval()
    model.save_pretrained(out)
    return embed(Encoder(model, ("mean",)), folder)


@pytest.mark.parametrize("dora", [False, True])
def test_a_new_adapter_changes_nothing_and_is_all_that_is_trained_beside_the_head(folder, dora):
    encoder = load_encoder(config(folder, projection_dim=8, lora={**LORA, "dora": dora}), seed=1)
    plain = load_encoder(config(folder, projection_dim=8), seed=1)
    assert torch.equal(torch.tensor(embed(encoder, folder)), torch.tensor(embed(plain, folder)))
    names = trained(encoder)
    assert {name.split(".lora_")[-1] for name in names if ".lora_" in name} == {
        "A.default.weight", "B.default.weight", *(["magnitude_vector.default.weight"] if dora else [])
    }  # fmt: skip
    assert names - {name for name in names if ".lora_" in name} == {"head.0.linear.weight", "head.0.linear.bias"}
    assert len(names) == 2 * 3 * (3 if dora else 2) + 2  # query, attention.output.dense and output.dense in 2 layers


def test_a_new_adapter_depends_on_the_seed_alone_and_is_float32_whatever_the_files_hold(folder, tmp_path):
    """ZeRO-3 loads weights as they are stored. Its run must begin as that of the other stages."""
    AutoModel.from_pretrained(folder).bfloat16().save_pretrained(tmp_path / "half")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "half" / name).write_bytes((folder / name).read_bytes())
    kinds = [(tmp_path / "half", 1, True), (folder, 1, False), (folder, 2, False)]
    adapters = []
    for place, seed, as_stored in kinds:
        torch.rand(seed)  # what was drawn before must not matter
        encoder = load_encoder(config(place, lora=LORA), seed=seed, as_stored=as_stored)
        adapters.append({name: weight for name, weight in encoder.named_parameters() if weight.requires_grad})
        assert {weight.dtype for weight in adapters[-1].values()} == {torch.float32}
    assert fingerprint(adapters[0]) == fingerprint(adapters[1]) != fingerprint(adapters[2])


def test_a_bank_of_the_base_model_is_known_as_ranked_by_the_weights_that_an_adapter_starts_with(folder):
    encoder, plain = load_encoder(config(folder, lora=LORA)), load_encoder(config(folder))
    expected = fingerprint(plain.state_dict())
    assert fingerprint(without_new_adapter(encoder.state_dict())) == expected
    next(w for name, w in encoder.named_parameters() if ".lora_B." in name).data[0, 0] = 0.1
    assert fingerprint(without_new_adapter(encoder.state_dict())) != expected


@pytest.mark.parametrize("name", ["t5", "albert", "qwen3"])
def test_auto_takes_every_linear_layer_of_attention_and_feed_forward(name):
    """Whose names end so: in these tiny models that is every linear layer but ALBERT's first."""
    backbone = tiny_backbone(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ends = target_names(backbone, backbone.config.model_type, "auto")
    linears = [name for name, module in backbone.named_modules() if isinstance(module, torch.nn.Linear)]
    left = [name for name in linears if not any(name.endswith(f".{end}") for end in ends)]
    assert left == (["encoder.embedding_hidden_mapping_in"] if name == "albert" else [])


def test_an_unknown_family_gets_an_adapter_on_every_linear_layer_which_is_said():
    backbone = tiny_backbone("qwen3")
    with pytest.warns(UserWarning, match="auto does not know the family odd: every linear layer gets an adapter"):
        ends = target_names(backbone, "odd", "auto")
    assert ends == sorted(f"mlp.{n}_proj" for n in ("down", "gate", "up")) + sorted(
        f"self_attn.{n}_proj" for n in "koqv"
    )
    assert target_names(backbone, "odd", "all-linear") == ends


def test_a_name_that_ends_no_linear_layer_is_refused_with_those_that_do(folder):
    with pytest.raises(ValueError, match=r"target_modules: got q_proj, the end of no linear layer.*attention.self.key"):
        load_encoder(config(folder, lora={"target_modules": ["query", "q_proj"]}))


@pytest.mark.parametrize(
    "settings", [{}, {"use_dora": True, "use_rslora": True, "rank_pattern": {"query": 2}}], ids=str
)
def test_an_adapter_of_peft_gives_the_embeddings_that_it_gives_in_peft(folder, tmp_path, settings):
    expected = peft_adapter(folder, tmp_path / "adapter", **settings)
    encoder = load_encoder(config(tmp_path / "adapter", pooling="mean"))
    assert abs(embed(encoder, folder) - expected).max() < 1e-6
    assert abs(embed(load_encoder(config(folder)), folder) - expected).max() > 1e-2  # the base alone differs
    assert all(".lora_" in name for name in trained(encoder))


def test_an_adapter_inside_a_sentence_transformers_folder_is_read_with_its_pooling(folder, tmp_path):
    from peft import LoraConfig
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    from tests.unit.encoder.models import TEXTS

    model = SentenceTransformer(modules=[Transformer(str(folder)), Pooling(32, "cls")], device="cpu")
    model.add_adapter(LoraConfig(r=4, target_modules=["key"], init_lora_weights=False))
    model.save(str(tmp_path / "out"))
    assert not (tmp_path / "out" / "model.safetensors").exists()
    encoder = load_encoder(config(tmp_path / "out"))
    assert encoder.pooling == "cls"
    assert abs(embed(encoder, tmp_path / "out") - model.encode(TEXTS)).max() < 1e-6


def test_an_adapter_that_was_trained_inside_a_language_model_is_read(tmp_path):
    """Its names have the name of the backbone inside that model in front."""
    from harness.encoder.partial.adapter import add_adapter
    from harness.model_folder.adapter_files import stored_adapter

    backbone = tiny_backbone("qwen3")
    backbone.save_pretrained(tmp_path / "base")
    (tmp_path / "adapter").mkdir()
    settings = {
        "peft_type": "LORA",
        "r": 2,
        "target_modules": ["q_proj"],
        "base_model_name_or_path": str(tmp_path / "base"),
    }
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(settings))
    names = [
        f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora_{side}.weight"
        for layer in (0, 1)
        for side in "AB"
    ]
    weights = {name: torch.rand((2, 32) if "_A" in name else (32, 2)) for name in names}
    save_file(weights, tmp_path / "adapter" / "adapter_model.safetensors")
    add_adapter(backbone, None, stored_adapter(tmp_path / "adapter"), 0)
    found = backbone.get_submodule("layers.1.self_attn.q_proj").lora_B["default"].weight
    assert torch.equal(found, weights[names[3]])


def test_an_adapter_beside_a_whole_model_is_refused(folder, tmp_path):
    """transformers would apply it to these weights, peft to those that it names."""
    peft_adapter(folder, tmp_path / "adapter")
    AutoModel.from_pretrained(folder).save_pretrained(tmp_path / "adapter")
    with pytest.raises(ValueError, match="got an adapter beside a whole model"):
        load_encoder(config(tmp_path / "adapter", pooling="mean"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, r"peft_type: got IA3, expected LORA"),
        ({"bias": "all"}, r"bias: got all, which is not applied here"),
        ({"modules_to_save": ["embeddings"]}, r"modules_to_save: got \[.*\], which is not applied"),
        ({"init_lora_weights": "pissa"}, r"init_lora_weights: got pissa, which is not applied"),
        ({"base_model_name_or_path": "/no/such"}, r"base_model_name_or_path: got /no/such, expected a folder"),
        (
            {"base_model_name_or_path": None},
            r"base_model_name_or_path: got \S+, expected the model that it changes",
        ),
        ({"target_modules": ["key"]}, r"got weights that do not fit its model and settings"),
        ({"r": 3}, r"got weights that do not fit its model and settings"),
    ],
    ids=str,
)
def test_an_adapter_that_would_be_applied_in_part_is_refused(folder, tmp_path, changes, message):
    peft_adapter(folder, tmp_path / "adapter")
    change_json(tmp_path / "adapter" / "adapter_config.json", **changes)
    with pytest.raises(ValueError, match=message):
        load_encoder(config(tmp_path / "adapter", pooling="mean"))


def test_pickled_adapter_weights_and_those_that_are_not_finite_are_refused(folder, tmp_path):
    from harness.model_folder.preflight import Preflight

    peft_adapter(folder, tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    weights = load_file(file)
    save_file({name: value / 0 for name, value in weights.items()}, file)
    with pytest.raises(ValueError, match="got numbers that are NaN or infinite"):
        load_encoder(config(tmp_path / "adapter", pooling="mean"))
    file.rename(tmp_path / "adapter" / "adapter_model.bin")
    with pytest.raises(ValueError, match=r"got adapter_model.bin, expected adapter_model.safetensors"):
        Preflight(str(tmp_path / "adapter")).check()


def test_an_adapter_is_continued_as_it_is_or_the_recipe_is_refused(folder, tmp_path):
    peft_adapter(folder, tmp_path / "adapter", lora_alpha=8)
    encoder = load_encoder(config(tmp_path / "adapter", pooling="mean", lora={"rank": 4, "dropout": 0.3}))
    dropouts = {module.p for name, module in encoder.named_modules() if name.endswith("lora_dropout.default")}
    assert dropouts == {0.3}
    with pytest.raises(ValueError, match=r"model.lora.rank: got 16, but the adapter in .* has 4"):
        load_encoder(config(tmp_path / "adapter", pooling="mean", lora={}))


def test_a_missing_peft_is_one_line_with_the_command(folder, monkeypatch):
    from harness.model_folder import adapter_files

    monkeypatch.setattr(adapter_files, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"peft is not installed.*pip install -c constraints.txt -e '.\[lora\]'"):
        load_encoder(config(folder, lora=LORA))


def test_the_depth_of_a_weight_is_that_of_its_layer():
    encoder = tiny_encoder()
    found = depths(encoder, "knob")
    by_depth = {depth: {n for n, d in found.of.items() if d == depth} for depth in range(4)}
    assert all(name.startswith("backbone.embeddings.") for name in by_depth[0])
    assert all(name.startswith("backbone.encoder.layer.0.") for name in by_depth[1])
    assert all(name.startswith("backbone.encoder.layer.1.") for name in by_depth[2])
    assert by_depth[3] == {"head.0.weight", "head.0.bias"}
    assert sum(map(len, by_depth.values())) == len(found.of)
    decoder = depths(Encoder(tiny_backbone("qwen3"), ("last",)), "knob").of
    assert (decoder["backbone.embed_tokens.weight"], decoder["backbone.norm.weight"]) == (0, 3)
    t5 = depths(Encoder(tiny_backbone("t5"), ("mean",)), "knob").of
    assert t5["backbone.shared.weight"] == 0
    assert {depth for name, depth in t5.items() if "relative_attention_bias" in name} == {1}


def test_freezing_takes_the_embeddings_and_the_first_layers_out_of_the_training():
    encoder = tiny_encoder()
    freeze(encoder, FreezeSettings(embeddings=True, layers=1))
    assert {name.split(".")[0 if name.startswith("head") else 3] for name in trained(encoder)} == {"head", "1"}


@pytest.mark.parametrize(
    ("backbone", "settings", "message"),
    [
        ("qwen3", {"layers": 3}, r"model.freeze.layers: got 3, but the model has 2 layers"),
        ("albert", {"layers": 1}, r"model.freeze: got a backbone of type albert with 1 layers of 2"),
    ],
)
def test_layers_that_are_not_there_cannot_be_frozen(backbone, settings, message):
    with pytest.raises(ValueError, match=message):
        freeze(Encoder(tiny_backbone(backbone), ("mean",)), FreezeSettings(**settings))


def test_a_model_of_which_nothing_is_left_to_train_is_refused(folder):
    with pytest.raises(ValueError, match=r"model.freeze: got nothing that is left to train"):
        load_encoder(config(folder, freeze={"embeddings": True, "layers": 2}))


def test_freezing_beside_lora_is_refused(folder):
    with pytest.raises(ValueError, match="freeze: got it beside lora"):
        config(folder, lora=LORA, freeze={"layers": 1})
