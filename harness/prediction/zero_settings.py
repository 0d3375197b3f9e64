"""What a JSON of ds_configs/ says about memory and traffic, with DeepSpeed's own defaults for what it leaves out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ZeroSettings:
    """Sizes count elements. Sources: `deepspeed/runtime/zero/config.py` of DeepSpeed 0.19.

    reduces_to_all: stages 1 and 2 sum a bucket on all ranks and keep a part (`use_multi_rank_bucket_allreduce`).
    """

    stage: int
    reduce_bucket: int
    overlaps: bool
    contiguous: bool
    reduces_to_all: bool
    scatters: bool
    optimizer_on_host: bool
    weights_on_host: bool
    on_disk: bool
    prefetch_bucket: int
    persistence_threshold: int

    @classmethod
    def of(cls, deepspeed_json: Mapping[str, Any]) -> ZeroSettings:
        """The settings of a JSON that `check_deepspeed_json` has accepted."""
        zero = deepspeed_json.get("zero_optimization") or {}
        stage = int(zero.get("stage", 0))
        overlaps = zero.get("overlap_comm")
        optimizer = (zero.get("offload_optimizer") or {}).get("device")
        weights = (zero.get("offload_param") or {}).get("device")
        return cls(
            stage=stage,
            reduce_bucket=int(zero.get("reduce_bucket_size", 500_000_000)),
            overlaps=stage == 3 if overlaps is None else bool(overlaps),
            contiguous=bool(zero.get("contiguous_gradients", True)),
            reduces_to_all=bool(zero.get("use_multi_rank_bucket_allreduce", True)),
            scatters=bool(zero.get("reduce_scatter", True)),
            optimizer_on_host=optimizer in ("cpu", "nvme"),
            weights_on_host=weights in ("cpu", "nvme"),
            on_disk="nvme" in (optimizer, weights),
            prefetch_bucket=int(zero.get("stage3_prefetch_bucket_size", 50_000_000)),
            persistence_threshold=int(zero.get("stage3_param_persistence_threshold", 100_000)),
        )
