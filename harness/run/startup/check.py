"""The start-up check: all ranks have the same code, versions and recipe, and share a folder; disks, clocks, network."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import comm
from harness.config import LoadedRecipe, dump
from harness.data.source.locate import cache_root
from harness.files import check_output
from harness.hosts.agreement import (
    check_shared_folder,
    clock_warnings,
    differences,
    first_of_host,
    hosts_of_ranks,
    measure_network,
    named,
)
from harness.report.messages import say, warn
from harness.report.run_file import package_versions


def check_ranks(loaded: LoadedRecipe, *, show: bool = False) -> None:
    """Check that all ranks agree before anything heavy is loaded; with one rank there is nothing to check.

    show: say what was measured, also with one host. Every rank must call it.

    Raises:
        ValueError: ranks differ, or do not share the output folder; one line each, with rank and host.
    """
    if comm.world_size() == 1:
        return
    hosts = hosts_of_ranks()
    speaks = first_of_host(hosts)
    _refuse(differences(comm.gather_objects(_facts(loaded) if speaks else _recipe_fact(loaded)), hosts))
    problems = comm.gather_objects(_disk_problem(loaded) if speaks else None)
    _refuse([f"{problem} ({named([rank], hosts)})" for rank, problem in enumerate(problems) if problem])
    num_hosts = len(set(hosts))
    if num_hosts > 1:
        check_shared_folder(Path(loaded.config.output), "output", hosts)
    for line in clock_warnings(hosts):
        warn(line)
    if num_hosts > 1 or show:
        plural = "s" if num_hosts > 1 else ""
        say(f"{comm.world_size()} ranks on {num_hosts} host{plural} agree; {measure_network().line()}")


def check_inputs(hashes: Mapping[str, Any]) -> None:
    """Check that all ranks have read the same data, banks, tokenizer and guide. Every rank must call it.

    hashes: of this rank, see `Run.input_hashes`.

    Raises:
        ValueError: the message names what differs, the rank and its host.
    """
    if comm.world_size() == 1:
        return
    facts = {
        f"{name} of {task}" if task else name: value
        for name, entry in hashes.items()
        for task, value in (entry.items() if isinstance(entry, Mapping) else [("", entry)])
    }
    found = differences(comm.gather_objects(facts), hosts_of_ranks())
    _refuse([f"{line} (content hashes); give every host the same files" for line in found])


def _facts(loaded: LoadedRecipe) -> dict[str, Any]:
    """What must be equal on every host: versions of packages and of this code, and the recipe."""
    versions = package_versions()
    versions["python"] = ".".join(str(versions["python"]).split(".")[:2])
    if versions["commit"] is None:  # not known, for example without git
        del versions["commit"]
    return {**{f"version of {name}": value for name, value in versions.items()}, **_recipe_fact(loaded)}


def _recipe_fact(loaded: LoadedRecipe) -> dict[str, str]:
    return {"recipe (its hash)": hashlib.sha256(dump(loaded.config).encode()).hexdigest()[:12]}


def _disk_problem(loaded: LoadedRecipe) -> str | None:
    """Why this host cannot write its cache, in words; None if it can."""
    try:
        check_output(cache_root(loaded.config.data.cache), "data.cache")
    except ValueError as error:
        return str(error)
    return None


def _refuse(lines: Sequence[str]) -> None:
    if lines:
        raise ValueError("\n".join(lines))
