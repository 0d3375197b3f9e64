"""In sentence-transformers an exported folder gives the embeddings of the trained model; otherwise it is refused."""

from __future__ import annotations

import os
import stat

import pytest
import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel, modeling_utils

from harness.data.table.tokenisation import Tokeniser
from harness.encoder.load import load_encoder
from harness.export.sentence_transformers_folder import verify_model, write_model
from harness.model_folder.pooling import POOLINGS
from harness.prompts import ModelPrompts
from tests.tiny import make_model
from tests.unit.encoder.models import TEXTS, config, embed, export


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("projection_dim", [None, 20])
@pytest.mark.parametrize("normalize", [True, False])
def test_an_exported_folder_gives_the_same_embeddings_in_sentence_transformers(
    folder, tmp_path, pooling, projection_dim, normalize
):
    settings = {"pooling": pooling, "projection_dim": projection_dim, "normalize": normalize}
    encoder = export(folder, tmp_path / "out", **settings)
    assert verify_model(tmp_path / "out", TEXTS, embed(encoder, folder), config(folder, **settings)) < 1e-5
    assert (tmp_path / "out" / "README.md").read_text() == "card"


@pytest.mark.parametrize("mask", [0o022, 0o007])
def test_all_files_of_an_export_have_the_mode_that_the_umask_gives(folder, tmp_path, mask):
    before = os.umask(mask)
    try:
        export(folder, tmp_path / "out", projection_dim=20)
    finally:
        os.umask(before)
    files = [file for file in (tmp_path / "out").rglob("*") if file.is_file()]
    assert {file.name for file in files} >= {"model.safetensors", "config.json"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o666 & ~mask}


def test_an_export_that_differs_is_refused(folder, tmp_path):
    encoder = export(folder, tmp_path / "out")
    expected = embed(encoder, folder)
    expected[2, 0] += 0.01
    with pytest.raises(ValueError, match="do not use this export"):
        verify_model(tmp_path / "out", TEXTS, expected, config(folder))


def test_an_export_keeps_the_weights_that_no_embedding_needs(folder, tmp_path):
    """Otherwise every user of the model would get a warning about a newly initialised pooler."""
    export(folder, tmp_path / "out")
    assert load_file(tmp_path / "out" / "model.safetensors").keys() == load_file(folder / "model.safetensors").keys()


def test_the_head_is_exported_from_the_gathered_weights_alone(folder, tmp_path):
    """Under ZeRO-3 a parameter of the encoder is empty on every rank between two uses."""
    encoder = export(folder, tmp_path / "other", projection_dim=20)
    expected, state = embed(encoder, folder), {name: value.clone() for name, value in encoder.state_dict().items()}
    for parameter in encoder.head.parameters():
        parameter.data = torch.empty(0)
    settings = config(folder, projection_dim=20)
    write_model(
        tmp_path / "out",
        encoder,
        state,
        Tokeniser(str(folder)).tokenizer,
        settings,
        prompts=ModelPrompts(),
        card="card",
    )
    assert verify_model(tmp_path / "out", TEXTS, expected, settings) < 1e-5
    assert all(parameter.numel() == 0 for parameter in encoder.head.parameters())


def test_an_export_writes_each_weight_once_and_loads_none(folder, tmp_path, monkeypatch):
    """All ranks wait while rank 0 writes a checkpoint's model."""
    encoder = load_encoder(config(folder, projection_dim=20))
    written: list[int] = []
    save = modeling_utils.safe_save_file
    monkeypatch.setattr(
        modeling_utils,
        "safe_save_file",
        lambda state, *rest, **options: (
            written.append(sum(map(torch.numel, state.values()))),
            save(state, *rest, **options),
        ),
    )
    monkeypatch.setattr(PreTrainedModel, "from_pretrained", None)
    state, tokenizer, settings = encoder.state_dict(), Tokeniser(str(folder)).tokenizer, config(folder)
    write_model(tmp_path / "out", encoder, state, tokenizer, settings, prompts=ModelPrompts(), card="card")
    of_backbone = [*encoder.backbone.parameters(), *encoder.unused_backbone_state.values()]
    assert written == [sum(map(torch.numel, of_backbone))]
    assert load_file(tmp_path / "out" / "model.safetensors").keys() == load_file(folder / "model.safetensors").keys()
