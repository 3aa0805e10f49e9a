# SPDX-License-Identifier: Apache-2.0
"""Tests a Linux guest of QEMU with virtio-blk disks that sma-target serves over vhost-user, in one boot."""

import hashlib
import os

import pytest

from harness.jsonrpc import RpcError
from harness.target import MIB, Target
from harness.vm import VirtualMachine
from harness.wait import wait_until

MEMORY_MIB = 768
SECTOR_BYTES = 512
VIRTIO_F_RING_PACKED = 34


class Guest:
    """The VM with helpers for these tests."""

    def __init__(self, machine, socket_dir):
        self.machine = machine
        self._socket_dir = socket_dir

    def plug(self, controller, bus, slot, queues=4, packed="off"):
        self.machine.monitor(f"chardev-add socket,id={controller},path={self._socket_dir}/{controller},reconnect=1")
        self.machine.monitor(f"device_add vhost-user-blk-pci,id={controller},chardev={controller},bus={bus},"
                             f"addr={slot},num-queues={queues},packed={packed}")

    def unplug(self, controller):
        """Waits until the guest has released the device and, a moment later, QEMU the character device."""
        self.machine.monitor(f"device_del {controller}")
        wait_until(lambda: controller not in self.machine.monitor("info qtree"), 30, f"{controller} is unplugged")

        def chardev_removed():
            """The monitor reports errors only in its output."""
            self.machine.monitor(f"chardev-remove {controller}")
            return controller not in self.machine.monitor("info chardev")
        wait_until(chardev_removed, 30, f"the character device of {controller} is removed")

    def start_fio(self, name, arguments):
        """Starts four jobs that write at random, each to its own part of the disk, and verify the data."""
        return self.machine.start(f"fio --name=verify --filename=/dev/{name} --direct=1 --rw=randwrite --numjobs=4 "
                                  f"--offset_increment=64m --iodepth=16 --ioengine=libaio --verify=crc32c "
                                  f"--verify_fatal=1 --output-format=terse {arguments}")

    def disk(self, volume):
        """Returns the name of the disk with this volume's serial number."""
        serial = str(volume)[:20]
        return self.machine.wait_until(
            f"for d in /sys/block/vd*; do [ \"$(cat $d/serial)\" = '{serial}' ] && basename $d && exit 0; done; exit 1",
            60).strip()


@pytest.fixture(scope="module")
def vhost_target(bin_dir, module_work_dir):
    # Two reactors, so that the queues of a disk are distributed.
    with Target(bin_dir, module_work_dir, ["-S", module_work_dir, "--cores", "2"]) as target:
        yield target


@pytest.fixture(scope="module")
def guest(vhost_target, build_dir, module_work_dir):
    arguments = ["-object", f"memory-backend-memfd,id=memory,size={MEMORY_MIB}M,share=on",
                 "-machine", "pc,memory-backend=memory",
                 "-device", "pci-bridge,chassis_nr=1,id=bus0", "-device", "pci-bridge,chassis_nr=2,id=bus1"]
    with VirtualMachine(module_work_dir, build_dir / "vm", cpus=4, memory_mib=MEMORY_MIB,
                        extra_arguments=arguments) as machine:
        yield Guest(machine, module_work_dir)
        machine.check_kernel()


def serve(target, controller, volume, **params):
    assert target.call("vhost_create_blk_controller", ctrlr=controller, dev_name=str(volume), **params) is True


def delete(target, controller):
    def deleted():
        """The target may not have detected yet that QEMU has closed its socket."""
        try:
            return target.call("vhost_delete_controller", ctrlr=controller)
        except RpcError as error:
            assert error.message == "Device or resource busy"
            return False
    wait_until(deleted, 10, f"{controller} is deleted")


@pytest.fixture(scope="module")
def file_disk(vhost_target, guest):
    """Returns (name in the guest, volume) of a disk in a file, 512 MiB, with four queues."""
    volume = vhost_target.make_file_volume(size_mib=512)
    serve(vhost_target, "file", volume)
    guest.plug("file", "bus0", 1)
    return guest.disk(volume), volume


@pytest.fixture(scope="module")
def packed_disk(vhost_target, guest):
    """Like file_disk, 256 MiB with packed virtqueues."""
    volume = vhost_target.make_file_volume(size_mib=256)
    serve(vhost_target, "packed", volume, packed_ring=True)
    guest.plug("packed", "bus0", 2, packed="on")
    return guest.disk(volume), volume


def test_a_disk_has_the_properties_of_its_bdev(vhost_target, guest, file_disk):
    name, _ = file_disk
    attributes = guest.machine.run(
        f"cd /sys/block/{name}; cat size ro queue/logical_block_size queue/write_cache; ls mq | wc -l").split("\n")
    assert attributes[:3] == [str(512 * MIB // SECTOR_BYTES), "0", "4096"]
    assert attributes[3] == "write back"
    assert int(attributes[4]) == 4
    sessions = vhost_target.call("vhost_get_controllers", name="file")[0]["sessions"]
    assert [(s["started"], s["max_queues"]) for s in sessions] == [(True, 4)]


def test_data_of_the_guest_are_in_the_file(vhost_target, guest, file_disk):
    name, volume = file_disk
    digest = guest.machine.run(
        f"dd if=/dev/urandom of=/tmp/data bs=1M count=4 2>/dev/null; dd if=/tmp/data of=/dev/{name} bs=1M oflag=direct "
        f"seek=3 2>/dev/null && sync && sha256sum /tmp/data").split()[0]
    with open(vhost_target.volume_file(volume), "rb") as file:
        file.seek(3 * MIB)
        assert hashlib.sha256(file.read(4 * MIB)).hexdigest() == digest


def test_a_second_disk_is_plugged_and_unplugged_during_io(vhost_target, guest, file_disk):
    name, _ = file_disk
    job = guest.start_fio(name, "--bs=4k-64k --size=64m")
    volume = vhost_target.make_malloc_volume(size_mib=32)
    for slot in (2, 2):
        serve(vhost_target, "second", volume)
        guest.plug("second", "bus1", slot, queues=1)
        second = guest.disk(volume)
        guest.machine.run(f"mkfs.ext4 -q /dev/{second} && mount /dev/{second} /mnt && echo text >/mnt/file && "
                          f"umount /mnt && mount /dev/{second} /mnt && grep -q text /mnt/file && umount /mnt")
        guest.unplug("second")
        assert second not in guest.machine.run("ls /sys/block").split()
        delete(vhost_target, "second")
    status, output = job.wait(300)
    assert status == 0, output


def test_discard_and_zeroes_reach_the_file(vhost_target, guest, file_disk):
    name, volume = file_disk
    path = vhost_target.volume_file(volume)
    before = os.stat(path).st_blocks
    assert before > 0
    guest.machine.run(f"blkdiscard /dev/{name}")
    assert os.stat(path).st_blocks < before // 4


def test_a_disk_with_packed_virtqueues(guest, file_disk, packed_disk):
    for (name, _), packed in ((file_disk, "0"), (packed_disk, "1")):
        assert guest.machine.run(f"cat /sys/block/{name}/device/features")[VIRTIO_F_RING_PACKED] == packed
    name, _ = packed_disk
    guest.machine.run(f"mkfs.ext4 -q /dev/{name} && mount /dev/{name} /mnt && dd if=/dev/urandom of=/mnt/file bs=1M "
                      f"count=4 2>/dev/null && sha256sum </mnt/file >/tmp/packed && umount /mnt && "
                      f"echo 3 >/proc/sys/vm/drop_caches && mount /dev/{name} /mnt && sha256sum </mnt/file | "
                      f"cmp - /tmp/packed && umount /mnt")


def test_io_of_the_guest_survives_a_killed_target(vhost_target, guest, file_disk, packed_disk):
    disks = {"file": file_disk, "packed": packed_disk}
    jobs = [guest.start_fio(name, "--bs=4k --size=10m") for name, _ in disks.values()]
    # Both have outstanding requests when the target dies.
    written = [f"awk '{{print $7}}' /sys/block/{name}/stat" for name, _ in disks.values()]
    for _ in range(2):
        start = [int(guest.machine.run(command)) for command in written]
        for command, sectors in zip(written, start):
            guest.machine.wait_until(f"[ $({command}) -gt {sectors + 5000} ]", 60)
        vhost_target.process.kill()
        vhost_target.start()
        for controller, (_, volume) in disks.items():
            vhost_target.make_file_volume(volume=volume)
            serve(vhost_target, controller, volume, packed_ring=controller == "packed")
    for job in jobs:
        status, output = job.wait(300)
        assert status == 0, output
    assert "I/O error" not in guest.machine.run("dmesg")


def test_a_read_only_disk(vhost_target, guest):
    volume = vhost_target.make_malloc_volume(size_mib=8)
    serve(vhost_target, "readonly", volume, readonly=True)
    guest.plug("readonly", "bus1", 4)
    name = guest.disk(volume)
    assert guest.machine.run(f"cat /sys/block/{name}/ro").strip() == "1"
    status, _ = guest.machine.start(f"dd if=/dev/zero of=/dev/{name} bs=4k count=1 oflag=direct").wait(30)
    assert status != 0
    guest.unplug("readonly")
    delete(vhost_target, "readonly")
