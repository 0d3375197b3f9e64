"""Runs over two hosts that are network namespaces: every way to start them, a cut link, a host that differs.

    pytest -p no:xdist -m namespaces tests/namespaces

Each test starts real launchers and takes 10 to 60 seconds, so it runs on demand only.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.namespaces.hosts import Hosts, hosts

pytestmark = pytest.mark.namespaces
QUICK = ("--set", "training.dropout=0", "--set", "evaluation.every=0")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with hosts(tmp_path_factory.mktemp("namespaces") / "hosts") as made:
        yield made


def finish(*processes: Any) -> list[str]:
    outputs = [process.communicate(timeout=180)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(outputs)
    return outputs


def facts(run: Path) -> dict[str, Any]:
    return json.loads((run / "run.json").read_text())


@pytest.fixture(scope="module")
def by_ssh(pair: Hosts, folder: Path) -> str:
    launch = ["./launch.sh", str(folder / "tiny.yaml"), "--hostfile", str(pair.hostfile), *QUICK]
    return finish(pair.start(1, [*launch, "--output", str(folder / "ssh")]))[0]


def test_launch_with_a_hostfile_trains_on_both_hosts_as_it_stands(by_ssh: str, folder: Path) -> None:
    assert "network: net0, the route to 10.77.13.1; GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME choose another" in by_ssh
    assert "2 ranks on 2 hosts agree; a barrier takes " in by_ssh
    assert (facts(folder / "ssh")["finished"], facts(folder / "ssh")["world_size"]) == (True, 2)
    rows = [json.loads(line) for line in (folder / "ssh" / "metrics.jsonl").read_text().splitlines()]
    assert all(row["embedding_bytes_from_other_hosts"] > 0 for row in rows)


def test_without_ssh_every_host_starts_its_own_ranks_and_the_weights_are_the_same(
    by_ssh: str, pair: Hosts, folder: Path
) -> None:
    flags = ["--hostfile", str(pair.hostfile), "--no_ssh", "--output", str(folder / "no_ssh"), *QUICK]
    start = ["./launch.sh", str(folder / "tiny.yaml"), *flags, "--node_rank"]
    finish(*(pair.start(host, [*start, str(host - 1)]) for host in (1, 2)))
    found, expected = (load_file(folder / name / "model" / "model.safetensors") for name in ("no_ssh", "ssh"))
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_tasks_of_srun_on_two_hosts_are_ranks(pair: Hosts, folder: Path) -> None:
    step = {
        "SLURM_JOB_ID": "77", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
        "SLURM_STEP_NODELIST": f"{pair.address(1)},{pair.address(2)}", "SLURM_LOCALID": "0",
    }  # fmt: skip
    command = ["python", "-m", "harness", "train", str(folder / "tiny.yaml"), *QUICK, "--output", str(folder / "srun")]
    tasks = [pair.start(n + 1, command, **step, SLURM_PROCID=str(n), SLURM_NODEID=str(n)) for n in range(2)]
    assert "2 ranks on 2 hosts agree" in finish(*tasks)[0]
    assert facts(folder / "srun")["finished"] is True


def test_torchrun_on_two_hosts_trains(pair: Hosts, folder: Path) -> None:
    recipe, output = str(folder / "tiny.yaml"), str(folder / "torchrun")
    common = ["--nnodes", "2", "--nproc-per-node", "1", "--master-addr", pair.address(1), "--master-port", "29511"]
    last = ["-m", "harness", "train", recipe, *QUICK, "--output", output]
    finish(*(pair.start(n + 1, ["torchrun", *common, "--node-rank", str(n), *last]) for n in range(2)))
    assert facts(folder / "torchrun")["world_size"] == 2


def test_a_host_with_another_recipe_is_named(pair: Hosts, folder: Path) -> None:
    """As when one host's checkout was not updated."""
    environment = {"WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": pair.address(1), "MASTER_PORT": "29512"}
    command = ["python", "-m", "harness", "check", str(folder / "tiny.yaml"), "--set"]
    tasks = [pair.start(n + 1, [*command, f"training.seed={n}"], **environment, RANK=str(n)) for n in range(2)]
    outputs = [task.communicate(timeout=120)[0] for task in tasks]
    assert [task.returncode for task in tasks] == [2, 2]
    assert "recipe (its hash): got " in outputs[0]
    assert "on rank 1 (host-2), expected" in outputs[0]


def test_a_host_that_cannot_be_reached_is_named_before_anything_starts(pair: Hosts, folder: Path) -> None:
    hostfile = pair.folder / "wrong"
    hostfile.write_text(f"{pair.address(1)} slots=1\n{pair.address(77)} slots=1\n")
    launch = ["./launch.sh", str(folder / "tiny.yaml"), "--hostfile", str(hostfile)]
    process = pair.start(1, launch)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 2
    assert output.startswith(f"--hostfile: {pair.address(77)} cannot be reached by ssh without a password (")
    assert output.count("\n") == 1


def test_a_link_that_is_cut_for_5_seconds_costs_nothing_and_one_that_stays_cut_names_the_host(
    pair: Hosts, folder: Path
) -> None:
    run = folder / "cut"
    changes = ("training.steps=100000", "training.timeout=0.3", "checkpoint.every=0")
    settings = [*QUICK, *(word for change in changes for word in ("--set", change)), "--output", str(run)]
    launch = ["./launch.sh", str(folder / "tiny.yaml"), "--hostfile", str(pair.hostfile), *settings]
    process = pair.start(1, launch)

    def rows() -> int:
        file = run / "metrics.jsonl"
        return file.read_text().count("\n") if file.exists() else 0

    _until(lambda: rows() > 5)
    pair.cut(2, True)
    time.sleep(5)
    before = rows()
    pair.cut(2, False)
    _until(lambda: rows() > before + 5)
    pair.cut(2, True)
    started = time.monotonic()
    output = process.communicate(timeout=120)[0]
    assert time.monotonic() - started < 70  # 18 s, and until ssh gives up
    pair.cut(2, False)
    line = next(line for line in output.splitlines() if "training.timeout: rank 0" in line)
    assert "for rank 1 (host-2), not heard of for more than 10 s; start again to go on" in line
    assert process.returncode in (75, 255)


def _until(condition: Any, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
