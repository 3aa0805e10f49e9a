# SPDX-License-Identifier: Apache-2.0
"""Tests that SPDK's command-line client, spdk-rpc, can drive sma-target with its default parameters."""

import json
import pathlib
import subprocess
import sys

import pytest

from harness.agent import free_port
from harness.target import Target

SPDK_RPC = pathlib.Path(sys.executable).parent / "spdk-rpc"
NQN = "nqn.2016-06.io.spdk:cnode1"
HOST = "nqn.2014-08.org.example:host"


@pytest.fixture
def spdk_rpc(target):
    def run(*arguments):
        """Returns the output. Raises AssertionError with the client's message on failure."""
        result = subprocess.run([SPDK_RPC, "-s", target.socket, *map(str, arguments)], capture_output=True, text=True,
                                timeout=30)
        assert result.returncode == 0, f"{arguments}: {result.stderr}"
        return result.stdout.strip()
    return run


def test_version_and_methods(spdk_rpc):
    assert "version" in json.loads(spdk_rpc("spdk_get_version"))
    methods = json.loads(spdk_rpc("rpc_get_methods"))
    assert {"bdev_get_bdevs", "nvmf_create_subsystem", "framework_get_config"} <= set(methods)


def test_framework_calls(spdk_rpc):
    spdk_rpc("framework_wait_init")
    assert json.loads(spdk_rpc("framework_get_subsystems"))
    assert json.loads(spdk_rpc("framework_get_reactors"))["reactors"]
    json.loads(spdk_rpc("notify_get_types"))
    json.loads(spdk_rpc("thread_get_stats"))


def test_bdevs(spdk_rpc, work_dir):
    assert spdk_rpc("bdev_malloc_create", "-b", "memory", 16, 512) == "memory"
    assert spdk_rpc("bdev_null_create", "nothing", 16, 512) == "nothing"
    path = work_dir / "disk.img"
    path.write_bytes(bytes(1 << 20))
    assert spdk_rpc("bdev_aio_create", path, "file", 4096) == "file"
    assert spdk_rpc("bdev_passthru_create", "-b", "memory", "-p", "through") == "through"
    bdevs = {b["name"]: b for b in json.loads(spdk_rpc("bdev_get_bdevs"))}
    assert {name: b["num_blocks"] * b["block_size"] for name, b in bdevs.items()} == {
        "memory": 16 << 20, "nothing": 16 << 20, "file": 1 << 20, "through": 16 << 20}
    assert bdevs["memory"]["claimed"]
    assert len(json.loads(spdk_rpc("bdev_get_iostat"))["bdevs"]) == 4
    spdk_rpc("bdev_null_resize", "nothing", 32)
    assert json.loads(spdk_rpc("bdev_get_bdevs", "-b", "nothing"))[0]["num_blocks"] == 65536
    spdk_rpc("bdev_passthru_delete", "through")
    spdk_rpc("bdev_aio_delete", "file")
    spdk_rpc("bdev_null_delete", "nothing")
    spdk_rpc("bdev_malloc_delete", "memory")
    assert json.loads(spdk_rpc("bdev_get_bdevs")) == []


def test_nvmf(spdk_rpc):
    port = free_port()
    spdk_rpc("bdev_null_create", "nothing", 16, 512)
    spdk_rpc("nvmf_create_transport", "-t", "tcp")
    spdk_rpc("nvmf_create_subsystem", NQN, "-s", "SPDK1", "-d", "A model", "-m", 8)
    spdk_rpc("nvmf_subsystem_add_host", NQN, HOST)
    spdk_rpc("nvmf_subsystem_add_listener", NQN, "-t", "tcp", "-a", "127.0.0.1", "-s", port)
    spdk_rpc("nvmf_subsystem_add_ns", NQN, "nothing", "-n", 5)
    spdk_rpc("nvmf_discovery_add_referral", "-t", "tcp", "-a", "127.0.0.9", "-s", 8009)
    subsystem = next(s for s in json.loads(spdk_rpc("nvmf_get_subsystems")) if s["nqn"] == NQN)
    assert subsystem["serial_number"] == "SPDK1"
    assert subsystem["max_namespaces"] == 8
    assert [n["nsid"] for n in subsystem["namespaces"]] == [5]
    assert [h["nqn"] for h in subsystem["hosts"]] == [HOST]
    assert json.loads(spdk_rpc("nvmf_subsystem_get_listeners", NQN))[0]["address"]["trsvcid"] == str(port)
    assert len(json.loads(spdk_rpc("nvmf_discovery_get_referrals"))) == 1
    assert json.loads(spdk_rpc("nvmf_subsystem_get_controllers", NQN)) == []
    assert json.loads(spdk_rpc("nvmf_subsystem_get_qpairs", NQN)) == []
    assert json.loads(spdk_rpc("nvmf_get_stats"))["poll_groups"]
    spdk_rpc("nvmf_subsystem_allow_any_host", NQN, "--allow-any-host")
    spdk_rpc("nvmf_subsystem_remove_ns", NQN, 5)
    spdk_rpc("nvmf_subsystem_remove_listener", NQN, "-t", "tcp", "-a", "127.0.0.1", "-s", port)
    spdk_rpc("nvmf_subsystem_remove_host", NQN, HOST)
    spdk_rpc("nvmf_discovery_remove_referral", "-t", "tcp", "-a", "127.0.0.9", "-s", 8009)
    spdk_rpc("nvmf_delete_subsystem", NQN)


def test_a_saved_configuration_recreates_the_same_objects(spdk_rpc, target, bin_dir, work_dir):
    port = free_port()
    spdk_rpc("bdev_malloc_create", "-b", "memory", "-u", "11111111-2222-4333-8444-555555555555", 16, 512)
    spdk_rpc("nvmf_create_transport", "-t", "tcp")
    spdk_rpc("nvmf_create_subsystem", NQN, "-a")
    spdk_rpc("nvmf_subsystem_add_listener", NQN, "-t", "tcp", "-a", "127.0.0.1", "-s", port)
    spdk_rpc("nvmf_subsystem_add_ns", NQN, "memory")
    before = target.subsystem(NQN)
    config = work_dir / "saved.json"
    config.write_text(spdk_rpc("save_config"))
    target.stop()
    with Target(bin_dir, work_dir, ["-c", config], name="again") as again:
        assert again.subsystem(NQN) == before


def test_a_failing_call_reports_code_and_message(target):
    result = subprocess.run([SPDK_RPC, "-s", target.socket, "bdev_get_bdevs", "-b", "nothing"], capture_output=True,
                            text=True, timeout=30)
    assert result.returncode != 0
    output = result.stdout + result.stderr
    assert "-19" in output and "No such device" in output
