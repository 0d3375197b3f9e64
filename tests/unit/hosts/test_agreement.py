"""Ranks that differ are named, with their host and what most others have."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.hosts.agreement import NetworkSpeed, differences, named
from harness.run.startup import check

HOSTS = ["a", "a", "b", "b"]


def test_ranks_that_differ_are_named_with_their_host() -> None:
    facts = [{"torch": "2.13", "recipe": "x"}, {"recipe": "x"}, {"torch": "2.11", "recipe": "x"}, {"recipe": "y"}]
    assert differences(facts, HOSTS) == [
        'torch: got "2.11" on rank 2 (b), expected "2.13" as on rank 0 (a)',
        'recipe: got "y" on rank 3 (b), expected "x" as on rank 0 (a)',
    ]


def test_what_most_ranks_have_is_what_is_expected() -> None:
    """So the one host that was forgotten at an update is named, also if it is that of rank 0."""
    facts = [{"torch": value} for value in ("2.11", "2.11", "2.13", "2.13", "2.13")]
    assert differences(facts, [*HOSTS, "c"]) == [
        'torch: got "2.11" on rank 0 (a), rank 1 (a), expected "2.13" as on rank 2 (b)'
    ]


def test_ranks_that_agree_or_say_nothing_are_not_named() -> None:
    assert differences([{"torch": "2.13"}, None, {"torch": "2.13"}, None], HOSTS) == []


def test_of_many_ranks_some_are_named_and_the_others_counted() -> None:
    assert named(range(6), ["a"] * 6) == "rank 0 (a), rank 1 (a), rank 2 (a), rank 3 (a) and 2 more"


def test_the_network_is_told_in_units_of_the_field() -> None:
    speed = NetworkSpeed(barrier_seconds=2e-4, gather_seconds=8e-3, row_bytes=4 << 20, num_ranks=3)
    assert speed.line() == "a barrier takes 0.20 ms, a gather of 3 x 4.2 MB 8.0 ms (1.05 GB/s received by a rank)"


def test_data_that_differs_is_named_by_task_rank_and_host(monkeypatch: pytest.MonkeyPatch) -> None:
    of_ranks: list[dict[str, Any]] = [{"data of faq": "1", "tokenizer": "t"}, {"data of faq": "2", "tokenizer": "t"}]
    gathered: list[Any] = []

    def gather(value: Any) -> Any:
        gathered.append(value)
        return of_ranks

    monkeypatch.setattr(check, "comm", SimpleNamespace(world_size=lambda: 2, gather_objects=gather))
    monkeypatch.setattr(check, "hosts_of_ranks", lambda: ["a", "b"])
    with pytest.raises(ValueError, match=r'^data of faq: got "2" on rank 1 \(b\), expected "1" as on rank 0 \(a\)'):
        check.check_inputs({"data": {"faq": "1"}, "tokenizer": "t"})
    assert gathered == of_ranks[:1]
