# SPDX-License-Identifier: Apache-2.0
"""Tests NVMe devices over vfio-user that the agent creates and that are driven through shared memory, and a QEMU that
does not support such devices."""

import json
import shutil
import subprocess

import grpc
import pytest

from harness import wire
from harness.agent import free_port, start_sma
from harness.process import Process
from harness.target import MIB, Target
from harness.wait import wait_until

BLOCK_SIZE = 4096
VOLUME_MIB = 16
HANDLE = "nvme:nqn.2016-06.io.spdk:vfiouser-0"
NQN = "nqn.2016-06.io.spdk:vfiouser-0"


def create(agent, physical_id=0, volume=None):
    request = wire.sma.CreateDeviceRequest()
    request.nvme.physical_id = physical_id
    if volume is not None:
        request.volume.volume_id = volume.bytes
    return agent.client.stub.CreateDevice(request, timeout=30).handle


def vfiouser(work_dir, **params):
    return {"devices": [{"name": "vfiouser", "params": {"sock_path": str(work_dir / "sockets"), **params}}]}


@pytest.fixture
def volumes_target(bin_dir, work_dir):
    with Target(bin_dir, work_dir) as target:
        yield target


@pytest.fixture
def drive(bin_dir, work_dir):
    """Drives a device through its socket for a short time; returns the I/Os per second."""
    def run(*arguments, physical_id=0):
        socket = work_dir / "sockets" / f"vfiouser-{physical_id}" / "cntrl"
        command = [bin_dir / "vfio_user_load", "--socket", socket, "--seconds", "0.2", "--blocks",
                   str(VOLUME_MIB * MIB // BLOCK_SIZE), *arguments]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
        return json.loads(done.stdout)["ios_per_s"]
    return run


def test_device_is_driven_through_its_socket(bin_dir, work_dir, volumes_target, drive):
    volume = volumes_target.make_malloc_volume(VOLUME_MIB, BLOCK_SIZE)
    with start_sma(bin_dir, work_dir, socket=str(volumes_target.socket), **vfiouser(work_dir)) as agent:
        assert create(agent, volume=volume) == HANDLE
        assert create(agent, volume=volume) == HANDLE
        assert drive("--write", "--depth", "32") > 0
        assert drive("--queues", "4", "--depth", "8") > 0
        # After the first driver has disconnected, the next one is served; a volume is detached and attached.
        agent.client.detach_volume(HANDLE, volume)
        assert volumes_target.subsystem(NQN)["namespaces"] == []
        agent.client.attach_volume(HANDLE, volume)
        assert drive() > 0
        agent.client.delete_device(HANDLE)
        agent.client.delete_device(HANDLE)
        assert not (work_dir / "sockets" / "vfiouser-0").exists()
        assert volumes_target.subsystem(NQN) is None


def test_a_device_is_recreated_after_a_restart_of_the_target(bin_dir, work_dir, volumes_target, drive):
    volume = volumes_target.make_file_volume(VOLUME_MIB, BLOCK_SIZE)
    with start_sma(bin_dir, work_dir, socket=str(volumes_target.socket), **vfiouser(work_dir)) as agent:
        create(agent, volume=volume)
        volumes_target.kill()
        volumes_target.start()
        volumes_target.make_file_volume(VOLUME_MIB, BLOCK_SIZE, volume)

        def is_back():
            subsystem = volumes_target.subsystem(NQN)
            return subsystem and subsystem["namespaces"] and subsystem["listen_addresses"]
        wait_until(is_back, 60, "the device is restored")
        assert drive("--write") > 0


def test_virtual_functions_and_slots_that_do_not_exist(bin_dir, work_dir, volumes_target):
    buses = [{"name": "bus0", "count": 4}]
    with start_sma(bin_dir, work_dir, socket=str(volumes_target.socket), **vfiouser(work_dir, buses=buses)) as agent:
        request = wire.sma.CreateDeviceRequest()
        request.nvme.virtual_id = 1
        for bad in (request, None):
            with pytest.raises(grpc.RpcError) as error:
                agent.client.stub.CreateDevice(bad) if bad else create(agent, physical_id=4)
            assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.RpcError) as error:
            agent.client.delete_device("nvme:nqn.2016-06.io.spdk:../x")
        assert error.value.code() == grpc.StatusCode.NOT_FOUND
        assert not (work_dir / "sockets").exists()


def test_published_example_starts(bin_dir, work_dir, volumes_target):
    """As published except for its paths; there is no QEMU."""
    devices = [{"name": "vfiouser", "params": {"root_path": str(work_dir / "sockets"), "bus": "bus0",
                                               "address": "127.0.0.1", "port": free_port()}},
               {"name": "vhost-blk"}]
    with start_sma(bin_dir, work_dir, socket=str(volumes_target.socket), devices=devices) as agent:
        with pytest.raises(grpc.RpcError) as error:
            create(agent)
        assert error.value.code() == grpc.StatusCode.UNAVAILABLE
        wait_until(lambda: volumes_target.subsystem(NQN) is None, 30, "the subsystem is removed")
        wait_until(lambda: not (work_dir / "sockets" / "vfiouser-0").exists(), 30, "the folder is removed")


@pytest.fixture
def qemu(work_dir):
    """Starts QEMU without a guest; it still refuses unknown devices."""
    program = shutil.which("qemu-system-x86_64")
    monitor = work_dir / "qmp.sock"
    process = Process("qemu", [program, "-S", "-nodefaults", "-display", "none", "-accel", "tcg", "-m", "64",
                               "-device", "pci-bridge,chassis_nr=1,id=bus0",
                               "-qmp", f"unix:{monitor},server=on,wait=off"], work_dir)
    process.wait_until(monitor.exists, 20, "listens")
    yield monitor
    process.kill()


def has_vfio_user_pci():
    program = shutil.which("qemu-system-x86_64")
    devices = subprocess.run([program, "-device", "help"], check=True, capture_output=True, text=True).stdout
    return "vfio-user-pci" in devices


def test_everything_is_rolled_back_if_qemu_has_no_such_device(bin_dir, work_dir, volumes_target, qemu):
    volume = volumes_target.make_malloc_volume(VOLUME_MIB, BLOCK_SIZE)
    params = vfiouser(work_dir, qmp_addr=f"unix:{qemu}", buses=[{"name": "bus0"}])
    with start_sma(bin_dir, work_dir, socket=str(volumes_target.socket), **params) as agent:
        if has_vfio_user_pci():
            assert create(agent, volume=volume) == HANDLE
            return
        with pytest.raises(grpc.RpcError) as error:
            create(agent, volume=volume)
        assert error.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert "vfio-user-pci" in error.value.details()
        assert volumes_target.subsystem(NQN) is None
        assert not (work_dir / "sockets" / "vfiouser-0").exists()
        assert not volumes_target.call("bdev_get_bdevs", name=str(volume))[0]["claimed"]
