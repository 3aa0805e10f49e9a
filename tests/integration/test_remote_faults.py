"""A gateway and its remote side when that misbehaves: connections that lead nowhere, another disk under the same NSID,
fewer queues than reactors."""

import os
import signal
import socket
import time

import pytest

from harness.remote import ExportingTarget, NvmeTool, address, finish, finish_load
from harness.tcp_proxy import TcpProxy
from harness.wait import wait_until

REMOTE_NQN = "nqn.2016-06.io.spdk:remote0"
LOCAL_NQN = "nqn.2016-06.io.spdk:local0"
BLOCK = 4096


@pytest.fixture
def remote(bin_dir, work_dir):
    with ExportingTarget(bin_dir, work_dir) as running:
        yield running


@pytest.fixture
def gateway(bin_dir, work_dir):
    with ExportingTarget(bin_dir, work_dir, ["--cores", "1"], name="gateway") as running:
        yield running


@pytest.fixture
def host(bin_dir):
    return NvmeTool(bin_dir)


def attach(gateway, port, **options):
    return gateway.call("bdev_nvme_attach_controller", name="nv0", subnqn=REMOTE_NQN, **address(port), **options)


def io_count(gateway, bdev="nv0n1"):
    stat = next(one for one in gateway.call("bdev_get_iostat")["bdevs"] if one["name"] == bdev)
    return stat["num_read_ops"] + stat["num_write_ops"]


def path_states(gateway):
    return [path["state"] for path in gateway.call("bdev_nvme_get_controllers", name="nv0")[0]["ctrlrs"]]


def test_io_on_a_connection_that_leads_nowhere_takes_the_other_path(remote, gateway, host):
    """The connections for administration stay alive, and no option is set."""
    volume = remote.export_file()
    port = remote.make_subsystem(REMOTE_NQN, volume)
    with TcpProxy(port) as proxy:
        attach(gateway, proxy.port)
        attach(gateway, port)
        local_port = gateway.make_subsystem(LOCAL_NQN, volume)
        load = host.start_load(local_port, LOCAL_NQN, 20)
        wait_until(lambda: io_count(gateway) > 100, 20, "I/O")
        proxy.freeze(*range(1, proxy.count()))  # 0 is the admin queue
        before = io_count(gateway)
        wait_until(lambda: io_count(gateway) > before + 100, 18, "I/O on the other path")
        assert finish_load(load) > 100
    host.run("verify", local_port, LOCAL_NQN, "--size", "4M")


def test_a_frozen_remote_is_seen_and_its_other_path_used(bin_dir, work_dir, gateway, host, remote):
    """SIGSTOP: everything is acknowledged by the kernel, and nothing answered."""
    volume = remote.export_file()
    port = remote.make_subsystem(REMOTE_NQN, volume)
    attach(gateway, port)
    local_port = gateway.make_subsystem(LOCAL_NQN, volume)
    os.kill(remote.process.pid, signal.SIGSTOP)
    try:
        verify = host.start("verify", local_port, LOCAL_NQN, "--size", "1M")
        wait_until(lambda: path_states(gateway) != ["enabled"], 20, "the loss to be seen")
    finally:
        os.kill(remote.process.pid, signal.SIGCONT)
    finish(verify)
    assert path_states(gateway) == ["enabled"]


def test_what_waits_for_a_disk_does_not_go_to_another(bin_dir, work_dir, gateway, host):
    with ExportingTarget(bin_dir, work_dir, name="first") as first:
        port = first.make_subsystem(REMOTE_NQN, first.export_file())
        assert attach(gateway, port) == ["nv0n1"]
        local_port = gateway.make_subsystem(LOCAL_NQN, "nv0n1")
        host.run("verify", local_port, LOCAL_NQN, "--size", "1M")
        load = host.start_load(local_port, LOCAL_NQN, 30)
        wait_until(lambda: io_count(gateway) > 100, 20, "I/O")
        first.kill()
    # The same subsystem and NSID, and another disk.
    with ExportingTarget(bin_dir, work_dir, name="second") as second:
        other = second.export_file()
        second.make_subsystem(REMOTE_NQN, other, port=port)
        wait_until(lambda: gateway.call("bdev_get_bdevs", name="nv0n1")[0]["uuid"] == str(other), 20, "the other disk")
        with pytest.raises(AssertionError):
            finish_load(load)
        content = second.volume_file(other).read_bytes()
        assert content.count(0) == len(content), "written to"


def test_a_black_hole_as_first_portal_says_nothing_of_the_disk(remote, gateway, host):
    volume = remote.export_file()
    port = remote.make_subsystem(REMOTE_NQN, volume)
    remote_flush = remote.call("bdev_get_bdevs", name=str(volume))[0]["supported_io_types"]["flush"]
    with socket.create_server(("127.0.0.1", 0)) as hole:
        with gateway.connect() as slow:
            slow.send("bdev_nvme_attach_controller",
                      {"name": "nv0", "subnqn": REMOTE_NQN, **address(hole.getsockname()[1])})
            taken = hole.accept()  # kept open, and never answered
            assert attach(gateway, port) == ["nv0n1"]
            bdev = gateway.call("bdev_get_bdevs", name="nv0n1")[0]
            assert bdev["supported_io_types"]["flush"] == remote_flush is True
            trids = [path["trid"]["trsvcid"] for path in bdev["driver_specific"]["nvme"]]
            assert trids == [str(port)]
            assert path_states(gateway) == ["resetting", "enabled"]
            taken[0].close()


def test_fewer_queues_than_reactors(bin_dir, work_dir, remote, host):
    volume = remote.export_file()
    port = remote.make_subsystem(REMOTE_NQN, volume)
    with ExportingTarget(bin_dir, work_dir, ["--cores", "3"], name="wide") as wide:
        attach(wide, port, num_io_queues=1)
        local_port = wide.make_subsystem(LOCAL_NQN, volume)
        host.run("verify", local_port, LOCAL_NQN, "--size", "4M")
        assert finish_load(host.start_load(local_port, LOCAL_NQN, 2, "--connections", "6")) > 100
        begin = time.monotonic()
    assert time.monotonic() - begin < 10, "stopping took long"
