"""Whether a run folder holds a finished run, so that the same command has nothing to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.report.messages import say
from harness.run.resuming.recognise import has_weights, is_run_folder

if TYPE_CHECKING:
    from harness.run.folder import RunFolder


def is_finished(folder: RunFolder) -> bool:
    """Whether the folder holds a finished run of this recipe; says why one that looks so is not. Rank 0 calls it."""
    config = folder.config
    if config.checkpoint.resume == "never" or not is_run_folder(folder.path):
        return False
    facts = folder.read("run.json", {})
    if not facts.get("finished") or not _has_same_length(facts, folder):
        return False
    if folder.changed_settings() or folder.step_to_go_back_to() is not None:
        return False
    before, now = facts.get("main_metric"), config.evaluation.main_metric
    if before != now:
        say(f"{folder.path} is finished, with evaluation.main_metric {before}: {now} chooses its model anew")
        return False
    if not has_weights(folder.model):
        say(f"{folder.path} is finished, but {folder.model} is gone: making it again from the last checkpoint")
    return has_weights(folder.model)


def _has_same_length(facts: Mapping[str, Any], folder: RunFolder) -> bool:
    """Whether the run has ended where this recipe ends, too."""
    training, early = folder.config.training, facts.get("ended_early")
    epochs = facts.get("epochs") or {}
    if training.epochs is None:
        is_same = facts.get("steps") == training.steps
    else:
        is_same = training.epochs == epochs.get("epochs") and training.epoch_of in (None, epochs.get("task"))
    if not is_same or early is None or not early.get("rule"):
        return is_same
    return folder.reason_to_end(early["step"]) is not None  # patience may have been raised since
