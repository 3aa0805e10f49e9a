"""NVMe devices over vfio-user: made by the agent, driven from shared memory; and a QEMU that has no such device."""

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
    """Runs a driver against a device's socket for a moment; I/Os per second."""
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
        # The first is gone, the next is served; a volume comes and goes.
        agent.client.detach_volume(HANDLE, volume)
        assert volumes_target.subsystem(NQN)["namespaces"] == []
        agent.client.attach_volume(HANDLE, volume)
        assert drive() > 0
        agent.client.delete_device(HANDLE)
        agent.client.delete_device(HANDLE)
        assert not (work_dir / "sockets" / "vfiouser-0").exists()
        assert volumes_target.subsystem(NQN) is None


def test_device_is_back_after_a_restart_of_the_target(bin_dir, work_dir, volumes_target, drive):
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


def test_virtual_functions_and_places_that_do_not_exist(bin_dir, work_dir, volumes_target):
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
    """As published, but for its paths: nobody listens where its QEMU should be."""
    devices = [{"name": "vfiouser", "params": {"root_path": str(work_dir / "sockets"), "bus": "bus0",
                                               "address": "127.0.0.1", "port": free_port()}},
               {"name": "vhost-blk"}]
    with start_sma(bin_dir, work_dir, socket=str(volumes_target.socket), devices=devices) as agent:
        with pytest.raises(grpc.RpcError) as error:
            create(agent)
        assert error.value.code() == grpc.StatusCode.UNAVAILABLE
        wait_until(lambda: volumes_target.subsystem(NQN) is None, 30, "the subsystem is gone")
        wait_until(lambda: not (work_dir / "sockets" / "vfiouser-0").exists(), 30, "the folder is gone")


@pytest.fixture
def qemu(work_dir):
    """QEMU without a guest: it refuses what it does not know all the same."""
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


def test_qemu_that_has_no_such_device_undoes_all(bin_dir, work_dir, volumes_target, qemu):
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
