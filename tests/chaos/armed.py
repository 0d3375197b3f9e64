"""`--module tests.chaos.armed train ...`: the harness, whose rank CHAOS_RANK kills itself in the phase CHAOS_PHASE.

The phase is left at a moment at which its work is half done, where there is such a moment.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

PHASES = ("embed", "score", "replay", "step", "save", "re-mine", "export")


def main() -> None:
    """Arm this rank if it is the one, and run the command."""
    phase = os.environ.get("CHAOS_PHASE")
    if phase and os.environ.get("RANK") == os.environ["CHAOS_RANK"]:
        _arm(phase, int(os.environ["CHAOS_STEP"]))
    from harness.__main__ import main as command

    command()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _arm(phase: str, step: int) -> None:
    from harness import trainer
    from harness.engine.zero import ZeroEngine
    from harness.losses.objective import Objective
    from harness.mining import remine
    from harness.run import save

    now = _Now()
    trainer.embed = now.during("embed", trainer.embed)
    trainer.replay = now.during("replay", trainer.replay)
    trainer.train_step = now.counting(trainer.train_step)
    if phase in ("embed", "replay"):  # the first of several micro-batches is done
        _after(
            ZeroEngine, "forward" if phase == "embed" else "accumulate", lambda: now.phase == phase and now.step == step
        )
    elif phase == "score":
        _after(Objective, "backward", lambda: now.step == step)
    elif phase == "step":  # this rank's weights have changed
        _after(ZeroEngine, "update_weights", lambda: now.step == step)
    elif phase == "save":
        _after(ZeroEngine, "save", lambda: now.step >= step, _cut_files)
    elif phase == "re-mine":
        remine.mine = _dying_after(remine.mine, lambda: now.step >= step)
    elif phase == "export":  # of the finished run: the last step has been saved
        save.save_trained_model = trainer.save_trained_model = _armed_export(save, trainer.save_trained_model)
    else:
        raise ValueError(f"CHAOS_PHASE: got {phase}, expected one of {', '.join(PHASES)}")


class _Now:
    """Which step and phase this rank is in."""

    def __init__(self) -> None:
        self.step, self.phase = 0, ""

    def during(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def phase(*args: Any, **options: Any) -> Any:
            self.phase = name
            try:
                return function(*args, **options)
            finally:
                self.phase = ""

        return phase

    def counting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def step(run: Any, step: Any) -> Any:
            self.step = step.number
            return function(run, step)

        return step


def _after(place: type, name: str, is_time: Callable[[], bool], first: Callable[..., None] | None = None) -> None:
    original = getattr(place, name)

    def method(self: Any, *args: Any, **options: Any) -> Any:
        result = original(self, *args, **options)
        if is_time():
            if first is not None:
                first(*args)
            _die()
        return result

    setattr(place, name, method)


def _dying_after(function: Callable[..., Any], is_time: Callable[[], bool]) -> Callable[..., Any]:
    def armed(*args: Any, **options: Any) -> Any:
        result = function(*args, **options)
        if is_time():
            _die()
        return result

    return armed


def _cut_files(folder: Path) -> None:
    """What this rank has written of a checkpoint is there by half."""
    for path in folder.rglob("*.pt"):
        os.truncate(path, path.stat().st_size // 2)


def _armed_export(save: Any, save_trained_model: Callable[..., Any]) -> Callable[..., Any]:
    """On rank 0 the model is written and not checked yet; another rank waits for it."""

    def armed(*args: Any) -> None:
        if os.environ["RANK"] == "0":
            export = save.export_model
            save.export_model = lambda *more, **options: (export(*more, **options), _die())
            save_trained_model(*args)
        _die()

    return armed


if __name__ == "__main__":
    main()
