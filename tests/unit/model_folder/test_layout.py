"""Pooling, projection and length are read from a sentence-transformers folder."""

from __future__ import annotations

import pytest
import torch

from harness.encoder.load import load_encoder
from harness.model_folder.layout import read_layout
from tests.tiny import make_model
from tests.unit.encoder.models import config, export


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


def test_an_exported_folder_is_read_back_with_pooling_projection_and_length(folder, tmp_path):
    encoder = export(folder, tmp_path / "out", pooling="cls", projection_dim=20)
    layout = read_layout(tmp_path / "out")
    assert (layout.pooling, layout.max_length) == (("cls",), 24)
    again = load_encoder(config(tmp_path / "out", pooling="cls", projection_dim=20))
    torch.testing.assert_close(again.state_dict(), encoder.state_dict())
