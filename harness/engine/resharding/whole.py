"""Reads DeepSpeed's files of a checkpoint, of any number of ranks and ZeRO stage, as whole weights and Adam moments.

stage 0    one file: the weights by name, torch's optimizer state by position
stage 1, 2 a file per rank: of each parameter group a slice of one flat tensor, and where in it each weight's piece lies
stage 3    a file per rank: of each weight an equal piece, the last one padded, laid side by side

Files are memory-mapped and opened as weights only, so a rank holds one weight at a time, and no code in them runs.
DeepSpeed's own way (universal checkpoints) knows neither stage 0 nor the way from stage 2 to stage 3 (0.19.8).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.engine.average.optimizer import AVERAGE
from harness.engine.deepspeed_files.read_write import weights_only

MOMENTS = ("exp_avg", "exp_avg_sq")
_TENSORS = (*MOMENTS, AVERAGE)
_RANK = re.compile(r"zero_pp_rank_(\d+)_mp_rank_00_(optim|model)_states\.pt$")


class WholeState:
    """The weights (fp32) and moments of a checkpoint, by name, whatever layout they were saved in.

    groups: the names of the trained weights in the order of the optimizer's groups, for stage 0, which stores none.
    """

    def __init__(self, folder: Path, stage: int, groups: list[list[str]]) -> None:
        with weights_only():
            self._shards = [_load(path) for path in _of_ranks(folder, "optim")]
            models = _of_ranks(folder, "model") or [folder / "mp_rank_00_model_states.pt"]
            self._model = _load(models[0])
        if not self._shards and stage > 0:
            raise ValueError(f"{folder}: got no optimizer state of ZeRO stage {stage}, expected what DeepSpeed writes")
        self._stage = stage
        self._names = [name for group in groups for name in group]

    @property
    def client_state(self) -> dict[str, Any]:
        """What the engine itself has stored beside DeepSpeed's state."""
        return self._model

    @property
    def num_updates(self) -> float:
        """How many updates Adam has made: its bias correction depends on it."""
        states = self._optimizer_states()
        return float(next(iter(states.values()))["step"]) if states else 0.0

    @property
    def kinds(self) -> tuple[str, ...]:
        """Which tensors the optimizer keeps of each weight."""
        states = self._optimizer_states()
        return tuple(_moments(next(iter(states.values())))) if states else MOMENTS

    def __iter__(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """(name, {"fp32", "exp_avg", "exp_avg_sq"}) of each trained weight, flat, one after the other."""
        if self._stage == 0:
            yield from self._undivided()
        elif self._stage == 3:
            yield from self._divided_each()
        else:
            yield from self._divided_flat()

    def _optimizer_states(self) -> dict[int, dict[str, Any]]:
        if self._stage == 0:
            return self._model["optimizer"]["state"]
        return _states_of(self._shards[0], self._stage)

    def _undivided(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        states, module = self._optimizer_states(), self._model["module"]
        for position, name in enumerate(self._names):
            yield name, {"fp32": module[name].float().flatten(), **_moments(states[position])}

    def _divided_flat(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Ranks hold consecutive slices of each group; a weight may begin on one rank and end on the next."""
        optimizers = [shard["optimizer_state_dict"] for shard in self._shards]
        states = [_states_of(shard, self._stage) for shard in self._shards]
        for group, _ in enumerate(optimizers[0]["param_slice_mappings"]):
            flats = [
                {"fp32": optimizer["single_partition_of_fp32_groups"][group], **_moments(state[group])}
                for optimizer, state in zip(optimizers, states, strict=True)
            ]
            places = [optimizer["param_slice_mappings"][group] for optimizer in optimizers]
            for name in dict.fromkeys(name for place in places for name in place):
                pieces = [(flat, place[name]) for flat, place in zip(flats, places, strict=True) if name in place]
                yield name, _joined([{k: v.narrow(0, at.start, at.numel) for k, v in f.items()} for f, at in pieces])

    def _divided_each(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        states = [_states_of(shard, self._stage) for shard in self._shards]
        fp32 = [shard["optimizer_state_dict"]["fp32_flat_groups"] for shard in self._shards]
        for group, shapes in enumerate(self._model["param_shapes"]):
            flats = [{"fp32": fp32[r][group], **_moments(states[r][group])} for r in range(len(self._shards))]
            start = 0
            for name, shape in shapes.items():
                numel = -(-shape.numel() // len(self._shards))
                pieces = [{key: value.narrow(0, start, numel) for key, value in flat.items()} for flat in flats]
                yield name, {key: value[: shape.numel()] for key, value in _joined(pieces).items()}
                start += numel


def _of_ranks(folder: Path, kind: str) -> list[Path]:
    """The files of all ranks of one kind, in the order of the ranks."""
    found = [(match, path) for path in folder.iterdir() if (match := _RANK.search(path.name)) and match[2] == kind]
    return [path for _, path in sorted(found, key=lambda entry: int(entry[0][1]))]


def _load(path: Path) -> dict[str, Any]:
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def _states_of(shard: dict[str, Any], stage: int) -> dict[int, dict[str, Any]]:
    """The optimizer's state of each group in a rank's file."""
    key = "optimizer_state_dict" if stage == 3 else "base_optimizer_state"
    return shard["optimizer_state_dict"][key]["state"]


def _moments(state: dict[str, Any]) -> dict[str, Tensor]:
    """The moments of a weight, and its average if the run has kept one."""
    return {key: state[key].flatten() for key in _TENSORS if key in state}


def _joined(pieces: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {key: torch.cat([piece[key] for piece in pieces]) for key in pieces[0]}
