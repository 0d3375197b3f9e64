"""Train a tiny model for many steps, and look whether memory, seconds of a step and open files stay as they are.

    python -m benchmarks.soak [--steps 20000] [--keep FOLDER] [--out FILE.json]

The recipe has all kinds of tasks, replaced negatives, dropout, evaluations, checkpoints and new rankings, so that what
they leave behind is seen. One rank on this machine. The first tenth of the steps, in which caches fill, is the measure
for the last tenth. Memory is what the process alone holds, without pages of mapped files. Exit status 1: not flat.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.runner import command_line
from benchmarks.runner.process import in_own_process
from harness.settings.environment import prepare_environment

_MEMORY_SHARE, _SECONDS_SHARE = 0.02, 0.10  # how much more the last tenth may need than the first
_SAMPLES = 2_000  # of a run
_RECIPE_TIMES = 20  # evaluations, checkpoints and rankings of a run


@dataclass(frozen=True, slots=True)
class Sample:
    """What the process held after a step, and how long the steps since the last sample took, in the middle."""

    step: int
    num_bytes: int
    num_files: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the first and the last tenth of a run needed. Bytes and files are the most, seconds the middle."""

    steps: int
    first_bytes: int
    last_bytes: int
    first_files: int
    last_files: int
    first_seconds: float
    last_seconds: float

    @property
    def problems(self) -> list[str]:
        """What is not flat, in words."""
        found = []
        if self.last_bytes > (1 + _MEMORY_SHARE) * self.first_bytes:
            found.append(f"memory grew by {self.last_bytes / self.first_bytes - 1:.1%}")
        if self.last_files > self.first_files:
            found.append(f"open files grew from {self.first_files} to {self.last_files}")
        if self.last_seconds > (1 + _SECONDS_SHARE) * self.first_seconds:
            found.append(f"steps took {self.last_seconds / self.first_seconds - 1:.0%} longer")
        return found


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="train there, and leave the run there")
    command_line.add_out(parser)
    options = parser.parse_args()
    prepare_environment()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        samples = in_own_process(soak, str(options.keep or scratch), options.steps)
    verdict = judge(samples)
    show(samples, verdict, time.monotonic() - started)
    command_line.write_json(
        options.out, {"verdict": asdict(verdict), "samples": [asdict(sample) for sample in samples]}
    )
    sys.exit(1 if verdict.problems else 0)


def soak(folder: str, steps: int) -> list[Sample]:
    """Train `steps` tiny steps in this process."""
    prepare_environment()
    import torch

    from harness.config import load_recipe
    from harness.report.alive.memory import own_bytes
    from harness.report.report import Report
    from harness.trainer import train
    from tests.tiny import make_data, make_model, make_recipe

    torch.set_num_threads(1)
    place = Path(folder)
    make_model(place / "model")
    make_data(place)
    every = max(1, steps // _RECIPE_TIMES)
    changes = [
        f"training.steps={steps}",
        "training.learning_rate=1e-5",
        f"checkpoint.every={every}",
        f"evaluation.every={every}",
        f"mining={{rule: v2, check: upcoming, floor: 0.5, remine: {{every: {every}, candidates: 20}}}}",
        "tasks.faq.negatives.offset=0",
    ]
    samples: list[Sample] = []
    recent: list[float] = []
    width = max(1, steps // _SAMPLES)
    record = Report.step

    def step(self: Report, metrics: Mapping[str, float]) -> None:
        record(self, metrics)
        recent.append(metrics["seconds"])
        if len(recent) == width:
            files = len(os.listdir("/proc/self/fd"))
            samples.append(Sample(int(metrics["step"]), own_bytes(), files, float(np.median(recent))))
            recent.clear()

    Report.step = step  # type: ignore[method-assign]
    train(load_recipe(str(make_recipe(place)), changes))
    return samples


def judge(samples: Sequence[Sample]) -> Verdict:
    """Compare the last tenth of a run with its first; of the first, the first half is left out for the seconds."""
    tenth = max(1, len(samples) // 10)
    first, last = samples[:tenth], samples[-tenth:]
    settled = samples[tenth // 2 : tenth] or first
    return Verdict(
        samples[-1].step,
        max(sample.num_bytes for sample in first),
        max(sample.num_bytes for sample in last),
        max(sample.num_files for sample in first),
        max(sample.num_files for sample in last),
        float(np.median([sample.seconds for sample in settled])),
        float(np.median([sample.seconds for sample in last])),
    )


def show(samples: Sequence[Sample], verdict: Verdict, seconds: float) -> None:
    """Print ten rows of the run, and what is not flat."""
    print("    step   memory MB   open files   ms a step")
    for part in np.array_split(np.arange(len(samples)), min(10, len(samples))):
        of_part = [samples[i] for i in part]
        megabytes = max(sample.num_bytes for sample in of_part) / 1e6
        files, seconds_of_step = max(s.num_files for s in of_part), float(np.median([s.seconds for s in of_part]))
        print(f"{of_part[-1].step:8,d}{megabytes:12,.1f}{files:13d}{1000 * seconds_of_step:12.2f}")
    grown = verdict.last_bytes / verdict.first_bytes - 1
    flat = "; ".join(verdict.problems) or "all is flat"
    print(f"{verdict.steps:,} steps in {seconds:,.0f} s: memory {grown:+.2%}; {flat}")
