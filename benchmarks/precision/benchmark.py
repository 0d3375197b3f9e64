"""Does a precision keep its word: are its losses and gradients those of fp32, and what does it cost?

    python -m benchmarks.precision --data-root DIR [--precisions bf16 fp16 bf16_weights] [--batch 256] [--steps 8]
        [--stage 1] [--threads N] [--model NAME] [--gradient-pairs 32] [--out FILE.json]

The same recipe (benchmarks/peers/alpaca_in_batch.yaml: MiniLM, in-batch negatives, 128 tokens, dropout 0) is trained in
fp32 and in each precision on the first pairs of DIR/prompt_response/alpaca_en/train.jsonl.gz, each in a new process.
Exit status 1 for bf16 or fp16: the loss of a step differs from fp32's by more than 0.5 %, or the gradient of the first
step errs by more than 1.5 times the error of plain autocast over one graph. bf16_weights is shown without a bound.
"""

from __future__ import annotations

import gzip
import os
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

from benchmarks.precision.measure import HALF, Curve, Settings, gradient_errors, train
from benchmarks.runner import command_line
from benchmarks.runner.process import in_own_process

TRAIN_FILE = Path("prompt_response/alpaca_en/train.jsonl.gz")
LOSS_BOUND, GRADIENT_BOUND = 0.005, 1.5


@dataclass(frozen=True, slots=True)
class Result:
    """One precision. The errors of gradients are None for fp32 and bf16_weights."""

    precision: str
    curve: Curve
    loss_differences: list[float]  # |loss - fp32's| / |fp32's| of every step
    gradient_error: float | None
    plain_gradient_error: float | None

    @property
    def problems(self) -> list[str]:
        """What breaks the precision's word; a number that is NaN does."""
        if self.gradient_error is None or self.plain_gradient_error is None:
            return []
        bad = [step for step, value in enumerate(self.loss_differences, 1) if not value <= LOSS_BOUND]
        problems = [f"losses differ by more than {LOSS_BOUND:.1%} in step {', '.join(map(str, bad))}"] if bad else []
        allowed = GRADIENT_BOUND * self.plain_gradient_error
        if not self.gradient_error <= allowed:
            problems.append(f"gradients err by {self.gradient_error:.1e}, allowed {allowed:.1e}")
        return problems


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--precisions", nargs="+", choices=(*HALF, "bf16_weights"), default=["bf16", "bf16_weights"])
    parser.add_argument("--batch", type=int, default=256, help="pairs of a step")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--stage", type=int, default=1, choices=(0, 1, 2, 3), help="of ZeRO")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--model", default="demo-minilm")
    parser.add_argument("--gradient-pairs", type=int, default=32, help="pairs whose gradients are compared")
    command_line.add_out(parser)
    arguments = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS=str(arguments.threads), RAYON_NUM_THREADS=str(arguments.threads))
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            Path(folder), arguments.model, arguments.batch, arguments.steps, arguments.stage, precision="fp32"
        )
        try:
            write_pairs(arguments.data_root / TRAIN_FILE, settings)
            results = compare(settings, arguments.precisions, arguments.gradient_pairs)
        except ValueError as error:
            parser.error(str(error))
    show(results)
    command_line.write_json(arguments.out, [asdict(result) for result in results])
    sys.exit(1 if any(result.problems for result in results) else 0)


def write_pairs(source: Path, settings: Settings) -> None:
    """Copy as many rows of a gzipped JSON lines file as one epoch needs.

    Raises:
        ValueError: the file is missing or has too few rows.
    """
    if not source.is_file():
        raise ValueError(f"--data-root: got no file {source}, expected one; name the folder that holds {TRAIN_FILE}")
    count = settings.batch * settings.steps
    with gzip.open(source, "rt", encoding="utf-8") as stream:
        lines = list(islice(stream, count))
    if len(lines) < count:
        raise ValueError(f"--batch, --steps: got {count} pairs, expected at most the {len(lines)} of {source}")
    (settings.folder / "pairs.jsonl").write_text("".join(lines), encoding="utf-8")


def compare(settings: Settings, precisions: list[str], gradient_pairs: int) -> list[Result]:
    """Train in fp32 and in each precision, one process after the other. The first result is fp32's."""
    base = in_own_process(train, settings)
    results = [Result("fp32", base, [0.0] * len(base.losses), None, None)]
    for name in precisions:
        changed = replace(settings, precision=name)
        curve = in_own_process(train, changed)
        errors: tuple[float | None, float | None] = (None, None)
        if name in HALF:
            errors = in_own_process(gradient_errors, replace(changed, batch=gradient_pairs))
        results.append(Result(name, curve, differences(curve.losses, base.losses), *errors))
    return results


def differences(losses: list[float], truth: list[float]) -> list[float]:
    """|loss - truth| / |truth|, step by step."""
    return [abs(a - b) / max(abs(b), 1e-12) for a, b in zip(losses, truth, strict=True)]


def show(results: list[Result]) -> None:
    """Print a line for every precision, then the verdict."""
    base = results[0].curve
    for result in results:
        curve = result.curve
        print(f"{result.precision:<13}" + " ".join(f"{loss:.4f}" for loss in curve.losses))
        print(
            f"{'':<13}largest difference {max(result.loss_differences):.3%}; {curve.texts_per_second:.1f} texts/s "
            f"({curve.texts_per_second / base.texts_per_second:.2f} x fp32), "
            f"{curve.cpu_seconds_per_step:.1f} CPU s a step "
            f"({base.cpu_seconds_per_step / curve.cpu_seconds_per_step:.2f} x), "
            f"peak {curve.peak_memory_bytes / 2**20:.0f} MiB"
        )
        if result.gradient_error is not None:
            print(
                f"{'':<13}gradients err by {result.gradient_error:.2e}, plain autocast by "
                f"{result.plain_gradient_error:.2e}"
            )
    for result in results:
        for problem in result.problems:
            print(f"FAIL {result.precision}: {problem}")
    if not any(result.problems for result in results):
        print(f"PASS: losses within {LOSS_BOUND:.1%} of fp32's, gradients within {GRADIENT_BOUND} x plain autocast's")
