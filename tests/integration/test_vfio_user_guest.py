# SPDX-License-Identifier: Apache-2.0
"""Tests NVMe controllers that a Linux guest drives over vfio-user, through the client of a real QEMU, in one boot: one
on QEMU's command line, others hot-plugged by the agent."""

import hashlib
import json
import pathlib

import grpc
import pytest

from harness import wire
from harness.agent import start_sma
from harness.target import MIB, Target
from harness.vm import VirtualMachine, newer_qemu
from harness.wait import wait_until

MEMORY_MIB = 768
PRIVATE_MIB = 256
CPUS = 4
CALL_TIMEOUT_S = 60.0
REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


class Devices:
    """An agent's calls for NVMe controllers, with its target."""

    def __init__(self, agent, target, sockets):
        self.client = agent.client
        self.target = target
        self._sockets = sockets

    def create(self, physical_id, volume=None):
        request = wire.sma.CreateDeviceRequest()
        request.nvme.physical_id = physical_id
        if volume is not None:
            request.volume.volume_id = volume.bytes
        return self.client.stub.CreateDevice(request, timeout=CALL_TIMEOUT_S).handle

    def delete(self, handle):
        self.client.delete_device(handle, timeout=CALL_TIMEOUT_S)

    def socket(self, physical_id):
        return self._sockets / f"vfiouser-{physical_id}" / "cntrl"


class Guest:
    """The VM with helpers for these tests."""

    def __init__(self, machine):
        self.machine = machine
        self.run = machine.run

    def disk(self, volume):
        """Returns the name of the disk with this UUID."""
        return self.machine.wait_until(
            "cd /sys/block; for d in nvme*n*; do case $d in *c*) continue; esac; "
            f"[ \"$(cat $d/uuid)\" = '{volume}' ] && echo $d && exit 0; done; exit 1", 30).strip()

    def disks(self):
        return [name for name in self.run("ls /sys/block").split() if name.startswith("nvme") and "c" not in name]

    def has_device(self, name):
        return f'id "{name}"' in self.machine.monitor("info qtree")

    def write(self, disk, mib=4):
        """Writes random bytes to the start of the disk, and reads them back; returns their SHA-256."""
        return self.run(f"dd if=/dev/urandom of=/tmp/data bs=1M count={mib} 2>/dev/null && "
                        f"dd if=/tmp/data of=/dev/{disk} bs=1M oflag=direct 2>/dev/null && "
                        f"dd if=/dev/{disk} of=/tmp/back bs=1M count={mib} iflag=direct 2>/dev/null && "
                        "cmp /tmp/data /tmp/back && sha256sum </tmp/data").split()[0]

    def dma_messages(self):
        """Returns how many messages QEMU has received from targets to read and to write its memory."""
        log = self.machine.process.log()
        return log.count("vfio_user_recv_request  command 0xb"), log.count("vfio_user_recv_request  command 0xc")

    def digest(self, disk, mib=4):
        """Returns the SHA-256 of the start of the disk."""
        return self.run(f"dd if=/dev/{disk} bs=1M count={mib} iflag=direct 2>/dev/null | sha256sum").split()[0]


@pytest.fixture(scope="module")
def qemu():
    try:
        return newer_qemu.find(REPOSITORY / ".cache" / "qemu")
    except newer_qemu.MissingError as error:
        pytest.skip(f"no QEMU with {newer_qemu.DEVICE}: {error}")


@pytest.fixture(scope="module")
def cold(bin_dir, module_work_dir, qemu):
    """Devices without hot-plug: their sockets are for a VM that starts later."""
    sockets = module_work_dir / "cold"
    params = {"sock_path": str(sockets), "interrupts": "msix"}
    with (Target(bin_dir, module_work_dir, name="cold-target") as target,
          start_sma(bin_dir, module_work_dir, name="cold-sma", socket=str(target.socket),
                    devices=[{"name": "vfiouser", "params": params}]) as agent):
        yield Devices(agent, target, sockets)


@pytest.fixture(scope="module")
def volume(cold):
    return cold.target.make_file_volume(size_mib=128)


@pytest.fixture(scope="module")
def guest(cold, volume, qemu, build_dir, module_work_dir):
    cold.create(0, volume)
    device = {"driver": newer_qemu.DEVICE, "socket": {"type": "unix", "path": str(cold.socket(0))}}
    arguments = ["-object", f"memory-backend-memfd,id=memory,size={MEMORY_MIB}M,share=on",
                 "-machine", "pc,memory-backend=memory", "-device", "pci-bridge,chassis_nr=1,id=bus0",
                 # Additional memory that is not shared; the guest does not use it until requested.
                 "-m", "slots=1,maxmem=2G", "-object", f"memory-backend-ram,id=private,size={PRIVATE_MIB}M",
                 "-device", "pc-dimm,memdev=private", "-trace", "vfio_user_recv_request",
                 "-device", json.dumps(device), "-qmp", f"unix:{module_work_dir}/hot.qmp,server=on,wait=off",
                 "-qmp", f"unix:{module_work_dir}/cold.qmp,server=on,wait=off"]
    with VirtualMachine(module_work_dir, build_dir / "vm", cpus=CPUS, memory_mib=MEMORY_MIB,
                        extra_arguments=arguments, qemu=qemu) as machine:
        yield Guest(machine)
        machine.check_kernel()


@pytest.fixture(scope="module")
def hot(bin_dir, module_work_dir, guest):
    """Devices that the agent hot-plugs. QEMU 11.1 aborts when it unplugs one with MSI-X: by default they use MSI."""
    sockets = module_work_dir / "hot"
    params = {"sock_path": str(sockets), "qmp_addr": f"unix:{module_work_dir}/hot.qmp", "buses": [{"name": "bus0"}]}
    with (Target(bin_dir, module_work_dir, name="hot-target") as target,
          start_sma(bin_dir, module_work_dir, name="hot-sma", socket=str(target.socket), drift_period=1,
                    devices=[{"name": "vfiouser", "params": params}]) as agent):
        yield Devices(agent, target, sockets)


def test_the_controller_of_the_command_line_has_the_volume(cold, guest, volume):
    disk = guest.disk(volume)
    attributes = guest.run(f"cd /sys/block/{disk}; cat size queue/logical_block_size").split()
    assert attributes == [str(128 * MIB // 512), "4096"]
    digest = guest.write(disk)
    with open(cold.target.volume_file(volume), "rb") as file:
        assert hashlib.sha256(file.read(4 * MIB)).hexdigest() == digest


def test_all_queues_carry_verified_io(guest, volume):
    guest.run(f"fio --name=verify --filename=/dev/{guest.disk(volume)} --direct=1 --rw=randwrite --numjobs={CPUS} "
              "--offset_increment=24m --size=24m --bsrange=4k-256k --iodepth=16 --ioengine=libaio --verify=crc32c "
              "--verify_fatal=1 --cpus_allowed_policy=split --cpus_allowed=0-3 --output-format=terse", 180)
    interrupts = [sum(map(int, line.split()[1:1 + CPUS]))
                  for line in guest.run("grep 'nvme0q[1-9]' /proc/interrupts").splitlines()]
    assert len(interrupts) == CPUS
    assert all(count > 0 for count in interrupts)
    assert "I/O error" not in guest.run("dmesg")


def test_a_volume_is_attached_and_detached_while_the_guest_runs(cold, guest, volume):
    handle = "nvme:nqn.2016-06.io.spdk:vfiouser-0"
    second = cold.target.make_malloc_volume(size_mib=32, block_size=4096)
    for _ in range(2):
        cold.client.attach_volume(handle, second)
        guest.write(guest.disk(second))
        cold.client.detach_volume(handle, second)
        guest.machine.wait_until(f"! cat /sys/block/nvme*n*/uuid | grep -q {second}", 30)
    assert guest.disks() == [guest.disk(volume)]


def test_the_agent_plugs_and_unplugs_in_one_slot(hot, guest):
    first = guest.disks()
    for _ in range(3):
        added = hot.target.make_malloc_volume(size_mib=16, block_size=4096)
        handle = hot.create(2, added)
        assert guest.has_device("vfiouser-2")
        guest.write(guest.disk(added))
        hot.delete(handle)
        assert guest.disks() == first
        assert not guest.has_device("vfiouser-2")
        assert not hot.socket(2).parent.exists()


def test_a_device_is_plugged_again_when_the_target_restarts(hot, guest):
    """QEMU does not reconnect by itself."""
    kept = hot.target.make_file_volume(size_mib=32)
    handle = hot.create(5, kept)
    digest = guest.write(guest.disk(kept))
    hot.target.kill()
    hot.target.start()
    hot.target.make_file_volume(volume=kept)

    def connected():
        nqn = handle.removeprefix("nvme:")
        return hot.target.subsystem(nqn) and hot.target.call("nvmf_subsystem_get_controllers", nqn=nqn)
    wait_until(connected, 60, "the guest's driver is back")
    assert guest.digest(guest.disk(kept)) == digest
    hot.delete(handle)
    assert not guest.has_device("vfiouser-5")


def test_a_guest_survives_a_qemu_that_cannot_unplug(bin_dir, module_work_dir, cold, guest):
    sockets = module_work_dir / "msix"
    params = {"sock_path": str(sockets), "qmp_addr": f"unix:{module_work_dir}/cold.qmp", "buses": [{"name": "bus0"}],
              "interrupts": "msix"}
    with start_sma(bin_dir, module_work_dir, name="msix-sma", socket=str(cold.target.socket),
                   devices=[{"name": "vfiouser", "params": params}]) as agent:
        devices = Devices(agent, cold.target, sockets)
        added = cold.target.make_malloc_volume(size_mib=16, block_size=4096)
        handle = devices.create(9, added)
        disk = guest.disk(added)
        if guest.machine.monitor("info version").startswith("11.1."):
            with pytest.raises(grpc.RpcError) as error:
                devices.delete(handle)
            assert error.value.code() == grpc.StatusCode.FAILED_PRECONDITION
            assert "MSI-X" in error.value.details()
            guest.write(disk)
        else:
            devices.delete(handle)
            assert disk not in guest.disks()


def test_data_in_memory_that_is_not_shared(guest, volume):
    """If that memory is movable, Linux uses it for the buffers of programs, but not for queues."""
    assert guest.dma_messages() == (0, 0)
    guest.run("cd /sys/devices/system/memory; for state in memory*/state; do "
              "grep -q offline $state && echo online_movable >$state; done; ! grep -l offline memory*/state")
    disk = guest.disk(volume)
    guest.write(disk)
    guest.run(f"fio --name=verify --filename=/dev/{disk} --direct=1 --rw=randwrite --numjobs=2 --offset_increment=8m "
              "--size=8m --bsrange=4k-256k --iodepth=16 --ioengine=libaio --verify=crc32c --verify_fatal=1 "
              "--output-format=terse", 180)
    assert min(guest.dma_messages()) > 50
    assert "I/O error" not in guest.run("dmesg")
