"""The settings that differ between a run folder's recipe and the recipe of this start, and which of them may.

changes.json in the run folder lists each time that a run went back to an earlier step, and what was changed there:
[{"step", "time", "changed": {setting: [before, after]}, "steps_before": the run's last step until then, or null}]
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config import RunConfig
from harness.files import replace_file
from harness.report.run_file import timestamp
from harness.run.resuming.recognise import recipe_of_run
from harness.settings import checked_json as json
from harness.settings.section import flat

# A run may be continued with other values of these settings; any other change would make it another experiment.
MAY_CHANGE_BETWEEN_STARTS = (
    "output",
    "deepspeed",
    "evaluation",
    "checkpoint",
    "report",
    "data.cache",
    "training.steps",
    "training.epochs",
    "training.epoch_of",
    "training.micro_batch_tokens",
    "training.activation_memory",
    "training.timeout",
)
# These, too, if the run goes back to a step that the user names: what steers training, but is part of no saved state.
MAY_CHANGE_FROM_A_STEP = (
    "training.learning_rate",
    "training.schedule",
    "training.warmup_ratio",
    "training.weight_decay",
    "training.adam_betas",
    "training.adam_epsilon",
    "training.max_grad_norm",
    "training.max_grad_value",
    "training.dropout",
    "loss.temperature",
    "loss.cosent_temperature",
    "loss.beta",
)
_OF_A_TASK = ("weight", "temperature", "teacher_temperature")  # tasks.NAME.weight; a name may contain dots
_PARTS_OF_A_TASK = (["columns"], ["negatives"], ["prompts"])
CHANGES = "changes.json"
Change = tuple[str, Any, Any]  # setting, value before, value now


def changed_settings(recipe: Path, config: RunConfig) -> list[Change]:
    """The settings that differ from the recipe in a run folder and make another experiment; empty without the file."""
    if not recipe.is_file():
        return []
    # RunConfig fills in the defaults of both recipes, so a setting that the old file lacks counts as its default.
    old = flat(recipe_of_run(recipe).model_dump(mode="json"))
    new = flat(config.model_dump(mode="json"))
    differ = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return [(key, old.get(key), new.get(key)) for key in differ if not _is_one_of(key, MAY_CHANGE_BETWEEN_STARTS)]


def may_change_from_a_step(setting: str) -> bool:
    """Whether a run that goes back to a step may have another value of this setting from there on."""
    section, *name, key = setting.split(".")
    of_a_task = section == "tasks" and key in _OF_A_TASK and name[-1:] not in _PARTS_OF_A_TASK
    return of_a_task or _is_one_of(setting, MAY_CHANGE_FROM_A_STEP)


def describe(changes: list[Change]) -> str:
    """The first changes, in words."""
    more = f"; and {len(changes) - 3} more" if len(changes) > 3 else ""
    return "; ".join(f"{key}: {old!r} → {new!r}" for key, old, new in changes[:3]) + more


@dataclass(frozen=True, slots=True)
class ChangeLog:
    """changes.json of a run folder."""

    path: Path

    def read(self) -> list[dict[str, Any]]:
        """The entries, oldest first.

        Raises:
            ValueError: the file holds something else.
        """
        if not self.path.is_file():
            return []
        try:
            entries = json.loads(self.path.read_text(encoding="utf-8"))
            is_valid = isinstance(entries, list) and all(e.keys() >= {"step", "changed"} for e in entries)
        except (ValueError, AttributeError):
            is_valid = False
        if not is_valid:
            raise ValueError(f'{self.path}: got another content, expected a JSON list of {{"step", "changed"}}')
        return entries

    def add(self, step: int, changes: list[Change], steps_before: int | None) -> None:
        """Record that the run goes back to a step. A start that was killed and comes again is recorded once."""
        entries, changed = self.read(), {key: [old, new] for key, old, new in changes}
        if entries and entries[-1]["step"] == step and entries[-1]["changed"] == json.loads(json.dumps(changed)):
            return
        entry = {"step": step, "time": timestamp(), "changed": changed, "steps_before": steps_before}
        replace_file(self.path, json.dumps([*entries, entry], indent=2, ensure_ascii=False) + "\n")


def _is_one_of(setting: str, keys: tuple[str, ...]) -> bool:
    return any(setting == key or setting.startswith(f"{key}.") for key in keys)
