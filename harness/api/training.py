"""`train`: a recipe to a run folder, in this process or on several ranks; and what came of it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.api.recipe import Recipe, as_recipe
from harness.api.session import session
from harness.api.short_mistakes import with_short_mistakes

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from harness.run.callbacks import Callback

Scores = dict[str, dict[str, float]]  # data set → metric → value


@dataclass(frozen=True)
class Training:
    """A run folder, and what it has recorded. Everything is read from its files, when it is asked for."""

    folder: Path

    @property
    def scores(self) -> Scores:
        """The scores of `model`: data set → metric → value; of an unfinished run those recorded last; may be empty."""
        return self._folder().model_scores()

    @property
    def scores_before(self) -> Scores:
        """The scores of the starting model."""
        return self._folder().scores(0)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """A row per step (loss, learning_rate, seconds ...), as in metrics.jsonl: `pandas.DataFrame(run.metrics)`."""
        from harness.report.metrics_file import read_rows

        return read_rows(self.folder / "metrics.jsonl")[0]

    @property
    def finished(self) -> bool:
        """Whether the last step is trained and the model exported. Otherwise `train` with the same recipe goes on."""
        return bool(self._folder().read("run.json", {}).get("finished"))

    @property
    def model(self) -> Path:
        """The folder of the exported model, which sentence-transformers and others read."""
        return self.folder / "model"

    def load(self, **arguments: Any) -> SentenceTransformer:
        """The trained model. arguments: of `SentenceTransformer`, such as `device` or `truncate_dim`.

        Raises:
            ValueError: the run is not finished, so that there is no model yet.
        """
        if not self.model.is_dir():
            raise ValueError(f"{self.folder}: got no model, expected a finished run; call train again, which goes on")
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(str(self.model), **arguments)

    def _folder(self) -> Any:
        from harness.run.folder import RunFolder

        return RunFolder.containing(self.folder)

    def __repr__(self) -> str:
        state = "finished" if self.finished else "not finished"
        return f"Training({str(self.folder)!r}, {state}, {len(self.metrics)} steps, scores={self.scores})"


@with_short_mistakes
def train(
    recipe: Recipe | str | os.PathLike[str] | Mapping[str, Any],
    *,
    callbacks: Sequence[Callback] = (),
    ranks: int | None = None,
    verbose: bool = False,
) -> Training:
    """Train, evaluate and export; a run that was stopped continues, one that is finished is not trained again.

    recipe: a `Recipe`, a dictionary, the path of a YAML file, or the name of a recipe of this package.
    callbacks: objects of subclasses of `Callback`; under a launcher, equally many on every rank.
    ranks: None: in this process, on one GPU or the CPU; under a launcher, as one of its ranks. A number: so many
        processes of this host, one per GPU (without a GPU, on the CPU), started by DeepSpeed's launcher; this process
        shows what they print, and waits.
    verbose: show what DeepSpeed, torch and transformers have to say.

    Raises:
        ValueError: settings, data or checkpoints that do not fit, or numbers that are not finite; a line per mistake.
        RuntimeError: with `ranks`, a rank has failed otherwise; the message ends with what it printed.
    """
    recipe = as_recipe(recipe)
    if ranks is not None and callbacks:
        raise ValueError(
            f"callbacks: got {len(callbacks)} with ranks {ranks}, which are processes of their own, expected none; "
            "leave ranks out, or call train in a script that a launcher starts"
        )
    if ranks is not None:
        from harness.api.on_ranks import train_on_ranks

        train_on_ranks(recipe, ranks, verbose)
    else:
        _train_here(recipe, callbacks, verbose)
    return Training(Path(recipe.config.output).absolute())


def _train_here(recipe: Recipe, callbacks: Sequence[Callback], verbose: bool) -> None:
    with session(verbose):
        from harness import trainer
        from harness.process.stop_request import StopAskedError

        try:
            trainer.train(recipe.loaded, callbacks=callbacks)
        except StopAskedError as error:  # its folder has the file .stop, or this process listens to signals
            from harness.report.messages import say

            say(f"stopped by {error.signal_name}: {error.what_is_saved or 'nothing had to be saved'}")
