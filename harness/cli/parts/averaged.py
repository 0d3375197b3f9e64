"""`harness export --average`: loads checkpoints of a run, averages their weights, and scores what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.cli.parts.exported_forms import ScoredData, as_embed
from harness.data.table.tokenisation import Tokeniser
from harness.encoder.encoder import Encoder
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
        ValueError: there are too few checkpoints, or `greedy` has no data to choose by.
    """
    if average.last is None and data is None:
        raise ValueError(
            f"{OPTION}: got greedy without data to choose by, expected development data; name it with --data, or set "
            "evaluation.data in the recipe"
        )
    steps = average.steps(folder)
    encoder = _plain(load(_model(folder, steps[-1])))
    scores: dict[tuple[int, ...], Results] = {}

    def weights_of(step: int) -> Weights:
        return _plain(load(_model(folder, step))).state_dict()

    def results(soup: Soup) -> Results:
        if soup.steps not in scores:
            assert data is not None
            encoder.load_state_dict(soup.mean())
            scores[soup.steps] = data.results(as_embed(encoder), encoder, tokeniser)
        return scores[soup.steps]

    def score(soup: Soup) -> float:
        return selection_score(results(soup))

    if average.last is not None:
        soup, single = Soup(), steps[-1]
        for step in steps:
            soup = soup.plus(step, weights_of(step))
    else:
        scored = [(step, score(Soup().plus(step, weights_of(step)))) for step in steps]
        soup, _ = greedy(scored, weights_of, score)
        single = soup.steps[0]
    before = None if data is None else results(Soup().plus(single, weights_of(single)))
    after = None if data is None else results(soup)
    encoder.load_state_dict(soup.mean())
    return encoder, AveragedWeights(average, soup.steps, single, before, after)


def _model(folder: RunFolder, step: int) -> Path:
    return folder.checkpoints.at(step, OPTION) / "model"


def _plain(encoder: Encoder) -> Encoder:
    """The encoder with its adapter merged: the mean of two adapters' products is not the product of their means."""
    if encoder.adapter is not None:
        encoder.merge_adapter()
    return encoder.eval()
