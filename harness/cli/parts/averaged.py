"""`harness export --average`: loads checkpoints of a run, averages their weights, and scores what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isnan
from pathlib import Path

from harness.cli.parts.exported_forms import ScoredData, as_embed
from harness.data.table.tokenisation import Tokeniser
from harness.encoder.encoder import Encoder
from harness.evaluation.kinds.table import main_metric_of
from harness.evaluation.results import results_table, selection_score
from harness.evaluation.runner import Results
from harness.report.messages import say
from harness.run.averaging.choice import OPTION, Average
from harness.run.averaging.facts import AveragedWeights
from harness.run.averaging.soup import Soup, Weights, greedy
from harness.run.folder import RunFolder


def show(facts: AveragedWeights) -> None:
    """Print what was averaged, and the scores of the single checkpoint and of the mean."""
    say(f"averaged: {facts.words}")
    if facts.before is not None and facts.after is not None:
        from rich.console import Console

        say(f"before: step {facts.single} alone; after: the average")
        Console().print(results_table(facts.before, facts.after))


def averaged(
    folder: RunFolder,
    average: Average,
    load: Callable[[Path], Encoder],
    tokeniser: Tokeniser,
    data: ScoredData | None,
) -> tuple[Encoder, AveragedWeights]:
    """Average checkpoints of a run: the encoder with the mean of their weights, and what was averaged.

    load: the encoder of an exported folder, on the CPU. data: what the scores are of.

    Raises:
        ValueError: there are too few checkpoints, or `greedy` has no data, or no score, to choose by.
    """
    if average.last is None and data is None:
        raise ValueError(
            f"{OPTION}: got greedy without data to choose by, expected development data; name it with --data, or set "
            "evaluation.data in the recipe"
        )
    steps, checkpoints = average.steps(folder), _Checkpoints(folder, load, tokeniser, data)
    if average.last is not None:
        soup, single = checkpoints.mix(steps), steps[-1]
    else:
        scored = [(step, checkpoints.score(checkpoints.mix([step]))) for step in steps]
        checkpoints.check_one_is_scored(steps)
        soup, _ = greedy(scored, checkpoints.weights_of, checkpoints.score)
        single = soup.steps[0]
    before = None if data is None else checkpoints.results(checkpoints.mix([single]))
    after = None if data is None else checkpoints.results(soup)
    return checkpoints.encoder_of(soup), AveragedWeights(average, soup.steps, single, before, after)


class _Checkpoints:
    """Loads the weights of a run's checkpoints, and scores means of them; each mean once."""

    def __init__(
        self, folder: RunFolder, load: Callable[[Path], Encoder], tokeniser: Tokeniser, data: ScoredData | None
    ) -> None:
        self._folder, self._load, self._tokeniser, self._data = folder, load, tokeniser, data
        self._encoder: Encoder | None = None
        self._results: dict[tuple[int, ...], Results] = {}

    def weights_of(self, step: int) -> Weights:
        """The weights after a step, an adapter merged: the mean of two products is not the product of two means."""
        encoder = self._load(self._folder.checkpoints.at(step, OPTION) / "model")
        if encoder.adapter is not None:
            encoder.merge_adapter()
        self._encoder = self._encoder or encoder.eval()
        return encoder.state_dict()

    def mix(self, steps: Sequence[int]) -> Soup:
        """The soup of these steps."""
        soup = Soup()
        for step in steps:
            soup = soup.plus(step, self.weights_of(step))
        return soup

    def encoder_of(self, soup: Soup) -> Encoder:
        """The encoder with the mean of a soup; the same object each time."""
        assert self._encoder is not None  # a soup is made of weights that were loaded
        self._encoder.load_state_dict(soup.mean())
        return self._encoder

    def results(self, soup: Soup) -> Results:
        """The scores of the mean of a soup."""
        if soup.steps not in self._results:
            assert self._data is not None
            encoder = self.encoder_of(soup)
            self._results[soup.steps] = self._data.results(as_embed(encoder), encoder, self._tokeniser)
        return self._results[soup.steps]

    def score(self, soup: Soup) -> float:
        """The mean of the main scores; -inf if one is unknown."""
        return selection_score(self.results(soup))

    def check_one_is_scored(self, steps: Sequence[int]) -> None:
        """Check that one of these checkpoints has a score on all data: among unknown ones there is nothing to choose.

        Raises:
            ValueError: none has; names the data.
        """
        results = [self._results[(step,)] for step in steps]
        unknown = [
            {
                f"{name}/{main_metric_of(metrics)}"
                for name, metrics in one.items()
                if isnan(metrics[main_metric_of(metrics)])
            }
            for one in results
        ]
        if all(unknown):
            names = ", ".join(sorted(set.union(*unknown)))
            raise ValueError(
                f"{OPTION}: got greedy, but no checkpoint of {self._folder.path} has a score of {names} (where all "
                "cosines are equal there is no correlation), expected data that one can be chosen by; name other "
                "--data, or use last:N"
            )
