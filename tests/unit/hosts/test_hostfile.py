"""What launch.sh asks before DeepSpeed starts ranks on other hosts."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from harness.hosts import hostfile
from harness.hosts.hostfile import flags_for, handed_on, main, option, read_hostfile

HOSTS = {"a": 2, "b": 1}


def test_a_hostfile_is_read_with_comments(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("# ours\na slots=2\n\nb  slots=1 # the old one\n")
    assert read_hostfile(path) == HOSTS


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "which is no file, expected one with a line HOST slots=N"),
        ("", "got no host"),
        ("a\n", "hosts:1: got 'a', expected HOST slots=N"),
        ("a slots=0\n", "hosts:1: got 'a slots=0'"),
        ("a slots=1\na slots=2\n", "hosts:2: got 'a slots=2', expected HOST slots=N, every host once"),
    ],
)
def test_a_hostfile_that_deepspeed_would_pass_over_or_break_at_costs_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, words: str
) -> None:
    path = tmp_path / "hosts"
    if text is not None:
        path.write_text(text)
    assert main([str(tmp_path / "environment"), "--hostfile", str(path)]) == 2
    printed = capsys.readouterr()
    assert words in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_a_hostfile_in_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_bytes("gerät slots=2\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"hosts: got 'utf-8' codec .*, expected text in UTF-8"):
        read_hostfile(tmp_path / "hosts")


def test_flags_are_found_in_both_spellings() -> None:
    assert option(["--x", "1", "-H", "f"], "--hostfile", "-H") == "f"
    assert option(["--hostfile=f"], "--hostfile", "-H") == "f"
    assert option(["--host", "f"], "--hostfile", "-H") is None


def program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/bash\n{text}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.setattr(hostfile, "address_of_first", lambda hosts: "10.0.0.1")
    return folder


def test_the_address_of_the_first_host_is_added_unless_the_user_gives_it_or_picks_hosts(programs: Path) -> None:
    program(programs, "pdsh", "")
    program(programs, "ssh", "")
    assert flags_for(HOSTS, []) == ["--master_addr=10.0.0.1"]
    assert flags_for(HOSTS, ["--master_addr", "c"]) == []
    assert flags_for(HOSTS, ["--include", "b"]) == []
    assert flags_for({"a": 2}, []) == []


def test_hosts_that_cannot_be_used_are_named_each_in_one_line(programs: Path) -> None:
    """ssh's third argument but one is the host."""
    program(programs, "pdsh", "")
    script = f"""case "${{@: -2:1}}" in
      a) echo 'a: Connection refused' >&2; exit 255 ;;
      b) echo {sys.executable} ;;
    esac"""
    program(programs, "ssh", script)
    with pytest.raises(ValueError, match="cannot be reached") as caught:
        flags_for(HOSTS, [])
    assert str(caught.value).splitlines() == [
        "--hostfile: a cannot be reached by ssh without a password (a: Connection refused)",
        f"--hostfile: b has no {sys.executable}, expected checkout and environment at the same place on every host",
    ]


def test_a_missing_pdsh_is_said_with_the_way_out(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(ValueError, match=r"^pdsh: got no such program .* --no_ssh --node_rank N$"):
        flags_for(HOSTS, [])
    assert flags_for(HOSTS, ["--no_ssh", "--node_rank", "1"]) == ["--master_addr=10.0.0.1"]


@pytest.mark.parametrize("flags", [["--no_ssh"], ["--no_ssh", "--node_rank=2"], ["--no_ssh", "--node_rank", "x"]])
def test_without_ssh_every_host_must_say_which_it_is(programs: Path, flags: list[str]) -> None:
    with pytest.raises(ValueError, match=r"^--node_rank: got .* with --no_ssh, expected 0 to 1$"):
        flags_for(HOSTS, flags)


def test_other_hosts_get_what_a_run_reads_but_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own .deepspeed_env wins; nothing is written into the home folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / ".deepspeed_env").write_text("NCCL_DEBUG=INFO\n\nOMP_NUM_THREADS=7\n")
    environment = {
        "OMP_NUM_THREADS": "4", "HARNESS_ALLOCATOR": "system", "HF_TOKEN": "x", "HF_HOME": "/m", "EDITOR": "vi",
        "WANDB_API_KEY": "x", "GLOO_SOCKET_IFNAME": "ib0",
    }  # fmt: skip
    assert sorted(handed_on(environment)) == [
        "GLOO_SOCKET_IFNAME=ib0", "HARNESS_ALLOCATOR=system", "HF_HOME=/m", "NCCL_DEBUG=INFO", "OMP_NUM_THREADS=7",
    ]  # fmt: skip
    assert not (tmp_path / "home").exists()


def test_the_first_hosts_address_is_one_that_the_second_reaches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host often knows itself by a loopback address."""
    assert hostfile.address_of_first(["192.0.2.1", "192.0.2.2"]) == "192.0.2.1"
    assert hostfile.address_of_first(["127.0.0.1", "127.0.0.1"]) is None
    assert hostfile.address_of_first(["no-such-host.invalid", "b"]) is None
