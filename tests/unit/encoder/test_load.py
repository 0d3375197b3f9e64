"""Loading an encoder: safetensors only, lengths, dropout, projection; an embedding depends on its text only."""

from __future__ import annotations

import json
import shutil
import warnings
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from harness.data.table.tokenisation import Tokeniser
from harness.encoder.load import load_encoder, set_dropout
from harness.encoder.unloaded import unloaded_encoder
from harness.model_folder.pooling import POOLINGS
from tests.golden_encoders import tiny_backbone
from tests.tiny import make_model
from tests.unit.encoder.models import TEXTS, change_json, config, export


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


def test_a_dense_layer_is_never_dropped_silently(folder, tmp_path):
    export(folder, tmp_path / "out", projection_dim=20)
    assert load_encoder(config(tmp_path / "out")).dim == 20
    with pytest.raises(ValueError, match=r"model.projection_dim: got 16, but .* has a Dense layer to 20 dimensions"):
        load_encoder(config(tmp_path / "out", projection_dim=16))


def test_a_new_projection_depends_on_the_seed_alone(folder):
    one, again, other = (
        load_encoder(config(folder, projection_dim=20), seed=s).head[0].linear.weight for s in (1, 1, 2)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_weights_are_loaded_from_safetensors_only(folder, tmp_path):
    """A pickle file can run code when it is loaded."""
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


def test_dropout_of_the_training_stays_out_of_the_exported_config(folder, tmp_path):
    load_encoder(config(folder), dropout=0.3).backbone.save_pretrained(tmp_path)
    exported_config, source_config = (json.loads((place / "config.json").read_text()) for place in (tmp_path, folder))
    assert {key: exported_config[key] for key in exported_config if "dropout" in key} == {
        key: source_config[key] for key in source_config if "dropout" in key
    }


def test_dropout_that_a_model_cannot_have_is_refused():
    assert set_dropout(SimpleNamespace(hidden_size=4, use_dropout=True), 0.0, "here") == {}
    with pytest.raises(ValueError, match=r"training.dropout: got 0.1, but here has no dropout"):
        set_dropout(SimpleNamespace(hidden_size=4, use_dropout=True), 0.1, "here")


def test_gradient_checkpointing_changes_memory_and_not_the_gradient(folder):
    """Dropout stays on, because the recomputed forward pass must draw the same masks."""
    tokeniser = Tokeniser(str(folder))
    batch = tokeniser.pad(tokeniser.encode(TEXTS, 24))
    gradients = []
    for checkpointing in (False, True):
        encoder = load_encoder(config(folder, gradient_checkpointing=checkpointing)).train()
        torch.manual_seed(0)
        encoder(batch.input_ids_BL, batch.attention_mask_BL).square().sum().backward()
        gradients.append({name: p.grad for name, p in encoder.named_parameters()})
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("load", [load_encoder, unloaded_encoder])
def test_gradient_checkpointing_of_a_model_that_has_none_is_refused_with_the_key_to_change(tmp_path, load):
    tiny_backbone("albert").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"^model.gradient_checkpointing: got true, but .* is of type albert"):
        load(config(tmp_path, gradient_checkpointing=True, pooling=("mean",)))


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_an_embedding_does_not_depend_on_its_micro_batch(folder, tmp_path, pooling, side):
    """Tokenizers of decoders pad left, which would shift absolute positions depending on the longest text beside it."""
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


def test_a_pooling_other_than_the_folders_is_a_warning(folder, tmp_path):
    export(folder, tmp_path / "out", pooling="cls")
    with pytest.warns(UserWarning, match=r"model.pooling: got mean, but .* was trained with cls"):
        load_encoder(config(tmp_path / "out", pooling="mean"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        load_encoder(config(tmp_path / "out", pooling="cls"))
        load_encoder(config(folder, pooling="cls"))
