"""Each form of `harness export` (ONNX, int8, half precision) gives the model's vectors, as far as its numbers can."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

from harness.cli.export import export_run
from harness.config import dump, load_recipe
from harness.encoder.load import load_encoder
from harness.export.formats import onnx_file
from harness.export.formats.compared import Difference
from harness.export.formats.half_precision import TORCH_DTYPES, round_weights
from harness.export.formats.onnx_file import EMBEDDING, OnnxModel, check_onnx
from tests.tiny import make_data, make_model, make_recipe
from tests.unit.encoder.models import TEXTS, config, export

FAQ = "faq/ndcg_at_10"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run folder of a model with a projection, as if it had been trained; and the data it was scored on."""
    folder = tmp_path_factory.mktemp("forms")
    make_data(folder)
    make_model(folder / "model")
    recipe = load_recipe(str(make_recipe(folder)), ["model.projection_dim=16", "model.matryoshka_dims=null"])
    export(folder / "model", folder / "run" / "model", projection_dim=16)
    (folder / "run" / "recipe.yaml").write_text(dump(recipe.config))
    return folder / "run"


@pytest.fixture(scope="module")
def exported(run: Path) -> Path:
    """The ONNX export with int8 and scores; torch's exporter takes seconds even for a tiny model."""
    out = run.parent / "onnx_out"
    data = [str(run.parent / "faq")]
    export_run(run, out, with_onnx=True, int8=True, data=data, output=run.parent / "forms.json")
    return out


def test_the_graph_gives_the_embeddings_of_the_folder_whatever_the_batch_and_the_length(run, exported) -> None:
    """Through sentence-transformers, which pools and projects by itself: the graph must hold the whole pipeline."""
    model = SentenceTransformer(str(exported), device="cpu")
    for texts in (TEXTS[:1], TEXTS, [text * 3 for text in TEXTS]):
        tokens = model.tokenize(list(texts))
        session = onnxruntime.InferenceSession(str(exported / "onnx/model.onnx"))
        inputs = {name: tokens[name].numpy() for name in ("input_ids", "attention_mask")}
        (got_BD,) = session.run([EMBEDDING], inputs)
        assert np.abs(got_BD - model.encode(list(texts))).max() < 1e-5
        assert got_BD.shape == (len(texts), 16)


def test_the_check_refuses_a_graph_that_gives_other_vectors(run, exported) -> None:
    """int8 is another graph by more than 1e-4; so is the fp32 graph of a model with other weights."""
    encoder = load_encoder(config(run / "model")).eval()
    path = exported / "onnx"
    assert check_onnx(OnnxModel(path / "model.onnx", encoder), encoder, 24, "x") < 1e-5
    with pytest.raises(ValueError, match=r"^x: got vectors of .*, expected at most 1e-04; do not use it"):
        check_onnx(OnnxModel(path / "model_quantized.onnx", encoder), encoder, 24, "x")


def test_the_graph_holds_no_path_of_this_machine_and_its_inputs_are_what_readers_send(exported) -> None:
    """torch's exporter notes lines of source, with their files, at every operation."""
    content = (exported / "onnx/model.onnx").read_bytes()
    assert not re.search(rb"\.py\b|/site-packages/", content)
    session = onnxruntime.InferenceSession(str(exported / "onnx/model.onnx"))
    assert [value.name for value in session.get_inputs()] == ["input_ids", "attention_mask"]
    assert [value.name for value in session.get_outputs()] == ["last_hidden_state", "sentence_embedding"]


def test_int8_is_smaller_and_its_loss_is_reported_in_the_file_and_in_the_card(run, exported) -> None:
    plain, int8 = json.loads((run.parent / "forms.json").read_text())["forms"]
    assert (plain["numbers"], int8["numbers"]) == ("fp32", "int8")
    assert int8["bytes"] < 0.6 * plain["bytes"]
    assert plain["largest_difference"] < 1e-4 < int8["largest_difference"] < 0.05
    assert plain["scores"][FAQ]["loss"] == pytest.approx(0.0, abs=1e-9)
    assert int8["scores"][FAQ]["loss"] == pytest.approx(int8["scores"][FAQ]["before"] - int8["scores"][FAQ]["after"])
    card = (exported / "README.md").read_text()
    assert "| onnx/model_quantized.onnx | int8 |" in card
    assert FAQ in card


def test_int8_weights_saturate_on_no_cpu(exported) -> None:
    """Without VNNI two products of a uint8 and an int8 are added in 16 bits: 2 · 255 · |weight| must be below 2**15."""
    graph = onnx.load(exported / "onnx/model_quantized.onnx").graph
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    products = [node for node in graph.node if node.op_type == "MatMulInteger"]
    assert products
    for node in products:
        weight_DE, zero_point = weights[node.input[1]], weights[node.input[3]]
        assert weight_DE.dtype == np.int8
        assert 2 * 255 * np.abs(weight_DE.astype(int)).max() < 2**15
        assert zero_point.shape == weight_DE.shape[1:], "each output has a step of its own"


def test_a_model_that_does_not_pool_its_prompt_has_a_graph_of_states_alone(run, exported) -> None:
    """The tokens do not say where the prompt ends; the encoder pools the states then."""
    encoder = load_encoder(config(run / "model")).eval()
    graph = OnnxModel(exported / "onnx/model.onnx", encoder)
    graph.has_embedding = False
    assert check_onnx(graph, encoder, 24, "x") < 1e-5


@pytest.mark.parametrize(
    ("dtype", "stored", "bound"), [("bf16", torch.bfloat16, 2**-7), ("fp16", torch.float16, 2**-10)]
)
def test_weights_of_half_precision_are_stored_loaded_and_compared_with_fp32(
    run, tmp_path, dtype, stored, bound
) -> None:
    """bound: of a number of a vector of length 1; rounding by half of it, twice in each of a few layers."""
    export_run(run, tmp_path / "out", dtype=dtype, output=tmp_path / "forms.json")
    files = [tmp_path / "out" / name for name in ("model.safetensors", "2_Dense/model.safetensors")]
    assert {tensor.dtype for file in files for tensor in load_file(file).values()} == {TORCH_DTYPES[dtype]}
    assert len({file.stat().st_mode for file in (tmp_path / "out").rglob("*") if file.is_file()}) == 1
    (form,) = json.loads((tmp_path / "forms.json").read_text())["forms"]
    assert 0 < form["largest_difference"] < 4 * bound
    assert form["scores"] is None
    before = SentenceTransformer(str(run / "model"), device="cpu").encode(TEXTS)
    after = SentenceTransformer(str(tmp_path / "out"), device="cpu").encode(TEXTS)
    assert 0 < Difference.of(before, after).largest < 4 * bound


def test_a_weight_that_fp16_cannot_hold_is_one_line(tmp_path) -> None:
    (tmp_path / "config.json").write_text('{"dtype": "float32"}')
    save_file({"layer.weight": torch.tensor([1.0, 70_000.0])}, tmp_path / "model.safetensors")
    with pytest.raises(
        ValueError, match=r"^--dtype: got fp16, but the weight layer.weight has the value 70000, .* bf16$"
    ):
        round_weights(tmp_path, "fp16")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"int8": True}, "--int8: got it without --format onnx"),
        ({"dtype": "bf16", "with_onnx": True}, "--dtype: got bf16 with --format onnx"),
        ({"data": ["x"]}, "--data: got it with the fp32 weights alone"),
        ({"private": True}, "--private: got it without --push-to-hub"),
        ({"step": 3}, "--step: got 3, expected the step of a checkpoint in .*, which has none"),
        ({"push_to_hub": "nothing"}, "--push-to-hub: got nothing, expected ORG/NAME"),
    ],
)
def test_options_that_do_not_fit_are_one_line_before_any_work(run, tmp_path, options, message) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        export_run(run, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(
        ValueError, match=r"^--format onnx: got no onnxscript, .*pip install -c constraints.txt -e '.\[onnx\]'"
    ):
        onnx_file.require_onnx()
