"""Means of weights are those of numpy, and the greedy soup is that of the paper's recipe."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.run.averaging.choice import Average
from harness.run.averaging.soup import Soup, greedy


def weights(step: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return {"a": torch.randn(3, 2, generator=generator), "b": torch.randn(4, generator=generator).to(torch.bfloat16)}


def soup_of(*steps: int) -> Soup:
    soup = Soup()
    for step in steps:
        soup = soup.plus(step, weights(step))
    return soup


def test_the_mean_is_that_of_float32_numbers_and_leaves_its_parts_alone() -> None:
    """bf16 weights are summed as float32; positions and other integers stay."""
    first = weights(1) | {"position_ids": torch.arange(4)}
    before = {name: tensor.clone() for name, tensor in first.items()}
    soup = Soup().plus(1, first)
    whole = soup.plus(2, weights(2) | {"position_ids": torch.arange(4)}).mean()
    for name in ("a", "b"):
        expected = np.mean([weights(step)[name].float().numpy() for step in (1, 2)], axis=0)
        np.testing.assert_allclose(whole[name].numpy(), expected, rtol=1e-6)
        assert whole[name].dtype == torch.float32
    assert torch.equal(whole["position_ids"], torch.arange(4))
    assert all(torch.equal(before[name], tensor) for name, tensor in first.items())
    assert torch.equal(soup.mean()["a"], before["a"])


def test_weights_of_another_model_are_refused_with_their_name() -> None:
    for other in ({"a": torch.zeros(3, 2)}, {"a": torch.zeros(2, 2), "b": torch.zeros(4)}):
        with pytest.raises(ValueError, match=r"--average: got step 7 with other weights than step 1 \([ab]\)"):
            soup_of(1).plus(7, other)


def test_greedy_keeps_a_checkpoint_exactly_if_the_mean_with_it_scores_no_worse() -> None:
    """For every order of the three later steps' effects, against the recipe written out."""
    for signs in itertools.product((-1.0, 0.0, 1.0), repeat=3):
        single = {1: 0.5, 2: 0.4, 3: 0.45, 4: 0.1}
        effect = dict(zip((3, 2, 4), signs, strict=True))  # by falling score, after step 1

        def score(soup: Soup, effect: dict[int, float] = effect) -> float:
            return 0.5 + sum(effect[step] for step in soup.steps if step != 1)

        soup, highest = greedy(list(single.items()), weights, score)
        kept, best = [1], 0.5
        for step in (3, 2, 4):
            now = 0.5 + sum(effect[one] for one in (*kept, step) if one != 1)
            if now >= best:
                kept, best = [*kept, step], now
        assert soup.steps == tuple(kept)
        assert highest == best
        torch.testing.assert_close(soup.mean(), soup_of(*kept).mean())


@pytest.mark.parametrize("given", ["last", "last:1", "last:0", "last:x", "last:-2", "all", "greedy:2", ""])
def test_what_is_no_average_costs_a_line(given: str) -> None:
    with pytest.raises(ValueError, match=r"--average: got .*expected last:N with N of at least 2, or greedy"):
        Average.parsed(given)
    assert str(Average.parsed("last:3")) == "last:3"
    assert str(Average.parsed("greedy")) == "greedy"
