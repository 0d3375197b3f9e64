"""Floor 5: the run folder's contract: is a run finished, may it be continued, where is its model, what to say of it.

runs/NAME/  recipe.yaml  run.json  metrics.jsonl  evaluation.json  checkpoints/  banks/  model/  tensorboard/
            report.html  figures/
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from harness import comm, rank0
from harness.config import BANKS, CHECKPOINTS, RunConfig, dump
from harness.data.plan.task import Task
from harness.engine.checkpoint import Checkpoints, read_arrays, read_state, resolve_pointer
from harness.engine.zero import ZeroEngine
from harness.evaluation.runner import results_table, selection_score
from harness.export.sentence_transformers_folder import model_card
from harness.files import replace_file
from harness.mining.dynamic import DynamicNegatives
from harness.mining.replacement_rule import build_rule
from harness.recipe_file import build, read_yaml
from harness.report.history import RunHistory, read_history
from harness.section import flat
from harness.weights import published_name

# A run may be continued with another value of these; any other change would make it a different experiment.
_FREE = (
    "output",
    "evaluation",
    "checkpoint",
    "data.cache",
    "training.steps",
    "training.micro_batch_tokens",
    "training.keep_graph",
)


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one run and the recipe it is (to be) run with."""

    config: RunConfig
    path: Path

    @classmethod
    def of(cls, config: RunConfig) -> RunFolder:
        """The folder a recipe writes to."""
        return cls(config, Path(config.output))

    @classmethod
    def containing(cls, path: Path) -> RunFolder:
        """The run folder that `path` (itself, or one of its checkpoints) belongs to.

        Raises:
            ValueError: there is none.
        """
        for folder in (path, *path.absolute().parents[:3]):
            if (folder / "recipe.yaml").is_file():
                return cls(build(RunConfig, read_yaml(folder / "recipe.yaml"), str(folder / "recipe.yaml")), folder)
        raise ValueError(f"RUN: got {path}, expected a run folder (with recipe.yaml) or one of its checkpoints")

    @property
    def checkpoints(self) -> Path:
        return self.path / CHECKPOINTS

    @property
    def model(self) -> Path:
        return self.path / "model"

    def is_finished(self) -> bool:
        """Whether this very recipe has been run to its end here: rank 0's answer, on every rank."""
        facts = self.read("run.json", {}) if comm.is_main() and self.config.checkpoint.resume != "never" else {}
        ended = bool(facts.get("finished")) and facts.get("steps") == self.config.training.steps
        return bool(comm.broadcast_object(ended and not self._changes()))

    def refuse_other_recipe(self) -> None:
        """Raise if the folder holds an unfinished or finished run of another experiment that would be overwritten.

        Raises:
            ValueError: names the first keys that differ and the ways out.
        """
        if self.config.checkpoint.resume == "never":
            return
        changes = comm.broadcast_object(self._changes() if comm.is_main() else None)
        if changes:
            shown = "; ".join(f"{key}: {old!r} → {new!r}" for key, old, new in changes[:3])
            raise ValueError(
                f"output: got {self.path}, which holds a run of another recipe ({shown}); set another output, or "
                "checkpoint.resume: never to start afresh there"
            )

    def resume(
        self,
        engine: ZeroEngine,
        negatives: DynamicNegatives,
        checkpoints: Checkpoints,
        fingerprint: dict[str, Any],
    ) -> dict[str, Any]:
        """Load the newest whole checkpoint; returns its state.json, `{"step": 0}` for a fresh start.

        Raises:
            ValueError: all checkpoints are damaged, or the newest was written by another number of ranks, another
                ZeRO stage, or with other data.
        """
        found = self._newest(checkpoints)
        if found is None:
            self.say("starting from step 1")
            return {"step": 0}
        state = read_state(Path(found))
        for key, now, knob in (
            ("world_size", comm.world_size(), "start as many ranks again"),
            ("zero_stage", engine.stage, "set deepspeed to the stage it was written with"),
        ):
            if state[key] != now:
                raise ValueError(
                    f"{found}: got a checkpoint with {key} {state[key]}, expected {now}; {knob}, or set "
                    "checkpoint.resume: never to start afresh"
                )
        changed = [key for key, now in fingerprint.items() if state.get(key) != now]
        if changed:
            raise ValueError(
                f"{found}: got another {' and '.join(changed)} than it was trained with, expected the same "
                "files; restore them, or set another output or checkpoint.resume: never"
            )
        if state["step"] > self.config.training.steps:
            raise ValueError(
                f"training.steps: got {self.config.training.steps}, but {self.path} has been trained for "
                f"{state['step']} steps; raise it to continue, or set another output or checkpoint.resume: never"
            )
        engine.load(Path(found))
        negatives.load_state(read_arrays(Path(found)))
        planned = self.read("run.json", {}).get("steps", self.config.training.steps)
        if planned != self.config.training.steps and comm.is_main():
            self.warn(
                f"training.steps was {planned} and is {self.config.training.steps} now: from here on the learning rate "
                "follows the new schedule"
            )
        if comm.is_main():
            checkpoints.discard_after(int(state["step"]))
        self.say(f"continuing from {found}")
        return state

    def _newest(self, checkpoints: Checkpoints) -> str | None:
        """Rank 0's view of the newest whole checkpoint, on every rank; its error, too."""

        def find() -> str | None:
            if self.config.checkpoint.resume == "never":
                checkpoints.clear()
            newest = checkpoints.newest_whole()
            return None if newest is None else str(newest)

        return rank0.by_main(find)

    def prepare(self, start: int) -> None:
        """recipe.yaml, and neither model/ of an earlier end nor banks/ of an earlier start. On rank 0."""
        if comm.is_main():
            self.path.mkdir(parents=True, exist_ok=True)
            replace_file(self.path / "recipe.yaml", dump(self.config))
            if start < self.config.training.steps:
                shutil.rmtree(self.model, ignore_errors=True)
            if start == 0:
                shutil.rmtree(self.path / BANKS, ignore_errors=True)
            if self.config.evaluation.data and not self.config.evaluation.every:
                self.warn("evaluation.data is given, but evaluation.every is 0: nothing is scored; set it to a number")

    def is_best(self, step: int) -> bool:
        """Whether the scores at this step beat those of every earlier checkpoint; False where it was not evaluated."""
        saved = self.config.checkpoint.every
        evaluated = {row["step"] for row in self.read("evaluation.json", []) if 0 < row["step"] <= step}
        alike = {s for s in evaluated if self.scores(s).keys() == self.scores(step).keys()}
        steps = {s for s in alike if s == step or (saved and s % saved == 0)}
        if step not in steps:
            return False
        metric = self.config.evaluation.main_metric
        return max(steps, key=lambda s: (selection_score(self.scores(s), metric), -s)) == step

    def show_finished(self) -> None:
        """Print the scores of a finished run and where its model lies."""
        if comm.is_main():
            console = Console()
            self.say(f"{self.path} is finished; set another output or checkpoint.resume: never to run it again")
            if self.last_scores():
                console.print(results_table(self.scores(0), self.last_scores()))
            self.say(f"run folder: {self.path}\nmodel: {self.model}")

    def scores(self, step: int) -> dict[str, dict[str, float]]:
        """The scores recorded at a step: data set → metric → value."""
        return {row["dataset"]: row["metrics"] for row in self.read("evaluation.json", []) if row["step"] == step}

    def last_scores(self) -> dict[str, dict[str, float]]:
        """The scores recorded last, after at least one step."""
        last = max((row["step"] for row in self.read("evaluation.json", [])), default=0)
        return self.scores(last) if last else {}

    def read(self, name: str, default: Any) -> Any:
        """A JSON file of the folder, or `default` if it is missing."""
        file = self.path / name
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else default

    def model_card(self, dim: int, *, step: int | None = None) -> str:
        """README.md of the exported model, from what the folder says."""
        rows = self.read("evaluation.json", [])
        last = max((row["step"] for row in rows if step is None or row["step"] <= step), default=0)
        before, after = self.scores(0), self.scores(last)
        scores = [
            (name, metric, before.get(name, {}).get(metric), value)
            for name, metrics in after.items()
            for metric, value in metrics.items()
        ]
        facts = self.read("run.json", {})
        keys = ("harness", "torch", "deepspeed", "transformers")
        versions = {key: facts.get("versions", {}).get(key) for key in keys}
        return model_card(
            name=self.config.name,
            base_model=published_name(self.config.model.name_or_path),
            dim=dim,
            matryoshka_dims=self.config.model.matryoshka_dims,
            recipe_yaml=dump(self.config),
            data=[(d["task"], d["path"], d["rows"], d["hash"]) for d in facts.get("data", [])],
            scores=scores,
            facts={"steps": step or self.config.training.steps, "ranks": facts.get("world_size"), **versions},
        )

    def history(self) -> RunHistory:
        """What the run has recorded so far, for its report."""
        settings = flat(self.config.model_dump(mode="json"))
        return read_history(self.path, self.config.name, settings, build_rule(self.config.mining))

    def say(self, text: str) -> None:
        """A line of rank 0."""
        if comm.is_main():
            Console().print(text, soft_wrap=True, highlight=False, markup=False)

    def say_bad_rows(self, tasks: Sequence[Task]) -> None:
        """How many rows `data.on_bad_row: skip` left out, and the first of them."""
        for task in tasks:
            if task.data.bad_rows and comm.is_main():
                self.warn(f"task {task.config.name}: {task.data.bad_rows} bad rows left out, {task.data.num_rows} kept")
                for message in task.data.bad_row_messages:
                    self.warn(message)

    def warn(self, text: str) -> None:
        """A line that is shown on every level."""
        Console(stderr=True).print(f"warning: {text}", soft_wrap=True, highlight=False, markup=False)

    def _changes(self) -> list[tuple[str, Any, Any]]:
        file = self.path / "recipe.yaml"
        if not file.is_file():
            return []
        # Read as a recipe, so that a key this version added with a default is no change.
        old = flat(build(RunConfig, read_yaml(file), str(file)).model_dump(mode="json"))
        new = flat(self.config.model_dump(mode="json"))
        keys = [key for key in {**old, **new} if not any(key == f or key.startswith(f + ".") for f in _FREE)]
        return [(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)]


def is_run(name: str) -> bool:
    """Whether MODEL is a run folder or one of its checkpoints (not the exported model/ in it)."""
    folder = resolve_pointer(Path(name))
    return (folder / "recipe.yaml").is_file() or (folder / "state.json").is_file()


def model_folder(name: str) -> str:
    """Where MODEL's weights lie: a run's model/ or its newest whole checkpoint's, a checkpoint's model/, else MODEL.

    Raises:
        ValueError: a run folder without a model yet.
    """
    folder = resolve_pointer(Path(name))
    if (folder / "state.json").is_file() and (folder / "model").is_dir():
        return str(folder / "model")
    if not (folder / "recipe.yaml").is_file():
        return name
    if (folder / "model").is_dir():
        return str(folder / "model")
    newest = Checkpoints(folder / CHECKPOINTS, keep=1).newest_whole()
    if newest is None:
        raise ValueError(f"MODEL: got {name}, a run without a finished model or a whole checkpoint yet")
    return str(newest / "model")
