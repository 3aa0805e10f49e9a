# SPDX-License-Identifier: Apache-2.0
"""Tests sma-target with the Linux kernel at both ends: with the kernel's NVMe/TCP target as the remote, and with the
kernel's host on a chain of two targets."""

import json
import os
import re
import subprocess
import uuid

import pytest

from harness.agent import free_port, start_sma
from harness.host import Host
from harness.kernel_target import KernelTarget
from harness.remote import (ExportingTarget, NvmeTool, address, connections, discovery_request, finish,
                            finish_load, volume_states)
from harness.target import RpcError
from harness.wait import wait_until

NQN = "nqn.2016-06.io.spdk:kernel"
PRIVATE_NQN = "nqn.2016-06.io.spdk:private"
FRIEND = "nqn.2016-06.io.spdk:friend"
LOCAL_NQN = "nqn.2016-06.io.spdk:local"
REMOTE_NQN = "nqn.2016-06.io.spdk:remote"


@pytest.fixture(scope="module")
def kernel(machine):
    return KernelTarget(machine)


@pytest.fixture(scope="module")
def remote(kernel):
    """Returns (port, {nsid: UUID}) of a kernel target with two subsystems."""
    kernel.make_subsystem(NQN)
    volumes = {1: kernel.add_namespace(NQN, 1), 7: kernel.add_namespace(NQN, 7, block_size=4096)}
    kernel.make_subsystem(PRIVATE_NQN, hosts=[FRIEND])
    kernel.add_namespace(PRIVATE_NQN, 1)
    yield kernel.listen(free_port(), NQN, PRIVATE_NQN), volumes
    kernel.clear()


@pytest.fixture
def tool(bin_dir, remote):
    def run(subcommand, *arguments, status=0):
        """Returns standard output, or standard error if the status is not 0."""
        result = subprocess.run([bin_dir / "sma-nvme", subcommand, "-s", str(remote[0]), *arguments],
                                capture_output=True, text=True, timeout=120)
        assert result.returncode == status, result.stdout + result.stderr
        return result.stderr if status else result.stdout
    return run


@pytest.fixture
def local(bin_dir, work_dir):
    with ExportingTarget(bin_dir, work_dir, name="local") as running:
        yield running


@pytest.fixture
def host(bin_dir):
    return NvmeTool(bin_dir)


def has_bdev(target, name):
    try:
        return bool(target.call("bdev_get_bdevs", name=str(name)))
    except RpcError:
        return False


def start_discovery(local, port, **options):
    return local.call("bdev_nvme_start_discovery", name="d", wait_for_attach=True, attach_timeout_ms=20000,
                      **address(port), **options)


# sma-nvme, and so the initiator without a target.


def test_discovery_lists_only_allowed_subsystems(tool):
    for arguments, names in [([], {NQN}), (["-q", FRIEND], {NQN, PRIVATE_NQN})]:
        log = json.loads(tool("discover", "--json", *arguments))
        assert {entry["subnqn"] for entry in log if entry["subtype"] == "nvme"} == names


def test_namespaces_are_listed_with_their_uuids(tool, remote):
    controller = json.loads(tool("list", "-n", NQN, "--json"))
    assert controller["model_number"] == "Linux"
    assert {ns["nsid"]: ns["uuid"] for ns in controller["namespaces"]} == \
        {nsid: str(volume) for nsid, volume in remote[1].items()}
    assert controller["namespaces"][0]["block_size"] * controller["namespaces"][0]["block_count"] == 64 << 20


@pytest.mark.parametrize("digests", [[], ["--hdgst"], ["--ddgst"], ["--hdgst", "--ddgst"]])
@pytest.mark.parametrize("io_size, depth", [("4k", 64), ("8k", 16), ("1M", 4)])
def test_written_data_are_read_back(tool, remote, digests, io_size, depth):
    output = tool("verify", "-n", NQN, "--namespace", str(remote[1][7]), "--size", "2M", "--io-size", io_size,
                  "--depth", str(depth), *digests)
    assert "every byte is as it was written" in output


def test_the_load_generator_measures(tool):
    result = json.loads(tool("perf", "-n", NQN, "--namespace", "1", "--seconds", "0.5", "--warm-up", "0.1", "--sleep",
                             "--read-percent", "50", "--connections", "2", "--depth", "8", "--json"))
    assert result["ios"] > 10
    assert 0 < result["latency_us"]["p50"] <= result["latency_us"]["p99"] <= result["latency_us"]["max"]


def test_refusals_are_explained(tool):
    assert "this host is not allowed" in tool("list", "-n", PRIVATE_NQN, status=1)
    tool("list", "-n", PRIVATE_NQN, "-q", FRIEND)
    assert "no such subsystem" in tool("list", "-n", "nqn.2016-06.io.spdk:none", status=1)
    assert "no namespace 99" in tool("verify", "-n", NQN, "--namespace", "99", status=1)


# sma-target with the kernel's target as its remote.


def test_discovery_attaches_the_kernels_subsystems(local, host, remote):
    port, volumes = remote
    assert start_discovery(local, port, hostnqn=FRIEND)
    assert {c["ctrlrs"][0]["trid"]["subnqn"] for c in local.call("bdev_nvme_get_controllers")} == {NQN, PRIVATE_NQN}
    exported = local.make_subsystem(LOCAL_NQN, volumes[1])
    assert "every byte is as it was written" in host.run("verify", exported, LOCAL_NQN, "--size", "8M")
    local.call("bdev_nvme_stop_discovery", name="d")
    assert not has_bdev(local, volumes[1])


def test_namespaces_and_subsystems_are_added_and_removed(local, kernel, remote):
    port, volumes = remote
    start_discovery(local, port)
    added = kernel.add_namespace(NQN, 9)
    wait_until(lambda: has_bdev(local, added), 20, "new namespace")
    kernel.remove_namespace(NQN, 9)
    wait_until(lambda: not has_bdev(local, added), 20, "the namespace is removed")
    kernel.unlink(NQN, port)
    wait_until(lambda: not has_bdev(local, volumes[1]), 30, "the subsystem is removed from the log")
    kernel.link(NQN, port)
    wait_until(lambda: has_bdev(local, volumes[1]), 30, "subsystem back")


def test_io_continues_after_the_kernel_has_reconnected(local, host, kernel, remote):
    port, volumes = remote
    local.call("bdev_nvme_attach_controller", name="nv0", subnqn=NQN, **address(port))
    exported = local.make_subsystem(LOCAL_NQN, volumes[1])
    load = host.start_load(exported, LOCAL_NQN, 3)
    wait_until(lambda: local.call("bdev_get_iostat")["bdevs"][0]["num_write_ops"] > 10, 20, "I/O")
    kernel.unlink(NQN, port)  # ends its connections
    wait_until(lambda: local.call("bdev_nvme_get_controllers")[0]["ctrlrs"][0]["state"] != "enabled", 20, "lost")
    kernel.link(NQN, port)
    assert finish_load(load) > 10
    host.run("verify", exported, LOCAL_NQN, "--size", "4M")


# The same through the agent.


@pytest.fixture
def agent(bin_dir, work_dir, local):
    with start_sma(bin_dir, work_dir, socket=str(local.socket)) as running:
        yield running


@pytest.fixture
def device(agent):
    """Returns (handle, port) of a device of the agent."""
    port = free_port()
    return agent.client.create_nvmf_tcp(LOCAL_NQN, port, allow_any_host=True), port


def attach(agent, message):
    agent.client.stub.AttachVolume(message, timeout=60)


def exported(local):
    return sorted(n["uuid"] for n in local.subsystem(LOCAL_NQN)["namespaces"])


def test_the_agent_finds_the_kernels_volumes(local, agent, device, host, kernel, remote):
    remote_port, volumes = remote
    handle, port = device
    attach(agent, discovery_request(handle, volumes[7], remote_port))
    host.run("verify", port, LOCAL_NQN, "--size", "8M")
    added = kernel.add_namespace(NQN, 9)
    attach(agent, discovery_request(handle, added, remote_port))
    host.run("verify", port, LOCAL_NQN, "--namespace", str(added), "--size", "4M")
    kernel.remove_namespace(NQN, 9)
    wait_until(lambda: volume_states(agent)[added] == "DEGRADED", 15, "the volume is reported missing")
    assert exported(local) == [str(volumes[7])]
    kernel.add_namespace(NQN, 9, volume=added)
    wait_until(lambda: volume_states(agent)[added] == "READY", 15, "reconnected")
    host.run("verify", port, LOCAL_NQN, "--namespace", str(added), "--size", "4M")
    for volume in (volumes[7], added):
        agent.client.detach_volume(handle, volume)
    assert connections(local) == ([], [], [])
    kernel.remove_namespace(NQN, 9)


# The kernel's host on a device of the agent's target, whose volume is on another target and found by discovery.


def test_fio_through_a_chain_while_the_remote_restarts(bin_dir, work_dir, machine, local, agent, device):
    guest = Host(machine)
    handle, port = device
    with ExportingTarget(bin_dir, work_dir) as remote_target:
        volume = remote_target.export_file()
        attach(agent, discovery_request(handle, volume, remote_target.make_subsystem(REMOTE_NQN, volume)))
        guest.connect(LOCAL_NQN, port)
        disk = guest.disk(volume)
        job = machine.start(f"fio --name=x --filename={disk} --direct=1 --ioengine=libaio --iodepth=16 --bs=16k "
                            "--rw=randwrite --size=16M --verify=crc32c --do_verify=1 --verify_fatal=1 --loops=2")
        wait_until(lambda: remote_target.call("bdev_get_iostat")["bdevs"][0]["num_write_ops"] > 100, 60, "I/O")
        remote_target.kill()
        remote_target.restart()
        output = job.check(180)
        assert re.search(r"err= 0", output), output
        guest.disconnect(LOCAL_NQN)
        agent.client.detach_volume(handle, volume)
        assert connections(local) == ([], [], [])


def test_the_kernel_is_rebooted_during_io(local, agent, device, host, kernel, remote, machine, work_dir):
    """The last test, because the reboot removes everything in the guest that other tests use."""
    image = work_dir / "reboot.img"
    with open(image, "wb") as file:
        os.truncate(file.fileno(), 64 << 20)
    disk, remote_port, volume = machine.add_disk(image), free_port(), uuid.uuid4()

    def export(**options):
        kernel.make_subsystem(REMOTE_NQN)
        kernel.add_namespace(REMOTE_NQN, 1, volume=volume, disk=disk)
        kernel.listen(remote_port, REMOTE_NQN, **options)

    export()
    handle, port = device
    attach(agent, discovery_request(handle, volume, remote_port))
    writing = host.start("verify", port, LOCAL_NQN, "--size", "32M", "--io-size", "16k")
    wait_until(lambda: local.call("bdev_get_iostat")["bdevs"][0]["num_write_ops"] > 100, 30, "I/O")
    machine.reboot()
    assert writing.poll() is None, "it was over before the reboot"
    export(is_known=True)
    assert "every byte is as it was written" in finish(writing, 120)
    assert volume_states(agent) == {volume: "READY"}
    agent.client.detach_volume(handle, volume)
    assert connections(local) == ([], [], [])
