"""Loading: safetensors only, the sentence-transformers layout, projection, lengths, dropout, and the demo weights."""

from __future__ import annotations

import json
import shutil
import warnings
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from harness.data.table.tokenisation import Tokeniser
from harness.encoder.config import ModelConfig
from harness.encoder.encoder import _set_dropout, load_encoder, longest_text
from harness.encoder.layout import read_layout
from harness.export.sentence_transformers_folder import verify_model, write_model
from harness.weights import position_limit, resolve_model, verify_sha256
from tests.tiny import make_model, text

TEXTS = [text(i, 2 + 3 * i) for i in range(5)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


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
    write_model(out, encoder, encoder.state_dict(), tokenizer, config(folder, **settings), prompts={}, card="card")
    return encoder


@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
@pytest.mark.parametrize("projection_dim", [None, 20])
@pytest.mark.parametrize("normalize", [True, False])
def test_an_exported_folder_gives_the_same_embeddings_in_sentence_transformers(
    folder, tmp_path, pooling, projection_dim, normalize
):
    settings = {"pooling": pooling, "projection_dim": projection_dim, "normalize": normalize}
    encoder = export(folder, tmp_path / "out", **settings)
    assert verify_model(tmp_path / "out", TEXTS, embed(encoder, folder), config(folder, **settings)) < 1e-5
    assert (tmp_path / "out" / "README.md").read_text() == "card"


def test_an_export_that_differs_is_refused(folder, tmp_path):
    encoder = export(folder, tmp_path / "out")
    expected = embed(encoder, folder)
    expected[2, 0] += 0.01
    with pytest.raises(ValueError, match="do not use this export"):
        verify_model(tmp_path / "out", TEXTS, expected, config(folder))


def test_an_exported_folder_is_read_back_with_pooling_projection_and_length(folder, tmp_path):
    encoder = export(folder, tmp_path / "out", pooling="cls", projection_dim=20)
    layout = read_layout(tmp_path / "out")
    assert (layout.pooling, layout.max_length) == ("cls", 24)
    again = load_encoder(config(tmp_path / "out", pooling="cls", projection_dim=20))
    torch.testing.assert_close(again.state_dict(), encoder.state_dict())


def test_an_export_keeps_the_weights_that_no_embedding_needs(folder, tmp_path):
    """Otherwise every user of the model is warned of a newly initialised pooler."""
    export(folder, tmp_path / "out")
    assert load_file(tmp_path / "out" / "model.safetensors").keys() == load_file(folder / "model.safetensors").keys()


def test_a_dense_layer_is_never_dropped_silently(folder, tmp_path):
    export(folder, tmp_path / "out", projection_dim=20)
    with pytest.raises(ValueError, match=r"has a Dense layer 32 → 20; set model.projection_dim: 20"):
        load_encoder(config(tmp_path / "out"))


def test_a_new_projection_depends_on_the_seed_alone(folder):
    one, again, other = (load_encoder(config(folder, projection_dim=20), seed=s).projection.weight for s in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_weights_are_loaded_from_safetensors_only(folder, tmp_path):
    """A pickle can run code when it is opened."""
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    torch.save(load_file(folder / "model.safetensors"), tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="expected a folder or hub name with safetensors"):
        load_encoder(config(tmp_path))


def test_code_that_comes_with_a_model_is_not_run_unless_the_recipe_says_so(folder, tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "mine", "auto_map": {"AutoConfig": "code.Mine", "AutoModel": "code.Mine"}})
    )
    (tmp_path / "code.py").write_text("raise SystemExit('this code was run')\n")
    with pytest.raises(ValueError, match="trust_remote_code"):
        load_encoder(config(tmp_path))


def test_a_text_longer_than_the_positions_is_refused(folder):
    with pytest.raises(ValueError, match=r"model.max_length: got 65, but .* takes at most 64 tokens"):
        load_encoder(config(folder, max_length=65))


def test_matryoshka_dims_beyond_the_embedding_are_refused(folder):
    with pytest.raises(ValueError, match="got 40, but the embedding has 32 dimensions"):
        load_encoder(config(folder, matryoshka_dims=(8, 40)))


def test_the_recipe_sets_every_dropout_of_the_model(folder):
    encoder = load_encoder(config(folder), dropout=0.0)
    assert {m.p for m in encoder.modules() if isinstance(m, torch.nn.Dropout)} == {0.0}
    assert {m.p for m in load_encoder(config(folder)).modules() if isinstance(m, torch.nn.Dropout)} == {0.1}


def test_gradient_checkpointing_changes_memory_and_not_the_gradient(folder):
    """Dropout stays on: the recomputed forward must draw the same masks."""
    tokeniser = Tokeniser(str(folder))
    batch = tokeniser.pad(tokeniser.encode(TEXTS, 24))
    gradients = []
    for checkpointing in (False, True):
        encoder = load_encoder(config(folder, gradient_checkpointing=checkpointing)).train()
        torch.manual_seed(0)
        encoder(batch.input_ids_BL, batch.attention_mask_BL).square().sum().backward()
        gradients.append({name: p.grad for name, p in encoder.named_parameters()})
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_an_embedding_does_not_depend_on_its_micro_batch(folder, tmp_path, pooling, side):
    """Decoders' tokenizers pad left, which would shift absolute positions by the length of the longest neighbour."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    change_json(tmp_path / "tokenizer_config.json", padding_side=side)
    encoder = load_encoder(config(tmp_path, pooling=pooling)).eval()
    tokeniser = Tokeniser(str(tmp_path))
    ids = tokeniser.encode(TEXTS, 24)
    with torch.no_grad():
        alone = [encoder(*_as_args(tokeniser.pad([row]))) for row in ids]
        together = encoder(*_as_args(tokeniser.pad(ids)))
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-4)


def _as_args(batch):
    return batch.input_ids_BL, batch.attention_mask_BL


def change_json(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_dropout_of_the_training_stays_out_of_the_exported_config(folder, tmp_path):
    load_encoder(config(folder), dropout=0.3).backbone.save_pretrained(tmp_path)
    said, own = (json.loads((place / "config.json").read_text()) for place in (tmp_path, folder))
    assert {key: said[key] for key in said if "dropout" in key} == {key: own[key] for key in own if "dropout" in key}


def test_dropout_that_a_model_cannot_have_is_refused():
    assert _set_dropout(SimpleNamespace(hidden_size=4, use_dropout=True), 0.0, "here") == {}
    with pytest.raises(ValueError, match=r"training.dropout: got 0.1, but here has no dropout"):
        _set_dropout(SimpleNamespace(hidden_size=4, use_dropout=True), 0.1, "here")


def test_a_pooling_other_than_the_folders_is_a_warning(folder, tmp_path):
    export(folder, tmp_path / "out", pooling="cls")
    with pytest.warns(UserWarning, match=r"model.pooling: got mean, but .* was trained with cls"):
        load_encoder(config(tmp_path / "out", pooling="mean"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        load_encoder(config(tmp_path / "out", pooling="cls"))
        load_encoder(config(folder, pooling="cls"))


def test_a_second_dense_module_is_refused(folder, tmp_path):
    export(folder, tmp_path / "out", projection_dim=20)
    modules = json.loads((tmp_path / "out" / "modules.json").read_text())
    dense = next(module for module in modules if module["type"].endswith("Dense"))
    (tmp_path / "out" / "modules.json").write_text(json.dumps([*modules, dense]))
    with pytest.raises(ValueError, match="got two Dense modules, expected at most one"):
        read_layout(tmp_path / "out")


@pytest.mark.parametrize("trusted", [False, True])
def test_a_hub_name_stands_for_its_whole_folder(folder, tmp_path, monkeypatch, trusted):
    """transformers alone would leave modules.json behind, and with it the pooling and the Dense layer."""
    encoder = export(folder, tmp_path / "out", pooling="cls", projection_dim=20)
    calls = []

    def snapshot_download(name, *, allow_patterns, **_):
        calls.append((name, "*.py" in allow_patterns, "*.safetensors" in allow_patterns))
        return str(tmp_path / "out")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    name = f"somebody/some-model-{trusted}"
    settings = config(name, pooling="cls", projection_dim=20, trust_remote_code=trusted)
    torch.testing.assert_close(load_encoder(settings).state_dict(), encoder.state_dict())
    assert read_layout(resolve_model(name, trusted)).pooling == "cls"
    assert Tokeniser(name, trusted).encode(["ral"], 24) == Tokeniser(str(folder)).encode(["ral"], 24)
    assert calls == [(name, trusted, True)]


def test_a_name_that_nobody_has_is_told_in_one_line(monkeypatch):
    def snapshot_download(name, **_):
        raise FileNotFoundError("offline")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    name = "not a name/of/a model"  # transformers must not go looking for it either
    assert resolve_model(name) == name
    for load in (Tokeniser, longest_text, lambda name: load_encoder(config(name))):
        with pytest.raises(ValueError, match=r"model.name_or_path: got not a name/of/a model, expected a") as caught:
            load(name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("kind", "limit"), [("bert", 514), ("xlm-roberta", 512)])
def test_positions_that_padding_takes_are_no_texts(kind, limit):
    settings = SimpleNamespace(model_type=kind, max_position_embeddings=514, pad_token_id=1)
    assert position_limit(settings) == limit


def test_the_demo_weights_are_the_published_ones_and_load():
    folder = resolve_model("demo-minilm")
    assert SentenceTransformer(folder, device="cpu").encode("a").shape == (384,)


def test_other_weights_under_the_demo_name_are_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"got SHA-256 .* expected 53aa51"):
        verify_sha256(tmp_path / "model.safetensors", "53aa51")
