"""Under ZeRO-3 a rank never holds the whole model while it starts, and starts with the same bits as any other stage."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness import comm
from harness.encoder.config import ModelConfig
from harness.encoder.encoder import fingerprint
from harness.encoder.load import load_encoder
from harness.engine import zero
from harness.engine.config import TrainingConfig
from harness.engine.zero import ZeroEngine
from tests.golden_encoders import tiny_backbone
from tests.peak_memory import PeakBytes
from tests.ranks import run_ranks

pytestmark = pytest.mark.distributed

ZERO3 = {"zero_optimization": {"stage": 3}}
TRAINING = TrainingConfig(steps=1)


def make_folders(path: Path) -> list[str]:
    """T5 has tied weights, ALBERT a layer that stands several times; Qwen3 and T5 are stored in bf16."""
    folders = []
    for name, dtype in (("t5", torch.bfloat16), ("albert", torch.float32), ("qwen3", torch.bfloat16)):
        torch.manual_seed(3)
        backbone = tiny_backbone(name)  # type: ignore[arg-type]
        backbone.to(dtype).save_pretrained(path / name)
        folders.append(str(path / name))
    return folders


def starts(folders: list[str]) -> list[dict]:
    """Runs on a rank: per folder the peak while the weights are divided, the rank's shard, and the weights' hash."""
    return [start(ModelConfig(name_or_path=folder, projection_dim=12, pooling=("mean",))) for folder in folders]


def start(config: ModelConfig) -> dict:
    whole = load_encoder(config, seed=5)
    expected, num_bytes = fingerprint(whole.state_dict()), sum(p.numel() * 4 for p in whole.parameters())
    largest = max(p.numel() * 4 for p in whole.parameters())
    del whole
    zero.skip_slow_compilation()
    with PeakBytes() as memory:
        encoder = load_encoder(config, seed=5, as_stored=True)
        zero.divide_weights(encoder, zero.engine_json(ZERO3, TRAINING))
    shard = sum(p.ds_tensor.numel() * 4 for p in encoder.parameters())
    state = ZeroEngine(encoder, TRAINING, ZERO3).module_state()
    return {
        "peak": memory.peak,
        "allowed": 1.3 * shard + largest,
        "whole": num_bytes,
        "equal": not comm.is_main() or fingerprint(state) == expected,
        "exported": sum(
            value.untyped_storage().nbytes() for value in {v.data_ptr(): v for v in state.values()}.values()
        ),
        "dtype": str(encoder.backbone.config.dtype),
    }


def test_a_rank_holds_its_shard_and_one_weight_and_all_ranks_start_with_the_bits_of_the_other_stages(tmp_path):
    found = run_ranks(2, starts, make_folders(tmp_path))
    assert all(row["equal"] for rank in found for row in rank)
    divided = [rank[index] for rank in found for index in (0, 2)]  # ALBERT is hardly more than its one layer
    assert [row["peak"] <= row["allowed"] < row["whole"] for row in divided] == [True] * 4
    # Rank 0 alone takes the whole model to export it, tied weights once.
    assert [row["exported"] for row in found[0]] == [row["whole"] for row in found[0]]
    assert [row["exported"] for row in found[1]] == [0, 0, 0]
    assert {row["dtype"] for row in found[0]} == {"torch.float32"}
