"""What `harness plan` shows of the prediction: memory, traffic and seconds of a rank, and what does not fit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from harness.prediction.curve import Scaling
    from harness.prediction.predict import Prediction

_GIB = 2**30


def memory_table(prediction: Prediction) -> Table:
    """A row per holding, a column per moment of a step."""
    from rich.table import Table

    device, moments = prediction.setup.device, prediction.moments
    peak, free = prediction.peak_bytes / _GIB, prediction.free_bytes / _GIB
    fits = "fits" if peak <= free else "does not fit"
    table = Table(
        title=f"predicted memory of a rank, GiB: {peak:.2f} of {free:.1f} "
        f"on {device.name}, {fits} (ZeRO {prediction.setup.zero.stage}, {prediction.setup.training.precision})"
    )
    table.add_column("holds")
    for moment in moments:
        table.add_column(f"{moment} *" if moment == prediction.peak_moment else moment, justify="right")
    names = dict.fromkeys(name for held in moments.values() for name, num_bytes in held.items() if num_bytes)
    for name in names:
        table.add_row(name, *(_gib(held.get(name, 0)) for held in moments.values()))
    table.add_section()
    table.add_row("all", *(_gib(sum(held.values())) for held in moments.values()))
    return table


def cost_lines(prediction: Prediction) -> list[str]:
    """Traffic and seconds of a step, in words."""
    from harness.encoder.partial.depth import trained_line

    sent, times, setup = prediction.sent, prediction.seconds, prediction.setup
    parts = ", ".join(f"{name} {_bytes(num_bytes)}" for name, num_bytes in sent.items() if num_bytes)
    replayed, setting = prediction.micro_batches - prediction.graphs_kept, setup.training.activation_memory
    size = prediction.size
    lines = [trained_line(size.total, size.total + size.frozen)] if size.frozen else []
    lines += [
        f"a rank keeps the graphs of {prediction.graphs_kept} of {prediction.micro_batches} micro-batches"
        + (f" and encodes {replayed} twice" if replayed else "")
        + f" (training.activation_memory: {setting})"
    ]
    lines += [f"a rank sends {_bytes(sum(sent.values()))} a step" + (f": {parts}" if parts else "")]
    words = {"computing": times.compute, "optimizer": times.optimizer, "sending": times.communication}
    lines.append(
        f"seconds of a step: {_seconds(times.total)} ("
        + ", ".join(f"{name} {_seconds(value)}" for name, value in words.items())
        + f"), at {setup.utilisation:.0%} of the matrix rate of {setup.device.name}; nothing overlaps"
    )
    if times.compute is None:
        lines.append(f"the matrix rate of {setup.device.name} in {setup.training.precision} is not known")
    if times.communication is None:
        lines.append("the rate between ranks is not known: give --network GB/S")
    if setup.training.compile:
        lines.append("training.compile: not counted; memory and seconds are those of the same step without it")
    if prediction.host_bytes:
        lines.append(f"a rank also holds {prediction.host_bytes / _GIB:.2f} GiB of CPU memory (offload)")
    return lines


def write_json(prediction: Prediction, path: Path) -> None:
    """Write everything that was predicted."""
    from harness.files import replace_file

    replace_file(path, json.dumps(prediction.as_json(), indent=2) + "\n")


def write_curve(scaling: Scaling, name: str, path: Path) -> None:
    """Draw the growth with ranks and texts as a PNG file."""
    from harness.files import replace_file
    from harness.prediction.curve import RANKS, TEXTS, TEXTS_PER_RANK
    from harness.report.figures.scaling import LogPanel, scaling_png

    first = next(iter(scaling.by_ranks.values()))[0]
    limit = first.free_bytes / _GIB, f"memory of {first.setup.device.name}"

    def gib(lines: Mapping[str, list[Prediction]], x: tuple[int, ...]) -> dict[str, list[tuple[float, float | None]]]:
        return {k: [(at, p.peak_bytes / _GIB) for at, p in zip(x, v, strict=True)] for k, v in lines.items()}

    def rate(
        lines: Mapping[str, list[Prediction]], x: tuple[int, ...], texts: list[int]
    ) -> dict[str, list[tuple[float, float | None]]]:
        return {
            key: [
                (at, None if p.seconds.total is None else count / p.seconds.total)
                for at, count, p in zip(x, texts, predictions, strict=True)
            ]
            for key, predictions in lines.items()
        }

    stages = {f"ZeRO {stage}": predictions for stage, predictions in scaling.by_ranks.items()}
    ranks = {f"{count:,} ranks": predictions for count, predictions in scaling.by_texts.items()}
    grown = f"ranks, {TEXTS_PER_RANK:,} texts each"
    panels = [
        LogPanel("GiB a rank", grown, gib(stages, RANKS), limit),
        LogPanel("texts a second", grown, rate(stages, RANKS, [TEXTS_PER_RANK * count for count in RANKS])),
        LogPanel("GiB a rank", "texts a step", gib(ranks, TEXTS), limit),
        LogPanel("texts a second", "texts a step", rate(ranks, TEXTS, list(TEXTS))),
    ]
    png = scaling_png(f"{name}: predicted, not measured", panels, scaling.assumptions)
    replace_file(path, lambda stream: stream.write(png))


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / _GIB:.2f}" if num_bytes else ""


def _bytes(num_bytes: int) -> str:
    unit = next((unit for unit in ("GB", "MB", "kB") if num_bytes >= {"GB": 1e9, "MB": 1e6, "kB": 1e3}[unit]), "bytes")
    return f"{num_bytes / {'GB': 1e9, 'MB': 1e6, 'kB': 1e3, 'bytes': 1}[unit]:.3g} {unit}"


def _seconds(value: float | None) -> str:
    return "not known" if value is None else f"{value:.3g}"
