"""Do more and better negatives help? Static, replaced and re-ranked negatives, and cbb, on whole packages held out.

    python -m benchmarks.evidence --data-root DIR --out FOLDER [--size small|gpu] [--jobs 2] [--part negatives]
    python -m benchmarks.evidence --out FOLDER --table        # shows what is finished; trains nothing

Trains a small model that has room to learn (`inputs/start.py`) on the docstrings of all installed packages
(`inputs/corpus.py`). A run with in-batch negatives alone shows first where training flattens, and fixes the number of
steps; the others compare negatives, then what a step holds (`arms.py`). Learning rates are chosen
on development sets; `plan.py` has the order. SIGTERM stops the runs (status 75); the same command continues them, also
after a kill. The results are FOLDER/result.md, result.json and figures/.
"""

from __future__ import annotations

import shutil
import time
from argparse import Namespace
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.evidence.arms import BANKS, CURVE, MIXTURE, NEGATIVES, RELATIVE, SIZES, Part, Size
from benchmarks.evidence.inputs.data import mixture_sets, negatives_sets, write_data
from benchmarks.evidence.inputs.start import starting_model
from benchmarks.evidence.plan import (
    PARTS,
    SWEEP_SEED,
    Planned,
    curve_run,
    num_runs,
    reason_to_skip,
    stages,
    steps_of_runs,
)
from benchmarks.evidence.recipes import Place, Run, recipe
from benchmarks.evidence.results import START, Results
from benchmarks.runner.experiment import MODEL, agreed_facts, chosen_runs, execute, experiment_parser, mine
from benchmarks.runner.process import harness, run_module
from benchmarks.runner.tokens import equal_token_quota

ARMS = (*NEGATIVES, *MIXTURE)


def main() -> None:
    parser = experiment_parser(
        __doc__,
        data="retrieval/, prompt_response/, sts/ and classification/",
        sizes=tuple(SIZES),
        sizes_are="small: two CPU cores; gpu: a GPU; tiny: to try the command",
        arms=ARMS,
        model="cut3",
        model_is="the starting model: cutN or freshN (the first N layers of all-MiniLM-L6-v2, with or without their "
        "weights), a folder or a hub name",
    )
    parser.add_argument("--part", choices=PARTS, action="append", help="only this part of the experiment")
    execute(parser, train, show)


def show(out: Path, facts: dict[str, Any]) -> str:
    """Write the results and return them as Markdown. The imports of the figures are heavy, so they happen only here."""
    from benchmarks.evidence.tables import write_tables

    sets = {"negatives": negatives_sets(out, out), "mixture": mixture_sets(out, out)}  # their names are read only
    names: dict[Part, list[str]] = {part: list(sets[part].test) for part in PARTS}
    return write_tables(out, facts, SIZES[facts["size_name"]], names)


def train(options: Namespace, out: Path) -> None:
    """Train and test the runs that the options choose, stage by stage."""
    size, parts = SIZES[options.size], tuple(options.part or PARTS)
    wanted = chosen_runs(options.only, ARMS, options.seeds) if options.only else None
    for reason in filter(None, map(reason_to_skip, ARMS)):
        print(reason, flush=True)
    place, facts = prepare(options.data_root.resolve(), out, options.model, options.size)
    experiment = Experiment(size, place, facts["in_batch_quota"], num_runs(size, options.seeds, parts), parts)
    for stage in stages(size, options.seeds, parts, wanted, experiment.dev_score):
        experiment.run(stage, options.jobs)


def prepare(root: Path, out: Path, model: str, size_name: str) -> tuple[Place, dict[str, Any]]:
    """Write the starting model and the data, mine the banks and score the starting model. Existing files are kept.

    Raises:
        ValueError: `out` holds an experiment with different settings, or a file of the data is missing.
    """
    size = SIZES[size_name]
    place = Place(root, out, starting_model(model, out / "models"))

    def make() -> dict[str, Any]:
        unfinished = out / "data.part"
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(place.data, ignore_errors=True)
        facts = write_data(root, unfinished, size.data)
        unfinished.rename(place.data)
        sizes = size.quota, size.per_query, size.max_length
        return {**facts, "in_batch_quota": equal_token_quota(place.start, place.data, "docstrings", *sizes)}

    facts = agreed_facts(out, {"model": model, "size_name": size_name, "size": asdict(size)}, make)
    for bank, (by_teacher, is_filtered) in BANKS.items():
        mine(
            MODEL if by_teacher else place.start,
            out,
            place.data,
            "docstrings",
            candidates=size.candidates,
            max_length=size.max_length,
            bank=bank,
            options=["--relative", RELATIVE] if is_filtered else [],
        )
    Experiment(size, place, facts["in_batch_quota"], 0).score(place.start, START, ("mixture",))
    return place, facts


@dataclass(frozen=True, slots=True)
class Experiment:
    """Trains and tests runs. num_runs: of these parts of the experiment, for the estimate of the hours left."""

    size: Size
    place: Place
    in_batch_quota: int
    num_runs: int
    parts: tuple[Part, ...] = PARTS

    @property
    def results(self) -> Results:
        return Results(self.place.out)

    def dev_score(self, run: Run) -> float:
        """The score of a finished run on the development sets."""
        trained = self.results.trained(run)
        assert trained is not None, f"{run.name} chooses a rate, but is not trained"
        return trained.dev_score()

    def steps(self) -> int:
        """Number of steps of the runs that compare negatives: as the finished curve says."""
        trained = self.results.trained(curve_run(self.size))
        if trained is None:
            return self.size.curve_steps
        return steps_of_runs({step: trained.dev_score(step) for step in trained.dev if step}, self.size)

    def quota_without_negatives(self, arm: str) -> int:
        """Queries of a step without hard negatives, for `tokens_of` an arm by the tokens that its steps have had."""
        tokens_of = None if arm not in NEGATIVES else NEGATIVES[arm].tokens_of
        if tokens_of is None:
            return self.in_batch_quota
        seen = [
            self.results.mean_tokens(Run(swept, self.size.rates[0], SWEEP_SEED)) for swept in (tokens_of, "in_batch")
        ]
        return max(1, round(self.in_batch_quota * seen[0] / seen[1]))

    def run(self, stage: Sequence[Planned], jobs: int) -> None:
        """Train and test the runs of a stage, `jobs` at a time; finished ones are left as they are.

        Raises:
            subprocess.CalledProcessError: a command failed. It is raised after all other runs of the stage have ended.
            StoppedError: SIGTERM has stopped the running ones, which continue at the next start.
        """
        with ThreadPoolExecutor(jobs) as pool:
            futures = [pool.submit(self._run, planned) for planned in stage]
        for future in futures:
            future.result()

    def _run(self, planned: Planned) -> None:
        run, started = planned.run, time.monotonic()
        if self.results.is_finished(run, planned.tested):
            return
        folder = self.place.run_folder(run)
        if not self.results.trained_file(run).exists():
            steps = self.size.curve_steps if run.arm == CURVE else self.steps()
            file = self.place.out / "recipes" / f"{run.name}.yaml"
            file.parent.mkdir(parents=True, exist_ok=True)
            content = recipe(run, self.size, steps, self.quota_without_negatives(run.arm), self.place)
            file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
            harness("train", file)
            self.results.record_trained(run, folder)
        if planned.tested:
            self.score(str(folder), run.name, (run.part,))
            shutil.rmtree(folder / "model")
        print(f"{run.name}: {time.monotonic() - started:.0f} s; {self.progress()}", flush=True)

    def score(self, model: str, name: str, parts: Sequence[Part]) -> None:
        """Score a model on the test sets of parts and write scores/NAME.json. Does nothing if the file exists."""
        file = self.results.score_file(name)
        if not file.exists():
            paths = [path for part in parts for path in self.place.sets(part).test.values()]
            run_module("benchmarks.evidence.score", model, file, self.size.max_length, *paths)

    def progress(self) -> str:
        """How many runs are trained, and how long the steps of the others take if they take as long."""
        trained = [run for run in self.results.all_trained() if run.run.part in self.parts]
        seconds = [run.seconds for run in trained if run.run.arm != CURVE]
        left = (self.num_runs - len(trained)) * sum(seconds) / max(1, len(seconds)) / 3600
        return f"{len(trained)} of {self.num_runs} runs trained, the others have about {left:.1f} hours of steps"
