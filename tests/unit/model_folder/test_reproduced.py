"""A folder gives the embeddings of sentence-transformers, and so does its export, or it is refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import (
    Dense,
    Dropout,
    LayerNorm,
    Normalize,
    Pooling,
    Transformer,
)
from torch import nn

from harness.data.table.tokenisation import Tokeniser
from harness.encoder.load import config_of_folder, load_encoder
from harness.export.sentence_transformers_folder import verify_model, write_model
from harness.model_folder.layout import read_layout
from harness.model_folder.pooling import POOLINGS
from harness.prompts import ModelPrompts
from harness.types import PromptedText
from tests.tiny import make_model, text
from tests.unit.encoder.models import change_json

TEXTS = [text(i, 2 + 7 * i) for i in range(4)] + [text(5, 4).upper()]
PROMPT = text(8, 3) + " "
LEGACY = {pooling.legacy_flag: False for pooling in POOLINGS.values()}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


def stored(source: Path, out: Path, *head: nn.Module, pooling: tuple[str, ...] = ("mean",), length: int = 40) -> Path:
    """A folder that sentence-transformers itself writes."""
    torch.manual_seed(3)
    transformer = Transformer(str(source), max_seq_length=length)
    modules = [transformer, Pooling(32, pooling), *head]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(out), create_model_card=False)
    return out


def check_reproduced(folder: Path, out: Path, prompt: str = "") -> None:
    """Compare this project's embeddings, and those of its export, with sentence-transformers' of the folder."""
    config, tokeniser = config_of_folder(str(folder)), Tokeniser(str(folder))
    encoder = load_encoder(config).eval()
    rows = tokeniser.encode([PromptedText(prompt, one) for one in TEXTS], config.max_length)
    with torch.no_grad():
        embedding_BD = encoder(*tokeniser.pad(rows).on(torch.device("cpu")))
    if encoder.normalize:
        embedding_BD = nn.functional.normalize(embedding_BD, dim=1)
    expected = _encode(folder, prompt)
    np.testing.assert_allclose(embedding_BD.numpy(), expected, atol=1e-5)
    write_model(
        out, encoder, dict(encoder.state_dict()), tokeniser.tokenizer, config, prompts=ModelPrompts(), card="card"
    )
    np.testing.assert_allclose(_encode(out, prompt), expected, atol=1e-5)
    again, layout = read_layout(out), read_layout(folder)
    kept = ("pooling", "include_prompt", "normalize")
    assert [getattr(again, name) for name in kept] == [getattr(layout, name) for name in kept]
    assert again.max_length == config.max_length
    assert not again.lower_case  # the exported tokenizer.json does it: servers read no do_lower_case


def _encode(folder: Path, prompt: str) -> np.ndarray:
    model = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})
    return model.encode(TEXTS, prompt=prompt, show_progress_bar=False)


HEADS = {
    "nothing after the pooling": [],
    "a length of 1": [Normalize()],
    "a Dense layer with tanh": [Dense(32, 20)],
    "Dense layers without bias, and a length of 1": [
        Dense(32, 48, bias=False, activation_function=nn.Identity()),
        Dense(48, 32, bias=False, activation_function=nn.GELU()),
        Normalize(),
    ],
    "a length of 1 in the middle": [Normalize(), Dense(32, 20, activation_function=nn.ReLU())],
    "LayerNorm, dropout and a residual": [LayerNorm(32), Dropout(0.3), Dense(32, 20, use_residual=True), Normalize()],
}


@pytest.mark.parametrize("head", HEADS)
def test_the_modules_after_the_pooling_are_reproduced_and_exported(source, tmp_path, head):
    check_reproduced(stored(source, tmp_path / "in", *HEADS[head]), tmp_path / "out")


@pytest.mark.parametrize("prompt", ["", PROMPT])
@pytest.mark.parametrize("include_prompt", [True, False])
def test_every_pooling_and_their_prompt_are_reproduced_and_exported(source, tmp_path, include_prompt, prompt):
    names = tuple(pooling.sentence_transformers_name for pooling in POOLINGS.values())
    folder = stored(source, tmp_path / "in", pooling=names[::-1])
    change_json(folder / "1_Pooling" / "config.json", include_prompt=include_prompt)
    check_reproduced(folder, tmp_path / "out", prompt)


def test_a_prompt_that_is_not_pooled_makes_another_embedding(source, tmp_path):
    """Otherwise the test above would compare nothing."""
    folder = stored(source, tmp_path / "in")
    pooled = _encode(folder, PROMPT)
    change_json(folder / "1_Pooling" / "config.json", include_prompt=False)
    assert np.abs(_encode(folder, PROMPT) - pooled).max() > 0.05


def test_texts_are_lower_cased_where_the_folder_says_so(source, tmp_path):
    cased = tmp_path / "cased"
    shutil.copytree(source, cased)
    change_json(cased / "tokenizer.json", normalizer=None)
    folder = stored(cased, tmp_path / "in")
    as_written = _encode(folder, "")
    change_json(folder / "sentence_bert_config.json", do_lower_case=True)
    assert np.abs(_encode(folder, "") - as_written).max() > 0.05
    check_reproduced(folder, tmp_path / "out")


def test_texts_are_lower_cased_once(source, tmp_path):
    """sentence-transformers adds no step where the tokenizer has one; one before it would hide "A" from `Replace`."""
    letters = tmp_path / "letters"
    shutil.copytree(source, letters)
    steps = [{"type": "Replace", "pattern": {"String": "A"}, "content": "b"}, {"type": "Lowercase"}]
    change_json(letters / "tokenizer.json", normalizer={"type": "Sequence", "normalizers": steps})
    folder = stored(letters, tmp_path / "in")
    change_json(folder / "sentence_bert_config.json", do_lower_case=True)
    check_reproduced(folder, tmp_path / "out")


def test_two_modules_of_one_name_are_refused(source, tmp_path):
    """sentence-transformers keeps the second of them only, without a word."""
    folder = stored(source, tmp_path / "in", Dense(32, 32), LayerNorm(32))
    modules = json.loads((folder / "modules.json").read_text())
    modules[2]["name"] = modules[3]["name"]
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ValueError, match=r"modules.json: got two modules with the name '3', of which sentence-"):
        read_layout(folder)


def test_the_oldest_names_and_places_are_read(source, tmp_path):
    """As folders of 2020: 0_Transformer, another file name, flags for two poolings, no file of Normalize."""
    folder = stored(source, tmp_path / "in", Normalize(), length=12)
    (folder / "0_Transformer").mkdir()
    for path in [path for path in folder.iterdir() if path.is_file() and path.name != "modules.json"]:
        path.rename(folder / "0_Transformer" / path.name)
    (folder / "0_Transformer" / "sentence_bert_config.json").unlink()
    settings = json.dumps({"max_seq_length": 12, "do_lower_case": False})
    (folder / "0_Transformer" / "sentence_roberta_config.json").write_text(settings)
    flags = LEGACY | {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32, **flags}))
    shutil.rmtree(folder / "2_Normalize")
    modules = json.loads((folder / "modules.json").read_text())
    for module in modules:
        module["type"] = f"sentence_transformers.models.{module['type'].rsplit('.', 1)[-1]}"
    modules[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))
    check_reproduced(folder, tmp_path / "out")
    assert read_layout(folder).max_length == 12


def test_several_poolings_that_the_recipe_asks_for_stand_side_by_side(source, tmp_path):
    config, tokeniser = (
        config_of_folder(str(source)).model_copy(update={"pooling": ("cls", "max")}),
        Tokeniser(str(source)),
    )
    encoder = load_encoder(config).eval()
    write_model(
        tmp_path / "out", encoder, encoder.state_dict(), tokeniser.tokenizer, config, prompts=ModelPrompts(), card=""
    )
    with torch.no_grad():
        embedding_BD = encoder(*tokeniser.pad(tokeniser.encode(TEXTS, 60)).on(torch.device("cpu"))).numpy()
    assert embedding_BD.shape == (5, 64)
    assert verify_model(tmp_path / "out", TEXTS, embedding_BD, config) < 1e-5


TRANSFORMER, POOLING, SETTINGS = (
    "sentence_bert_config.json",
    "1_Pooling/config.json",
    "config_sentence_transformers.json",
)


@pytest.mark.parametrize(
    ("file", "changes", "words"),
    [
        (
            TRANSFORMER,
            {"transformer_task": "fill-mask"},
            "transformer_task: got fill-mask, expected feature-extraction",
        ),
        (TRANSFORMER, {"query_length": 32}, "query_length: got 32, expected None"),
        (TRANSFORMER, {"processing_kwargs": {"text": {"padding": "max_length"}}}, "processing_kwargs: got"),
        (TRANSFORMER, {"modality_config": {"message": {}}}, "modality_config: got"),
        (TRANSFORMER, {"model_args": {"rotary_scaling_factor": 2}}, "got the key model_args.rotary_scaling_factor"),
        (TRANSFORMER, {"config_args": {"hidden_act": "relu"}}, "got the key config_args.hidden_act"),
        (TRANSFORMER, {"model_args": ["dtype"]}, "model_args: got ['dtype'], expected an object"),
        (TRANSFORMER, {"max_seq_length": "long"}, "max_seq_length: got 'long', expected a number of tokens"),
        (TRANSFORMER, {"strip": True}, "got the key strip, which is not known here"),
        (
            POOLING,
            {"pooling_mode": "attention"},
            "pooling_mode: got ['attention'], expected one or several",
        ),
        (POOLING, {"pooling_layers": 4}, "got the key pooling_layers, which is not known here"),
        (SETTINGS, {"truncate_dim": 16}, "truncate_dim: got 16, expected null"),
        (SETTINGS, {"model_type": "SparseEncoder"}, "model_type: got SparseEncoder, expected SentenceTransformer"),
        (SETTINGS, {"default_prompt_name": "retrieval"}, "default_prompt_name: got 'retrieval', expected one of"),
        ("2_Dense/config.json", {"activation_function": "my.Act"}, "activation_function: got my.Act, expected a class"),
        ("2_Dense/config.json", {"activation_function": "torch.nn.Nope"}, "got a Dense module that cannot be loaded"),
        ("2_Dense/config.json", {"module_input_name": "token_embeddings"}, "module_input_name: got token_embeddings"),
        ("2_Dense/config.json", {"scale": 2.0}, "got the key scale, which is not known here"),
        ("2_Dense/config.json", {"in_features": 16}, "got a Dense module that cannot be loaded"),
    ],
)
def test_a_key_that_is_not_followed_is_refused_with_its_name(source, tmp_path, file, changes, words):
    folder = stored(source, tmp_path / "in", Dense(32, 20))
    change_json(folder / file, **changes)
    with pytest.raises(ValueError, match="got") as caught:
        load_encoder(config_of_folder(str(folder)))
    assert words in str(caught.value)
    assert str(folder / Path(file).parent) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("types", "words"),
    [
        (["Transformer", "WordEmbeddings"], "got the module sentence_transformers.models.WordEmbeddings, expected"),
        (["Asym"], "got the module sentence_transformers.models.Asym, expected"),
        (["StaticEmbedding"], "got the module sentence_transformers.models.StaticEmbedding, expected"),
        (["Transformer", "CNN", "Pooling"], "got the module sentence_transformers.models.CNN, expected"),
        (["Transformer", "WeightedLayerPooling", "Pooling"], "models.WeightedLayerPooling, expected"),
        (["Transformer", "Dense"], "got the modules Transformer, Dense, expected Transformer and Pooling first"),
        (["Transformer", "Pooling", "Pooling"], "got a second Pooling module"),
        (["Transformer"], "got 1 modules, expected at least Transformer and Pooling"),
        (["Transformer", "Pooling", "mine.Pooling"], "got the module mine.Pooling, expected"),
    ],
)
def test_a_module_that_is_not_followed_is_refused_with_its_name(source, tmp_path, types, words):
    folder = stored(source, tmp_path / "in")
    paths = {"Transformer": "", "Pooling": "1_Pooling"}
    names = [name if "." in name else f"sentence_transformers.models.{name}" for name in types]
    entries = [{"type": name, "path": paths.get(kind, kind)} for name, kind in zip(names, types, strict=True)]
    (folder / "modules.json").write_text(json.dumps(entries))
    with pytest.raises(ValueError, match="got") as caught:
        read_layout(folder)
    assert words in str(caught.value)


def test_a_dense_layer_with_nan_is_refused(source, tmp_path):
    dense = Dense(32, 20)
    dense.linear.weight.data[3, 4] = float("nan")
    folder = stored(source, tmp_path / "in", dense)
    with pytest.raises(ValueError, match=r"NaN or infinite in 1 weight \(head.0.linear.weight\)"):
        load_encoder(config_of_folder(str(folder)))


def test_files_that_are_missing_or_broken_are_named(source, tmp_path):
    folder = stored(source, tmp_path / "in", Dense(32, 20))
    (folder / "2_Dense" / "model.safetensors").rename(folder / "2_Dense" / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"2_Dense: got no model.safetensors, expected the weights of the Dense"):
        read_layout(folder)
    (folder / "modules.json").write_text((folder / "modules.json").read_text()[:40])
    with pytest.raises(ValueError, match=r"modules.json:5: got broken JSON"):
        read_layout(folder)
    folder = stored(source, tmp_path / "other")
    (folder / "1_Pooling" / "config.json").unlink()
    with pytest.raises(ValueError, match=r"1_Pooling/config.json: got no such file, expected the configuration"):
        read_layout(folder)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "modules.json").unlink()
    with pytest.raises(ValueError, match=r"adapter_config.json: peft_type: got .*, expected LORA"):
        read_layout(folder)


@pytest.mark.parametrize("length", [8, 60, 10**6, None])
def test_texts_of_a_plain_folder_are_cut_where_sentence_transformers_cuts_them(source, tmp_path, length):
    folder = tmp_path / "plain"
    shutil.copytree(source, folder)
    change_json(folder / "tokenizer_config.json", model_max_length=length or 10**30)
    expected = SentenceTransformer(str(folder), device="cpu").max_seq_length
    assert config_of_folder(str(folder)).max_length == expected
