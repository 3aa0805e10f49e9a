# SPDX-License-Identifier: Apache-2.0
"""Tests the agent's state folder: problems are reported clearly, and no change is made on the target that cannot be
recorded."""

import contextlib
import os
import sqlite3
import subprocess

import grpc
import pytest

from harness.agent import Agent, free_port, start_sma
from harness.wait import wait_until

NQN = "nqn.2016-06.io.spdk:state"


def try_to_start(bin_dir, *arguments, prefix=()):
    return subprocess.run([*prefix, bin_dir / "sma", "-a", "127.0.0.1", "-p", "0", *arguments], capture_output=True,
                          text=True, timeout=20)


def can_mount():
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode == 0


def on_tmpfs(folder, options, command):
    """Runs `command` with a private file system on `folder`."""
    script = 'mount -t tmpfs -o "$1" none "$2" && shift 2 && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", script, "sh", options, folder, *command]


def test_a_folder_that_cannot_be_written_is_refused(bin_dir, work_dir):
    assert can_mount(), "this test needs a mount namespace"
    folder = work_dir / "state"
    folder.mkdir(mode=0o700)
    refused = try_to_start(bin_dir, "--state-dir", folder, "-s", work_dir / "none.sock",
                           prefix=on_tmpfs(folder, "ro,mode=0700", ["env"]))
    assert refused.returncode == 1
    assert str(folder) in refused.stderr
    assert "ead-only" in refused.stderr


def fill(agent, port):
    """Creates devices until one is refused; returns the created ones and the error."""
    made = []
    for number in range(5000):
        try:
            made.append(agent.client.create_nvmf_tcp(f"{NQN}-{number}", port))
        except grpc.RpcError as error:
            return made, error
    raise AssertionError("nothing was refused")


def test_a_full_disk_refuses_changes_without_side_effects(bin_dir, work_dir, target):
    folder, port = work_dir / "state", free_port()
    folder.mkdir(mode=0o700)
    command = on_tmpfs(folder, "size=300k,mode=0700", [bin_dir / "sma"])
    with Agent("sma", command, work_dir, {"socket": str(target.socket), "state_dir": str(folder)}) as agent:
        made, error = fill(agent, port)
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        on_target = {f"nvmf-tcp:{s['nqn']}" for s in target.call("nvmf_get_subsystems") if s["subtype"] == "NVMe"}
        assert on_target == set(made)
        # Existing devices continue to work.
        assert agent.client.create_nvmf_tcp(f"{NQN}-0", port) == made[0]


def test_a_file_size_limit_refuses_changes_without_side_effects(bin_dir, work_dir, target):
    """As on a full disk, except that space becomes available later."""
    port = free_port()
    with start_sma(bin_dir, work_dir, socket=str(target.socket)) as agent:
        handle = agent.client.create_nvmf_tcp(NQN, port)
        before = target.call("nvmf_get_subsystems")
        largest = max(os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(
            agent.config["state_dir"]) for name in names)
        subprocess.run(["prlimit", f"--fsize={largest}:", "--pid", str(agent.process.pid)], check=True)
        refused = []
        for number in range(300):
            try:
                agent.client.create_nvmf_tcp(f"{NQN}-{number}", port)
                agent.client.delete_device(f"nvmf-tcp:{NQN}-{number}")
            except grpc.RpcError as error:
                refused.append(error)
                break
        assert refused, "nothing was refused"
        assert refused[0].code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
        # Existing devices continue to work; refused calls leave nothing after space has become available.
        assert agent.client.create_nvmf_tcp(NQN, port) == handle
        subprocess.run(["prlimit", "--fsize=unlimited:", "--pid", str(agent.process.pid)], check=True)
        wait_until(lambda: target.call("nvmf_get_subsystems") == before, 20, "no object is left")
        agent.client.create_nvmf_tcp(f"{NQN}-again", port)
    with start_sma(bin_dir, work_dir, socket=str(target.socket)) as agent:
        assert agent.client.create_nvmf_tcp(NQN, port) == handle
        agent.client.delete_device(f"nvmf-tcp:{NQN}-again")
        assert target.call("nvmf_get_subsystems") == before


def test_a_record_of_a_newer_agent_is_refused(bin_dir, work_dir, target):
    with start_sma(bin_dir, work_dir, socket=str(target.socket)) as agent:
        agent.client.create_nvmf_tcp(NQN, free_port())
        folder = agent.config["state_dir"]
    path = os.path.join(folder, "record.db")
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 99999")
    refused = try_to_start(bin_dir, "--state-dir", folder, "-s", target.socket)
    assert refused.returncode == 1
    assert folder in refused.stderr
    assert "99999" in refused.stderr


def test_a_damaged_record_is_refused_and_not_changed(bin_dir, work_dir, target):
    with start_sma(bin_dir, work_dir, socket=str(target.socket)) as agent:
        agent.client.create_nvmf_tcp(NQN, free_port())
        folder = agent.config["state_dir"]
    path = os.path.join(folder, "record.db")
    with open(path, "r+b") as database:
        database.write(b"not a database, whatever its name")
    damaged = open(path, "rb").read()
    refused = try_to_start(bin_dir, "--state-dir", folder, "-s", target.socket)
    assert refused.returncode == 1
    assert folder in refused.stderr
    assert open(path, "rb").read() == damaged
    assert target.subsystem(NQN) is not None


@pytest.mark.parametrize("mode", [0o755, 0o770])
def test_a_folder_that_others_can_read_is_fixed_or_refused(bin_dir, work_dir, mode, target):
    folder = work_dir / "state"
    folder.mkdir()
    folder.chmod(mode)
    with start_sma(bin_dir, work_dir, socket=str(target.socket), state_dir=str(folder)):
        for name in [".", *os.listdir(folder)]:
            assert os.stat(folder / name).st_mode & 0o077 == 0 or os.stat(folder).st_mode & 0o077 == 0
