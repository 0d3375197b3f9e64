"""The variables of a launcher: ranks of Slurm, and the network interface of the route to the master."""

from __future__ import annotations

import socket

import pytest

from harness.hosts import launched
from harness.hosts.launched import choose_network_interface, expand_counts, first_host, take_ranks_of_slurm

# What `srun --nodes 3 --ntasks 9` sets for its 6th task.
SRUN = {
    "SLURM_JOB_ID": "4711", "SLURM_STEP_ID": "2", "SLURM_STEP_NUM_TASKS": "9", "SLURM_STEP_TASKS_PER_NODE": "4(x2),1",
    "SLURM_STEP_NODELIST": "gpu[07-09]", "SLURM_NODEID": "1", "SLURM_PROCID": "5", "SLURM_LOCALID": "1",
}  # fmt: skip


def test_a_task_of_srun_is_a_rank() -> None:
    environment = dict(SRUN)
    take_ranks_of_slurm(environment)
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR")
    assert [environment[name] for name in names] == ["5", "1", "9", "4", "gpu07"]
    other_step = {**SRUN, "SLURM_STEP_ID": "3"}
    take_ranks_of_slurm(other_step)
    ports = [int(found["MASTER_PORT"]) for found in (environment, other_step)]
    assert ports[0] != ports[1]
    assert all(10_000 <= port < 30_000 for port in ports)


@pytest.mark.parametrize(
    "environment",
    [
        {**SRUN, "RANK": "0", "WORLD_SIZE": "2"},  # torchrun or DeepSpeed, started by srun
        {"SLURM_JOB_ID": "4711", "SLURM_NTASKS": "9", "SLURM_PROCID": "0"},  # the batch script itself
        {**SRUN, "SLURM_STEP_NUM_TASKS": "1"},  # srun --pty bash
    ],
)
def test_other_processes_in_a_job_of_slurm_are_left_as_they_are(environment: dict[str, str]) -> None:
    before = dict(environment)
    take_ranks_of_slurm(environment)
    assert environment == before


def test_what_the_user_says_of_the_meeting_point_stays() -> None:
    environment = {**SRUN, "MASTER_ADDR": "10.0.0.7", "MASTER_PORT": "5000"}
    take_ranks_of_slurm(environment)
    assert (environment["MASTER_ADDR"], environment["MASTER_PORT"]) == ("10.0.0.7", "5000")


def test_gpus_that_slurm_hides_from_tasks_are_said() -> None:
    with pytest.raises(ValueError, match=r"srun: 4 tasks of .* see 1 GPUs each.*--gpu-bind=none"):
        take_ranks_of_slurm({**SRUN, "CUDA_VISIBLE_DEVICES": "1"})
    take_ranks_of_slurm({**SRUN, "CUDA_VISIBLE_DEVICES": "0,1,2,3"})


@pytest.mark.parametrize(
    ("hosts", "first"),
    [("a", "a"), ("node[07-09,12],login", "node07"), ("n[3,5]", "n3"), ("r[0-1]n[2-3]", "r0n2"), ("b,a[1-2]", "b")],
)
def test_the_first_host_of_slurms_notation(hosts: str, first: str) -> None:
    assert first_host(hosts) == first


def test_slurms_tasks_of_each_host() -> None:
    assert expand_counts("4(x2),1") == [4, 4, 1]


@pytest.fixture
def outer_address() -> str:
    """An address of this machine that is not its loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no network beside its loopback")
        return str(probe.getsockname()[0])


def test_both_libraries_get_the_interface_of_the_route_to_the_master(outer_address: str) -> None:
    environment = {"MASTER_ADDR": outer_address, "WORLD_SIZE": "2", "LOCAL_SIZE": "1"}
    said = choose_network_interface(environment)
    name = launched.interface_of(outer_address)
    assert name != "lo"
    assert (environment["GLOO_SOCKET_IFNAME"], environment["NCCL_SOCKET_IFNAME"]) == (name, f"={name}")
    assert said is not None
    assert said.startswith(f"network: {name}, the route to {outer_address}; ")


def test_a_variable_that_the_user_has_set_stays(outer_address: str) -> None:
    environment = {"MASTER_ADDR": outer_address, "WORLD_SIZE": "2", "LOCAL_SIZE": "1", "GLOO_SOCKET_IFNAME": "mine"}
    choose_network_interface(environment)
    assert environment["GLOO_SOCKET_IFNAME"] == "mine"
    assert environment["NCCL_SOCKET_IFNAME"] != "=mine"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "2", "LOCAL_SIZE": "2"},
        {"MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "2"},
    ],
)
def test_nothing_is_set_for_ranks_of_one_host(environment: dict[str, str]) -> None:
    before = dict(environment)
    assert choose_network_interface(environment) is None
    assert environment == before


def test_a_master_that_is_known_here_as_loopback_is_taken_by_its_only_other_address_or_refused(
    monkeypatch: pytest.MonkeyPatch, outer_address: str
) -> None:
    """Debian gives a host's own name the address 127.0.1.1."""
    environment = {"MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "2", "LOCAL_SIZE": "1"}
    monkeypatch.setattr(launched, "_only_outer_address", lambda master, address: outer_address)
    choose_network_interface(environment)
    assert environment["GLOO_SOCKET_IFNAME"] == launched.interface_of(outer_address)


def test_an_unknown_master_costs_one_line() -> None:
    environment = {"MASTER_ADDR": "no-such-host.invalid", "WORLD_SIZE": "2", "LOCAL_SIZE": "1"}
    with pytest.raises(ValueError, match=r"^MASTER_ADDR: got no-such-host.invalid, which .* cannot reach .*$"):
        choose_network_interface(environment)
