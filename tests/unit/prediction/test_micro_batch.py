"""What is counted without memory is what a real forward and backward hold, for every kind of backbone and head."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from sentence_transformers.sentence_transformer.modules import Dense
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertModel

from harness.encoder.load import load_encoder
from harness.prediction.counted.live_bytes import LiveBytes
from harness.prediction.counted.micro_batch import CannotCountError, UnloadedModel
from harness.prediction.precision import NUMBERS
from tests.unit.prediction.models import make, settings

KINDS = ("bert", "albert", "roberta", "qwen3", "t5")
TEXTS, LENGTH = 3, 16


def saved_bytes(encoder: torch.nn.Module, autocast: torch.dtype | None) -> int:
    """Bytes of the different tensors that a real forward saves for its backward, weights left out, and its result."""
    own = {tensor.untyped_storage()._cdata for tensor in (*encoder.parameters(), *encoder.buffers())}
    kept = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    ids_BL = torch.ones((TEXTS, LENGTH), dtype=torch.int64)
    mask_BL = torch.ones_like(ids_BL)
    mask_BL[0, -1] = 0  # a batch without padding takes shorter ways through attention
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", dtype=autocast, enabled=autocast is not None),
    ):
        keep(encoder.train()(ids_BL, mask_BL))
    return sum(storage.nbytes() for name, storage in kept.items() if name not in own)


def _refuse(*_: object, **__: object) -> None:
    raise AssertionError("weights were read")


@pytest.mark.parametrize("kind", KINDS)
def test_graph_and_weights_are_those_of_the_real_model(kind: str, tmp_path: Path) -> None:
    config = settings(make(kind, tmp_path))
    encoder = load_encoder(config)
    for precision in ("fp32", "bf16"):
        model = UnloadedModel(config, None, NUMBERS[precision], on_gpu=False)
        assert sorted(p.shape for p in model.parameters) == sorted(p.shape for p in encoder.parameters())
        real = saved_bytes(encoder, NUMBERS[precision].autocast)
        # Besides what is saved, a frame of the forward may still hold a small tensor such as the mask.
        assert 0.99 * real <= model.cost(TEXTS, LENGTH).graph <= 1.05 * real, precision


def test_dropout_of_a_cpu_stores_the_matrix_of_attention_and_that_of_a_gpu_does_not(tmp_path: Path) -> None:
    config = settings(make("bert", tmp_path, dropout=0.1))
    on_cpu, on_gpu = (UnloadedModel(config, None, NUMBERS["fp32"], on_gpu=gpu) for gpu in (False, True))
    real = saved_bytes(load_encoder(config), None)
    assert real <= on_cpu.cost(TEXTS, LENGTH).graph <= 1.05 * real
    by_length = [(m.cost(1, 128).graph, m.cost(2, 64).graph) for m in (on_cpu, on_gpu)]  # equal tokens
    (long, short), (long_on_gpu, short_on_gpu) = by_length
    assert long - short > 3 * 4 * 128 * 64 * (4 + 1)  # 3 layers of 4 heads of floats and masks, for half as many pairs
    assert abs(long_on_gpu - short_on_gpu) < (long - short) / 4  # the mask of padding, in float


def test_peaks_are_those_of_a_real_backward(tmp_path: Path) -> None:
    config = settings(make("bert", tmp_path))
    encoder = load_encoder(config).train()
    ids_BL = torch.ones((TEXTS, LENGTH), dtype=torch.int64)
    with LiveBytes([*encoder.parameters(), *encoder.buffers()]) as live:
        encoder(ids_BL, torch.ones_like(ids_BL)).sum().backward()
    counted = UnloadedModel(config, None, NUMBERS["fp32"], on_gpu=False).cost(TEXTS, LENGTH)
    assert max(counted.forward, counted.with_gradients) == pytest.approx(live.peak, rel=0.02)
    gradients = sum(p.grad.nbytes for p in encoder.parameters())
    assert live.now == pytest.approx(gradients, rel=0.01)
    assert counted.with_gradients - gradients < counted.backward < counted.with_gradients


def test_operations_are_those_that_torch_counts_at_any_length(tmp_path: Path) -> None:
    config = settings(make("qwen3", tmp_path), attention="eager")  # torch has no count for fused attention of a CPU
    encoder = load_encoder(config).eval()
    model = UnloadedModel(config, None, NUMBERS["fp32"], on_gpu=False)
    for texts, length in ((2, 24), (5, 9)):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            encoder(torch.ones((texts, length), dtype=torch.int64), torch.ones((texts, length), dtype=torch.int64))
        assert model.forward_flops((texts, length)) == pytest.approx(counter.get_total_flops(), rel=1e-6)
    fused = UnloadedModel(settings(tmp_path), None, NUMBERS["fp32"], on_gpu=False)
    assert fused.forward_flops((2, 24)) == model.forward_flops((2, 24))


def test_a_head_counts_and_no_weights_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make("bert", tmp_path)
    modules = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Dense", "2_Dense")]
    kinds = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{name}"}
        for i, (name, path) in enumerate(modules)
    ]
    (tmp_path / "modules.json").write_text(json.dumps(kinds))
    for path, content in (
        ("1_Pooling", {"word_embedding_dimension": 64, "pooling_mode_mean_tokens": True}),
        ("2_Dense", {"in_features": 64, "out_features": 48, "bias": True, "activation_function": "torch.nn.Tanh"}),
    ):
        (tmp_path / path).mkdir()
        (tmp_path / path / "config.json").write_text(json.dumps(content))
    weights = {"linear.weight": torch.zeros(48, 64), "linear.bias": torch.zeros(48)}
    save_file(weights, tmp_path / "2_Dense" / "model.safetensors")
    config = settings(tmp_path, pooling=None)
    expected = sum(p.numel() for p in load_encoder(config).parameters())
    monkeypatch.setattr(BertModel, "from_pretrained", _refuse)
    monkeypatch.setattr(Dense, "load_torch_weights", _refuse)
    model = UnloadedModel(config, None, NUMBERS["bf16_weights"], on_gpu=False)
    assert sum(p.numel() for p in model.parameters) == expected
    assert model.encoder.dim == 48
    assert {p.dtype for p in model.parameters} == {torch.bfloat16}
    assert model.cost(TEXTS, LENGTH).graph > 0


def test_checkpointing_keeps_less_and_computes_the_forward_again(tmp_path: Path) -> None:
    folder = make("bert", tmp_path)
    plain, checkpointed = (
        UnloadedModel(settings(folder, gradient_checkpointing=on), None, NUMBERS["fp32"], on_gpu=False)
        for on in (False, True)
    )
    assert checkpointed.recomputes
    assert not plain.recomputes
    assert checkpointed.cost(4, 32).graph < 0.5 * plain.cost(4, 32).graph


@pytest.mark.parametrize("on_gpu", [False, True])
def test_dropout_that_checkpointing_draws_again_is_counted(tmp_path: Path, on_gpu: bool) -> None:
    config = settings(make("bert", tmp_path, dropout=0.1), gradient_checkpointing=True)
    drops, does_not = (UnloadedModel(config, rate, NUMBERS["bf16"], on_gpu=on_gpu).cost(4, 32) for rate in (0.1, 0.0))
    assert drops.graph - does_not.graph == 4 * 32 * 64  # the mask of the embeddings, outside of all layers
    assert drops.backward > does_not.backward


def test_a_model_whose_forward_reads_numbers_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = UnloadedModel(settings(make("bert", tmp_path)), None, NUMBERS["fp32"], on_gpu=False)
    monkeypatch.setattr(BertModel, "forward", lambda self, input_ids, **_: print(int(input_ids.sum())))
    with pytest.raises(CannotCountError, match="does not run on tensors without numbers") as error:
        model.cost(2, 8)
    assert "\n" not in str(error.value)
