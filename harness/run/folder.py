"""The folder of one run: whether the run is finished, whether it may be continued, and what it has recorded.

runs/NAME/  recipe.yaml  run.json  metrics.jsonl  evaluation.json  checkpoints/  banks/  model/  adapter/  tensorboard/
            report.html  figures/  changes.json (see resuming/changes.py)
"""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import comm, rank0
from harness.config import BANKS, CHECKPOINTS, RunConfig, dump
from harness.data.source.locate import cache_root
from harness.engine.checkpoint import STATE, Checkpoint, Checkpoints, read_state, step_of
from harness.evaluation.best_step import BestStep
from harness.evaluation.early_stopping import reason_to_end
from harness.evaluation.results import results_table, selecting, selection_score
from harness.files import remove_unfinished, replace_file
from harness.mining.config import build_rule
from harness.ownership.claim import OutputFolder
from harness.report.console import RunConsole
from harness.report.history import RunHistory, read_history
from harness.report.messages import say, warn
from harness.report.metrics_file import read_entries, read_rows
from harness.report.report import EVALUATION, METRICS, Report
from harness.report.run_file import RunFile
from harness.run.resuming.changes import CHANGES, Change, ChangeLog, changed_settings, describe, may_change_from_a_step
from harness.run.resuming.finished import is_finished
from harness.run.resuming.recognise import is_run_folder, recipe_of_run
from harness.settings.section import flat


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one run, and the recipe that it is run with."""

    config: RunConfig
    path: Path

    @classmethod
    def of(cls, config: RunConfig) -> RunFolder:
        """The folder that a recipe writes to."""
        return cls(config, Path(config.output))

    @classmethod
    def containing(cls, path: Path) -> RunFolder:
        """The run folder of `path`, which is a run folder, one of its checkpoints, or a folder inside these.

        Raises:
            ValueError: `path` lies in no run folder.
        """
        for folder in (path, *path.absolute().parents[:3]):
            if (folder / "recipe.yaml").is_file():
                return cls(recipe_of_run(folder / "recipe.yaml"), folder)
        raise ValueError(f"RUN: got {path}, expected a run folder (with recipe.yaml) or one of its checkpoints")

    @property
    def checkpoints(self) -> Checkpoints:
        """The run's checkpoints; a new folder has none."""
        return Checkpoints(self.path / CHECKPOINTS, self.config.checkpoint.keep, warn)

    @property
    def changes(self) -> ChangeLog:
        """What was changed when the run went back to earlier steps."""
        return ChangeLog(self.path / CHANGES)

    @property
    def model(self) -> Path:
        """Where the trained model is exported to."""
        return self.path / "model"

    @property
    def adapter(self) -> Path:
        """Where the trained adapter is kept, if the run trains one; `model` holds it merged."""
        return self.path / "adapter"

    @property
    def chooses_best(self) -> bool:
        """Whether the model is the best step by `evaluation.main_metric`, not the last."""
        return self.config.evaluation.main_metric is not None

    def is_finished(self) -> bool:
        """Whether the folder holds a finished run of this recipe. Every rank must call it and gets rank 0's answer."""
        return rank0.by_main(lambda: is_finished(self))

    def refuse_other_recipe(self) -> None:
        """Raise if the folder holds a run of another experiment, which would be overwritten. Every rank must call it.

        Raises:
            ValueError: the message names the first settings that differ and what the user can do.
        """
        if self.config.checkpoint.resume == "never":
            return
        changes = rank0.by_main(self.changed_settings)
        goes_back = isinstance(self.config.checkpoint.resume, int)
        refused = [change for change in changes if not (goes_back and may_change_from_a_step(change[0]))]
        if refused:
            way_back = "checkpoint.resume: STEP to go back to a step and go on from there with these, "
            steered = not goes_back and all(may_change_from_a_step(key) for key, _, _ in changes)
            raise ValueError(
                f"output: got {self.path}, which holds a run of another recipe ({describe(refused)}); set another "
                f"output, {way_back if steered else ''}or checkpoint.resume: never to start afresh there"
            )

    def newest_checkpoint(self) -> Checkpoint | None:
        """The checkpoint to continue from; None for a fresh start. Every rank must call it and gets rank 0's answer.

        It is the newest undamaged one, or that of the step in `checkpoint.resume`.

        Raises:
            ValueError: there are checkpoints, and all of them are damaged; or that step has none; or there are none,
                but a trained model.
        """
        if self.config.checkpoint.resume == "never":
            return None
        found = rank0.by_main(self._checkpoint_to_continue)
        if found is None:
            return None
        rank0.wait_until_visible(found / STATE)
        return Checkpoint(found, read_state(found))

    def _checkpoint_to_continue(self) -> Path | None:
        step = self.step_to_go_back_to()
        if step is not None:
            return self.checkpoints.at(step)
        newest = self._newest_checkpoint()
        for aside in self.checkpoints.kept_aside(after=0 if newest is None else step_of(newest)):
            say(f"{aside} is kept aside and not continued from; checkpoint.resume: {step_of(aside)} would do so")
        return newest

    def go_on_from(self, checkpoint: Checkpoint) -> None:
        """Make it the newest checkpoint, and record what changes from it on. Only rank 0 calls it, before `prepare`."""
        step, changes = self.step_to_go_back_to(), self.changed_settings()
        # Before it is recorded: a start that is killed in between goes back once more, not on from a later checkpoint.
        folder = self.checkpoints.go_on_from(checkpoint.folder, keep_later=step is not None)
        if step is not None:
            rows, _ = read_rows(self.path / METRICS)
            steps_before = rows[-1]["step"] if rows else None
            self.changes.add(step, changes, steps_before)
            say(f"going back to step {step} from step {steps_before}; changed: {describe(changes) or 'nothing'}")
        say(f"continuing from {folder}")

    def step_to_go_back_to(self) -> int | None:
        """The number in `checkpoint.resume`; None if there is none, or if an earlier start has gone back to it."""
        step, entries = self.config.checkpoint.resume, self.changes.read()
        if not isinstance(step, int) or (entries and entries[-1]["step"] == step and not self.changed_settings()):
            return None
        return step

    def _newest_checkpoint(self) -> Path | None:
        newest = self.checkpoints.newest_whole()
        if newest is not None:
            return newest
        facts = self.read("run.json", {})
        if facts.get("finished") or self.model.exists():
            raise ValueError(
                f"output: got {self.path}, where a run of {facts.get('steps', 'unknown')} steps has finished, but no "
                "checkpoint to continue from; set checkpoint.resume: never to train from step 1 (an earlier model/ "
                "stays until the new one is whole), or name another output"
            )
        recorded = len(read_rows(self.path / METRICS)[0])
        if recorded:
            warn(f"{self.path} has recorded {recorded} steps, but has no checkpoint: they are trained again")
        return None

    def claimed(self) -> AbstractContextManager[None]:
        """The folder, used by this run alone. Every rank must enter and leave the context together.

        Raises:
            ValueError: it holds what no run has written, is in use, or cannot be written to.
        """
        cache = cache_root(self.config.data.cache)
        own = cache.relative_to(self.path.absolute()).parts[:1] if cache.is_relative_to(self.path.absolute()) else ()
        return OutputFolder(self.path, "output", "a run folder", is_run_folder, say, own).claimed()

    def prepare(self, trained_steps: int) -> None:
        """Write recipe.yaml and delete files of an earlier start that this start writes again. Every rank calls it."""
        rank0.by_main(lambda: self._prepare(trained_steps))

    def _prepare(self, trained_steps: int) -> None:
        # First of all: a start killed before the end must not leave these checkpoints beside the new recipe.
        if self.config.checkpoint.resume == "never":
            self.checkpoints.clear()
        self.path.mkdir(parents=True, exist_ok=True)
        replace_file(self.path / "recipe.yaml", dump(self.config))
        remove_unfinished(self.model)
        remove_unfinished(self.adapter)
        for rankings in (self.path / BANKS).glob("step-*") if trained_steps == 0 else ():
            if rankings.name != "step-0" or not self.config.mining.remine.at_start:  # whose search may go on
                shutil.rmtree(rankings, ignore_errors=True)
        if self.config.evaluation.data and not self.config.evaluation.every:
            warn("evaluation.data is given, but evaluation.every is 0: nothing is scored; leave the key out")

    def is_best(self, step: int) -> bool:
        """Whether the scores at a step are better than at every earlier checkpoint; False without scores at this step.

        Steps at which other data sets were scored do not count.
        """
        if self.chooses_best:
            return self.best_step.best(step) == step
        every = self.config.checkpoint.every
        has_data = bool(self.config.evaluation.data)
        evaluated = {row["step"] for row in self.read("evaluation.json", []) if 0 < row["step"] <= step}
        scores = {s: selecting(self.scores(s), has_data=has_data) for s in evaluated}
        comparable = {s for s in evaluated if scores[s] and scores[s].keys() == scores.get(step, {}).keys()}
        steps = {s for s in comparable if s == step or (every and s % every == 0)}
        if step not in steps:
            return False
        return max(steps, key=lambda s: (selection_score(scores[s]), -s)) == step

    @property
    def best_step(self) -> BestStep:
        """Which step is the best by the main metric, as far as the run is trained."""
        steps = {row["step"] for row in self.read(EVALUATION, []) if row["step"] > 0}
        kept = self.checkpoints.steps()
        return BestStep(self.config.evaluation.main_metric, {step: self.scores(step) for step in steps}, kept)

    def reason_to_end(self, step: int) -> str | None:
        """Why the run ends early after this step, by the recorded scores; None: it goes on, or was not scored here."""
        scores = {s: results for s, results in self.best_step.scores.items() if s <= step}
        evaluation = self.config.evaluation
        return reason_to_end(evaluation.early_stopping, evaluation.main_metric, scores) if step in scores else None

    def step_of_model(self) -> int | None:
        """The best step, which becomes the model; None: the last step does. A better step that is lost is warned of."""
        choice = self.best_step
        best, lost = choice.best(), choice.lost()
        if self.chooses_best and best is None:
            warn(f"evaluation.main_metric: no checkpoint has a {choice.main_metric}: model/ is the last step")
        elif lost is not None:
            warn(f"step {lost} has the best {choice.main_metric}, but no checkpoint any more: model/ is step {best}")
        return best

    def point_to_best(self, step: int) -> None:
        """Move the pointer `best` to the checkpoint of this step if it has the best scores. Only rank 0 calls it.

        With a main metric, which a continued run may have changed, every checkpoint counts.
        """
        best = self.best_step.best() if self.chooses_best else step if self.is_best(step) else None
        if best is not None:
            self.checkpoints.point_to_best(best)

    def model_step(self) -> int | None:
        """The step of model/ in a finished run; None before."""
        facts = self.read("run.json", {})
        return facts.get("model_step", facts.get("steps")) if facts.get("finished") else None

    def show_finished(self) -> None:
        """Print that the run is finished, its scores, and where its model lies. Only rank 0 prints."""
        if comm.is_main():
            say(f"{self.path} is finished; set another output or checkpoint.resume: never to run it again")
            facts = self.read("run.json", {})
            if early := facts.get("ended_early"):
                say(f"it ended after step {early['step']} of {facts['steps']}: {early['reason']}")
            self.show_result(RunConsole(facts["steps"], facts["steps"]))

    def show_result(self, console: RunConsole | Report) -> None:
        """Show the scores before and after training, the run folder and the model."""
        if after := self.model_scores():
            console.show(results_table(self.scores(0), after))
        console.message(f"run folder: {self.path}")
        best = self.read("run.json", {}).get("best")
        chosen = f" (step {best['step']}, which has the best {best['metric']}: {best['score']:.4f})" if best else ""
        console.message(f"model: {self.model}{chosen}")

    def scores(self, step: int) -> dict[str, dict[str, float]]:
        """The scores recorded at a step: data set → metric → value."""
        return {row["dataset"]: row["metrics"] for row in self.read("evaluation.json", []) if row["step"] == step}

    def model_scores(self) -> dict[str, dict[str, float]]:
        """The scores of model/: those of the best step where a main metric has chosen it, else those recorded last."""
        best = self.read("run.json", {}).get("best")
        return self.scores(best["step"]) if best else self.last_scores()

    def last_scores(self) -> dict[str, dict[str, float]]:
        """The scores recorded last; empty if none were after step 0."""
        last = max((row["step"] for row in self.read("evaluation.json", [])), default=0)
        return self.scores(last) if last else {}

    def read(self, name: str, default: Any) -> Any:
        """A JSON file of the folder, or `default` if it is missing. Raises ValueError if a run does not write such."""
        file = self.path / name
        if not file.is_file():
            return default
        return read_entries(file) if name == EVALUATION else RunFile(file).read()

    def history(self) -> RunHistory:
        """What the run has recorded so far, for its report."""
        settings = flat(self.config.model_dump(mode="json"))
        return read_history(self.path, self.config.name, settings, build_rule(self.config.mining))

    def changed_settings(self) -> list[Change]:
        """The settings (name, old value, new value) that differ from the folder's recipe but must not change."""
        return changed_settings(self.path / "recipe.yaml", self.config)
