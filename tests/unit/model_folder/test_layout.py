"""Pooling, projection and length are read from a sentence-transformers folder."""

from __future__ import annotations

import json

import pytest
import torch

from harness.encoder.load import load_encoder
from harness.model_folder.layout import read_layout
from harness.model_folder.pooling import POOLINGS
from tests.tiny import make_model
from tests.unit.encoder.models import change_json, config, export


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


def test_an_exported_folder_is_read_back_with_pooling_projection_and_length(folder, tmp_path):
    encoder = export(folder, tmp_path / "out", pooling="cls", projection_dim=20)
    layout = read_layout(tmp_path / "out")
    assert (layout.pooling, layout.max_length) == ("cls", 24)
    again = load_encoder(config(tmp_path / "out", pooling="cls", projection_dim=20))
    torch.testing.assert_close(again.state_dict(), encoder.state_dict())


def test_a_second_dense_module_is_refused(folder, tmp_path):
    export(folder, tmp_path / "out", projection_dim=20)
    modules = json.loads((tmp_path / "out" / "modules.json").read_text())
    dense = next(module for module in modules if module["type"].endswith("Dense"))
    (tmp_path / "out" / "modules.json").write_text(json.dumps([*modules, dense]))
    with pytest.raises(ValueError, match="got two Dense modules, expected at most one"):
        read_layout(tmp_path / "out")


def test_several_poolings_side_by_side_are_refused(folder, tmp_path):
    export(folder, tmp_path / "out")
    change_json(tmp_path / "out" / "1_Pooling" / "config.json", pooling_mode=["cls", "mean"])
    *others, last = POOLINGS
    with pytest.raises(ValueError, match=f"expected exactly one of {', '.join(others)} and {last} token pooling"):
        read_layout(tmp_path / "out")
