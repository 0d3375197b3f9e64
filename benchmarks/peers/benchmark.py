"""Compare loss curve, speed and memory with CachedMultipleNegativesRankingLoss of sentence-transformers.

    pip install -c constraints.txt accelerate        # for the Trainer of sentence-transformers; not for the harness
    python -m benchmarks.peers --data-root DIR [--pairs 2048] [--batch 256] [--steps N] [--rounds 1]
        [--threads N] [--precision fp32] [--model NAME] [--evaluate] [--out FILE.json]
        [--flag-embedding PYTHON] [--tevatron PYTHON]

All sides train the same model on the first pairs of DIR/prompt_response/alpaca_en/train.jsonl.gz, for at most one
epoch, with the settings of alpaca_in_batch.yaml. Each side runs in a new process; the sides take turns, and the median
of the rounds counts. In every step ours and sentence-transformers use the rows of our plan, and both have our settings
of the memory allocator. Exit status 1: in at least one step their losses differ by more than 2 %, or ours is not 3
times as fast.

FlagEmbedding and Tevatron need packages that contradict ours. They take part if PYTHON names the interpreter of an
environment of their own; they draw other rows and pad to the longest text of a batch, so only speed and memory count:

    pip install torch==2.13.0 FlagEmbedding==1.4.2 "transformers<5" "huggingface_hub<1" "datasets<4" \\
        "sentence-transformers<6" "peft<0.18"
    pip install torch==2.13.0 tevatron==0.1.0 transformers==4.44.2 "accelerate<1" datasets
"""

from __future__ import annotations

import gzip
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from shutil import copyfile
from typing import Any

from benchmarks.peers.commands import CommandResult, train_with_command
from benchmarks.peers.sides import RECIPE, Settings, Side, train_ours, train_theirs
from benchmarks.runner import command_line
from benchmarks.runner.process import in_own_process
from harness.settings.environment import prepare_environment

BOUND = 0.02  # largest allowed relative difference of the losses of a step
GOAL = 3.0  # texts per second: ours / sentence-transformers
TRAIN_FILE = Path("prompt_response/alpaca_en/train.jsonl.gz")
EVALUATION_FOLDER = Path("retrieval/alpaca_en")
PACKAGES = ("torch", "transformers", "deepspeed", "sentence-transformers")


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=256, help="pairs of a step")
    parser.add_argument("--steps", type=int, help="default: one epoch")
    parser.add_argument("--rounds", type=int, default=1, help="how often each side runs; the median counts")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--model", default="demo-minilm", help="a name or folder that both sides can load")
    parser.add_argument("--evaluate", action="store_true", help=f"nDCG@10 on DIR/{EVALUATION_FOLDER}, too")
    parser.add_argument("--flag-embedding", type=Path, metavar="PYTHON", help="measure FlagEmbedding, too")
    parser.add_argument("--tevatron", type=Path, metavar="PYTHON", help="measure Tevatron, too")
    command_line.add_out(parser)
    arguments = parser.parse_args()
    others = {"FlagEmbedding": arguments.flag_embedding, "Tevatron": arguments.tevatron}
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            folder=Path(folder),
            model=arguments.model,
            batch=arguments.batch,
            steps=arguments.pairs // max(1, arguments.batch) if arguments.steps is None else arguments.steps,
            precision=arguments.precision,
            evaluation=arguments.data_root / EVALUATION_FOLDER if arguments.evaluate else None,
        )
        try:
            write_pairs(arguments.data_root / TRAIN_FILE, arguments.pairs, settings)
            result = compare(settings, arguments.threads, max(1, arguments.rounds), others)
        except ValueError as error:
            parser.error(str(error))
    show(result)
    command_line.write_json(arguments.out, result)
    sys.exit(1 if result["failed_steps"] or result["speed_ratio"] < GOAL else 0)


def write_pairs(source: Path, count: int, settings: Settings) -> None:
    """Copy the first `count` rows of a gzipped JSON lines file to `settings.pairs_file`.

    Raises:
        ValueError: the file is missing, it has too few rows, or the steps need more than one epoch.
    """
    if not source.is_file():
        raise ValueError(f"--data-root: got no file {source}, expected one; name the folder that holds {TRAIN_FILE}")
    if settings.batch < 2 or settings.steps < 1 or settings.batch * settings.steps > count:
        raise ValueError(
            f"--batch, --steps: got {settings.steps} steps of {settings.batch} pairs, expected at least 1 step of 2 "
            f"and at most one epoch of {count} pairs; raise --pairs or lower the others"
        )
    with gzip.open(source, "rt", encoding="utf-8") as stream:
        lines = list(islice(stream, count))
    if len(lines) < count:
        raise ValueError(f"--pairs: got {count}, expected at most the {len(lines)} rows of {source}; lower --pairs")
    settings.pairs_file.write_text("".join(lines), encoding="utf-8")


def compare(settings: Settings, threads: int, rounds: int, others: Mapping[str, Path | None]) -> dict[str, Any]:
    """Train all sides in turn, and compare our curve with that of sentence-transformers.

    others: a name of `COMMANDS` → the interpreter that has this trainer; None: it does not take part.

    Raises:
        ValueError: the sides' learning rates differ, or accelerate is not installed.
    """
    if find_spec("accelerate") is None:
        raise ValueError(
            "sentence-transformers: got no accelerate, which its Trainer needs, expected it installed; "
            "pip install -c constraints.txt accelerate"
        )
    prepare_environment()
    # Set before the sides start, because torch and tokenizers read these variables when they are imported.
    os.environ.update(OMP_NUM_THREADS=str(threads), RAYON_NUM_THREADS=str(threads))
    our_rounds, their_rounds, other_rounds = [], [], []
    for number in range(rounds):
        round_settings = replace(settings, folder=settings.folder / f"round{number}")
        round_settings.folder.mkdir()
        copyfile(settings.pairs_file, round_settings.pairs_file)
        ours, plan_facts = in_own_process(train_ours, round_settings)
        our_rounds.append(ours)
        their_rounds.append(in_own_process(train_theirs, round_settings, plan_facts.rows))
        other_rounds.append(train_others(others, round_settings, threads))
    ours, theirs = median_round(our_rounds), median_round(their_rounds)
    return {
        "versions": {package: version(package) for package in PACKAGES},
        "precision": settings.precision,
        "batch": settings.batch,
        "texts_per_second_of_rounds": [
            (our.texts_per_second, their.texts_per_second) for our, their in zip(our_rounds, their_rounds, strict=True)
        ],
        "speed_ratio": ours.texts_per_second / theirs.texts_per_second,
        "ours": asdict(ours),
        "theirs": asdict(theirs),
        "others": {name: asdict(median_of_other([found[name] for found in other_rounds])) for name in other_rounds[0]},
        "plan": asdict(plan_facts),
        **judge(ours, theirs),
    }


def train_others(others: Mapping[str, Path | None], settings: Settings, threads: int) -> dict[str, CommandResult]:
    """Train with the other trainers whose interpreter is given: name → its figures, or why there are none."""
    given = {name: python for name, python in others.items() if python is not None}
    return {name: train_with_command(name, python, settings, threads) for name, python in given.items()}


def median_round(rounds: Sequence[Side]) -> Side:
    """The round whose speed is the median (of an even number: the slower of the two in the middle)."""
    return sorted(rounds, key=lambda side: side.texts_per_second)[(len(rounds) - 1) // 2]


def median_of_other(rounds: Sequence[CommandResult]) -> CommandResult:
    """As `median_round`; a round without figures, if there is one."""
    by_speed = sorted(rounds, key=lambda result: result.texts_per_second or 0.0)
    failed = [result for result in rounds if result.problem is not None]
    return failed[0] if failed else by_speed[(len(rounds) - 1) // 2]


def judge(ours: Side, theirs: Side) -> dict[str, Any]:
    """Return |ours − theirs| / |theirs| of every step's loss, and the steps (counted from 1) above the bound or NaN.

    Raises:
        ValueError: the sides used different learning rates, so that their curves cannot be compared.
    """
    if any(rate > 1e-9 for rate in relative_differences(ours.learning_rates, theirs.learning_rates)):
        raise ValueError(
            f"learning rates: got {ours.learning_rates} on our side, expected theirs, {theirs.learning_rates}; "
            f"set training.warmup_ratio: 0.0 in {RECIPE.name}"
        )
    differences = relative_differences(ours.losses, theirs.losses)
    return {
        "relative_differences": differences,
        "bound": BOUND,
        "failed_steps": [step for step, difference in enumerate(differences, start=1) if not difference <= BOUND],
    }


def relative_differences(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """|ours − theirs| / |theirs|, element by element."""
    return [abs(our - their) / max(abs(their), 1e-12) for our, their in zip(ours, theirs, strict=True)]


def show(result: dict[str, Any]) -> None:
    """Print the losses of every step, then the pairs that the plan masked, speed, memory, and the verdict."""
    ours, theirs, plan = result["ours"], result["theirs"], result["plan"]
    differences = result["relative_differences"]
    print(", ".join(f"{package} {number}" for package, number in result["versions"].items()))
    print(f"{result['precision']}, {ours['threads']} threads, {result['batch']} pairs a step\n")
    print(f"{'step':>4} {'ours':>10} {'theirs':>10} {'relative difference':>20}")
    for step, row in enumerate(zip(ours["losses"], theirs["losses"], differences, strict=True), start=1):
        print("{:>4} {:>10.6f} {:>10.6f} {:>20.4%}".format(step, *row))
    norms = relative_differences(ours["gradient_norms"], theirs["gradient_norms"])
    print(f"\ngradient norms differ by at most {max(norms):.4%}; learning rates are equal")
    print(f"(query, known positive) pairs that ours masks and theirs counts as negatives: {sum(plan['masked_pairs'])}")
    print(f"documents equal to another of their step, counted once by ours: {sum(plan['repeated_documents'])}\n")
    print(f"{'':<7}{'texts/s':>9} {'peak MiB':>9}  nDCG@10 on {EVALUATION_FOLDER}")
    for name, side in (("ours", ours), ("theirs", theirs)):
        scores = ", ".join(f"{when} {score:.4f}" for when, score in side["ndcg_at_10"].items()) or "not asked for"
        print(f"{name:<7}{side['texts_per_second']:>9.1f} {side['peak_memory_bytes'] / 2**20:>9.0f}  {scores}")
    speed, memory = (ours[key] / theirs[key] for key in ("texts_per_second", "peak_memory_bytes"))
    print(f"{'ratio':<7}{speed:>9.2f} {memory:>9.2f}\n")
    for name, other in result["others"].items():
        if other["problem"] is None:
            ratio = ours["texts_per_second"] / other["texts_per_second"]
            peak = other["peak_memory_bytes"] / 2**20
            print(
                f"{name}: {other['texts_per_second']:.1f} texts/s, peak {peak:.0f} MiB; ours is {ratio:.2f} x as fast"
            )
        else:
            print(f"{name}: no figures ({other['problem']})")
    verdict = "PASS" if speed >= GOAL else "FAIL"
    print(f"{verdict}: {speed:.2f} x the texts per second of sentence-transformers, goal {GOAL:g} x")
    failed = ", ".join(map(str, result["failed_steps"]))
    if failed:
        print(f"FAIL: losses differ by more than {result['bound']:.0%} in step {failed}")
    else:
        print(f"PASS: losses differ by at most {max(differences):.4%}, allowed {result['bound']:.0%}")
