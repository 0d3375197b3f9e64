"""Saves a run: a checkpoint after a step, and the exported model at the end; warns of long runs that save nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from harness import comm, rank0
from harness.config import RunConfig
from harness.encoder.load import load_encoder
from harness.encoder.partial.config import FreezeSettings
from harness.engine.checkpoint import checkpoint_name, find_damage
from harness.report.console import duration
from harness.run.export import export_adapter, export_model
from harness.run.folder import RunFolder
from harness.run.run import Run
from harness.waits import waits

SECONDS_AT_RISK = 3600.0
_TIMED_STEPS = 5  # after the first, which compiles kernels and fills caches


class LongRunWarning:
    """Warns once, when the first steps have shown their speed, if hours will pass without a checkpoint or a score."""

    def __init__(self, config: RunConfig, trained_steps: int) -> None:
        self._config, self._first_step = config, trained_steps + 1
        self._seconds: list[float] = []

    def message(self, step: int, seconds: float) -> str | None:
        """What to warn of after a step of this number and duration; None after all steps but one."""
        if step == self._first_step or len(self._seconds) == _TIMED_STEPS:
            return None
        self._seconds.append(seconds)
        if len(self._seconds) < _TIMED_STEPS:
            return None
        left = (self._config.training.num_steps - step) * sum(self._seconds) / _TIMED_STEPS
        problems = []
        if self._config.checkpoint.every == 0:
            problems.append("checkpoint.every is 0: if it stops early, all is lost; leave the key out or set a number")
        if self._config.evaluation.data and self._config.evaluation.every == 0:
            problems.append("evaluation.every is 0: nothing is scored; leave the key out or set a number")
        if left < SECONDS_AT_RISK or not problems:
            return None
        return f"about {duration(left)} are left, but {'; '.join(problems)}"


@waits.may_take_long()
def save_checkpoint(run: Run, folder: RunFolder, step: int, *, is_aside: bool = False) -> Path:
    """Save the state of the run after step `step`. Returns the checkpoint's folder. Every rank must call it.

    is_aside: see `Checkpoints.save`.
    """
    with run.engine.averaged_weights():
        weights = run.engine.stored_state()
    state = {
        "name": run.config.name,
        "precision": run.config.training.precision,
        "micro_batch_tokens": run.micro_batch_tokens,
        "rankings": sorted(run.negatives.rankings()),
        **run.input_hashes(),
    }
    return folder.checkpoints.save(
        run.engine,
        step,
        state,
        lambda out: _export_stored(run, folder, weights, out, step),
        is_best=not is_aside and rank0.by_main(lambda: folder.is_best(step)),
        is_aside=is_aside,
        arrays=run.negatives.state() if comm.is_main() else None,
        outside=run.reranking.files(run.negatives.rankings()),
    )


@waits.may_take_long()
def save_trained_model(run: Run, folder: RunFolder) -> None:
    """Write the run folder's model/ and check it against the trained weights in float32. Every rank must call it.

    It is the best step if `evaluation.main_metric` is set, else the last.

    Raises:
        ValueError: embeddings of the exported model differ from those of the trained one; the best checkpoint is
            damaged.
    """
    last_step = run.last_step
    best = rank0.by_main(folder.step_of_model)
    if best not in (None, last_step):
        return rank0.by_main(lambda: _export_checkpoint(run, folder, best))
    with run.engine.averaged_weights():
        weights = run.engine.stored_state()

    def export() -> None:
        if run.encoder.adapter is not None:
            _export_adapter(run, folder, weights, folder.adapter, last_step)
        _export(run, folder, weights, folder.model, last_step, check_texts=run.sample_texts())

    rank0.by_main(export)


def _export_stored(run: Run, folder: RunFolder, weights: Mapping[str, Tensor], out: Path, step: int) -> None:
    """The model/ of a checkpoint: with an adapter, the adapter alone."""
    (_export if run.encoder.adapter is None else _export_adapter)(run, folder, weights, out, step)


def _export_adapter(run: Run, folder: RunFolder, weights: Mapping[str, Tensor], out: Path, step: int) -> None:
    export_adapter(out, folder, run.encoder, run.tokeniser, model=run.config.model, weights=weights, step=step)


def _export_checkpoint(run: Run, folder: RunFolder, step: int) -> None:
    checkpoint = folder.checkpoints.folder / checkpoint_name(step)
    if (problem := find_damage(checkpoint)) is not None:
        raise ValueError(
            f"{checkpoint}: {problem}, expected the whole checkpoint of the best step, which becomes the model; "
            "restore it, or set evaluation.main_metric: null, which takes the last step"
        )
    source = str(checkpoint / "model")
    # On the CPU, whatever the run has trained on: attention that needs a GPU would fail there. The folder has the head
    # and the adapter, if any.
    changes = {"name_or_path": source, "attention": "auto", "lora": None, "freeze": FreezeSettings()}
    model = run.config.model.model_copy(update=changes)
    encoder, tokeniser = load_encoder(model).eval(), run.tokeniser
    if encoder.adapter is not None:  # before it is merged
        weights = encoder.state_dict()
        export_adapter(folder.adapter, folder, encoder, tokeniser, model=model, weights=weights, step=step)
    export_model(folder.model, folder, encoder, tokeniser, model=model, step=step, check_texts=run.sample_texts())


def _export(
    run: Run, folder: RunFolder, weights: Mapping[str, Tensor], out: Path, step: int, check_texts: Sequence[str] = ()
) -> None:
    model = run.config.model
    export_model(
        out, folder, run.encoder, run.tokeniser, model=model, weights=weights, step=step, check_texts=check_texts
    )
