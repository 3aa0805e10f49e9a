# SPDX-License-Identifier: Apache-2.0
"""Tests virtio-blk devices of the agent in Linux guests of QEMU: they are created, used, deleted, and recreated after
restarts of the target and QEMU."""

import hashlib
import json
import socket

import grpc
import pytest

from harness import wire
from harness.agent import start_sma
from harness.remote import ExportingTarget
from harness.target import MIB, Target
from harness.vm import VirtualMachine
from harness.wait import wait_until

MEMORY_MIB = 768
CALL_TIMEOUT_S = 60.0
VIRTIO_F_RING_PACKED = 34
# Options of QEMU: the buses, on an i440FX machine and on a Q35. Each has one that the other lacks.
PC_BUSES = ["pci-bridge,chassis_nr=1,id=pci.spdk.0", "pci-bridge,chassis_nr=2,id=above",
            "pci-bridge,chassis_nr=3,id=pci.spdk.1,bus=above,addr=1"]
Q35_BUSES = ["pcie-root-port,id=root.0,chassis=1", "pcie-root-port,id=root.1,chassis=2",
             "pcie-pci-bridge,id=pci.spdk.0,bus=root.1"]
# By the agent's configuration: 0-15 on pci.spdk.0, 16-47 on pci.spdk.1.
ROOT_PORT_ID = 48
# The status of other calls for a volume whose device is being deleted.
KEPT_FROM_OTHERS = (grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.UNAVAILABLE)


class Devices:
    """The agent's calls for virtio-blk devices."""

    def __init__(self, agent):
        self._stub = agent.client.stub

    def create(self, physical_id, volume, virtual_id=0, discovery_port=None):
        """`discovery_port`: the port on 127.0.0.1 of the target that has the volume, if it is not the agent's own."""
        request = wire.sma.CreateDeviceRequest()
        request.virtio_blk.physical_id = physical_id
        request.virtio_blk.virtual_id = virtual_id
        if volume is not None:
            request.volume.volume_id = volume.bytes
        if discovery_port is not None:
            request.volume.nvmf.hostnqn = f"nqn.2014-08.org.nvmexpress:uuid:{volume}"
            request.volume.nvmf.discovery.discovery_endpoints.add(trtype="TCP", traddr="127.0.0.1",
                                                                  trsvcid=str(discovery_port))
        return self._stub.CreateDevice(request, timeout=CALL_TIMEOUT_S).handle

    def delete(self, handle):
        self._stub.DeleteDevice(wire.sma.DeleteDeviceRequest(handle=handle), timeout=CALL_TIMEOUT_S)

    def set_qos(self, handle, **limits):
        request = wire.sma.SetQosRequest(device_handle=handle)
        for name, value in limits.items():
            setattr(request.maximum, name, value)
        self._stub.SetQos(request, timeout=CALL_TIMEOUT_S)

    def detach(self, handle, volume):
        self._stub.DetachVolume(wire.sma.DetachVolumeRequest(device_handle=handle, volume_id=volume.bytes),
                                timeout=CALL_TIMEOUT_S)


class Guests:
    """Starts VMs with the same buses and the same QMP socket, one after the other."""

    def __init__(self, work_dir, cache_dir):
        self.qmp_path = work_dir / "agent.qmp"
        self._work_dir = work_dir
        self._cache_dir = cache_dir
        self._boots = 0
        self.machine = None

    def boot(self, machine="pc", buses=()):
        self._boots += 1
        folder = self._work_dir / f"machine{self._boots}"
        folder.mkdir()
        arguments = ["-object", f"memory-backend-memfd,id=memory,size={MEMORY_MIB}M,share=on",
                     "-machine", f"{machine},memory-backend=memory",
                     "-qmp", f"unix:{self.qmp_path},server=on,wait=off"]
        for bus in buses:
            arguments += ["-device", bus]
        self.machine = VirtualMachine(folder, self._cache_dir, cpus=2, memory_mib=MEMORY_MIB, extra_arguments=arguments)

    def run(self, script):
        return self.machine.run(script)

    def disk(self, volume):
        """Returns the name of the disk with this volume's serial number, if it exists."""
        serial = str(volume)[:20]
        return self.machine.wait_until(
            f"for d in /sys/block/vd*; do [ \"$(cat $d/serial)\" = '{serial}' ] && basename $d && exit 0; done; exit 1",
            60).strip()

    def disks(self):
        return [name for name in self.run("ls /sys/block").split() if name.startswith("vd")]

    def has_device(self, name):
        return f'id "{name}"' in self.machine.monitor("info qtree")


@pytest.fixture(scope="module")
def target(bin_dir, module_work_dir):
    with Target(bin_dir, module_work_dir, ["-S", module_work_dir]) as running:
        yield running


@pytest.fixture(scope="module")
def guests(build_dir, module_work_dir):
    machines = Guests(module_work_dir, build_dir / "vm")
    machines.boot("pc", PC_BUSES)
    yield machines
    machines.machine.stop()


@pytest.fixture(scope="module")
def devices(bin_dir, module_work_dir, target, guests):
    params = {"qmp_addr": f"unix:{guests.qmp_path}", "sock_path": str(module_work_dir), "packed_ring": True,
              "buses": [{"name": "pci.spdk.0", "count": 16}, {"name": "pci.spdk.1"}, {"name": "root.0", "count": 1}]}
    with start_sma(bin_dir, module_work_dir, socket=str(target.socket), drift_period=1,
                   devices=[{"name": "vhost_blk", "params": params}]) as agent:
        yield Devices(agent)


@pytest.fixture(scope="module")
def kept(target, devices, guests):
    """Returns (handle, volume) of a device with a file system and a file on it, whose checksum is in /tmp/sum."""
    volume = target.make_file_volume(size_mib=128)
    handle = devices.create(1, volume)
    disk = guests.disk(volume)
    guests.run(f"mkfs.ext4 -q /dev/{disk} && mount /dev/{disk} /mnt && dd if=/dev/urandom of=/mnt/file bs=1M count=8 "
               f"2>/dev/null && sha256sum </mnt/file >/mnt/sum && umount /mnt")
    return handle, volume


def check_file(guests, volume):
    disk = guests.disk(volume)
    guests.run(f"echo 3 >/proc/sys/vm/drop_caches; mount /dev/{disk} /mnt && "
               f"[ \"$(sha256sum </mnt/file)\" = \"$(cat /mnt/sum)\" ]; status=$?; umount /mnt; exit $status")


def code_of(call, *arguments, **more):
    with pytest.raises(grpc.RpcError) as error:
        call(*arguments, **more)
    return error.value.code()


def test_a_device_is_a_disk(devices, guests, kept):
    handle, volume = kept
    assert handle == "virtio_blk:sma-1"
    check_file(guests, volume)
    assert devices.create(1, volume) == handle
    assert guests.disks() == [guests.disk(volume)]
    assert guests.run(f"cat /sys/block/{guests.disk(volume)}/device/features")[VIRTIO_F_RING_PACKED] == "1"


def test_invalid_requests_plug_nothing(target, devices, guests, kept):
    _, volume = kept
    other = target.make_malloc_volume(size_mib=16)
    assert code_of(devices.create, 1, other) == grpc.StatusCode.ALREADY_EXISTS
    assert code_of(devices.create, 2, volume) == grpc.StatusCode.ALREADY_EXISTS
    assert code_of(devices.create, 2, None) == grpc.StatusCode.INVALID_ARGUMENT
    assert code_of(devices.create, ROOT_PORT_ID + 1, other) == grpc.StatusCode.INVALID_ARGUMENT
    assert code_of(devices.create, 2, other, virtual_id=1) == grpc.StatusCode.INVALID_ARGUMENT
    assert code_of(devices.detach, kept[0], volume) == grpc.StatusCode.UNIMPLEMENTED
    assert [c["ctrlr"] for c in target.call("vhost_get_controllers")] == ["sma-1"]
    assert not guests.has_device("sma-2")


@pytest.mark.parametrize("listens", [True, False])
def test_a_character_device_of_another_client_is_not_used(module_work_dir, target, devices, guests, kept, listens):
    """It has the id of the agent's, and leads to another socket."""
    volume = target.make_malloc_volume(size_mib=16)
    path = module_work_dir / f"elsewhere{listens}"
    with socket.socket(socket.AF_UNIX) as listener:
        if listens:
            listener.bind(str(path))
            listener.listen()
        guests.machine.monitor(f"chardev-add socket,id=sma-2,path={path},reconnect=1")
        assert code_of(devices.create, 2, volume) == grpc.StatusCode.ALREADY_EXISTS
        assert "sma-2: " in guests.machine.monitor("info chardev")
        assert not guests.has_device("sma-2")
        guests.machine.monitor("chardev-remove sma-2")
    handle = devices.create(2, volume)
    guests.disk(volume)
    devices.delete(handle)
    assert "sma-2: " not in guests.machine.monitor("info chardev")


class Rounds:
    """Writes to the end of a disk, reads back and compares, repeatedly while other actions run."""

    def __init__(self, guests, disk, disk_mib):
        self._guests = guests
        place = f"bs=64k count=4 {{}}={disk_mib * 16 - 16}"
        self._job = guests.machine.start(f"""
            rm -f /tmp/stop /tmp/rounds; round=0
            while [ ! -e /tmp/stop ]; do
              dd if=/dev/urandom of=/tmp/piece bs=64k count=4 2>/dev/null
              dd if=/tmp/piece of=/dev/{disk} oflag=direct {place.format("seek")} 2>/dev/null || exit 1
              dd if=/dev/{disk} iflag=direct {place.format("skip")} 2>/dev/null | cmp - /tmp/piece || exit 1
              round=$((round + 1)); echo $round >/tmp/rounds.new; mv /tmp/rounds.new /tmp/rounds
            done""")
        guests.machine.wait_until("[ -s /tmp/rounds ]")

    def beside(self, action):
        """Runs the action while the I/O continues, and returns its result."""
        before = int(self._guests.run("cat /tmp/rounds"))
        result = action()
        self._guests.machine.wait_until(f"[ $(cat /tmp/rounds) -gt {before + 1} ]")
        return result

    def finish(self):
        self._guests.run("touch /tmp/stop")
        self._job.check()


@pytest.fixture(scope="module")
def remote(bin_dir, module_work_dir):
    """Returns (the remote target, its port, one of its volumes)."""
    with ExportingTarget(bin_dir, module_work_dir) as exporting:
        volume = exporting.export_file(size_mib=32)
        yield exporting, exporting.make_subsystem("nqn.2016-06.io.spdk:remote", volume), volume


def test_other_devices_use_one_slot_in_turn_during_io(target, remote, devices, guests, kept):
    """Tests a local disk in memory, and then a remote volume that is found through discovery."""
    rounds = Rounds(guests, guests.disk(kept[1]), 128)
    exporting, port, remote_volume = remote
    for volume, discovery_port in ((target.make_malloc_volume(size_mib=16), None), (remote_volume, port)):
        def create():
            assert devices.create(17, volume, discovery_port=discovery_port) == "virtio_blk:sma-17"
            return guests.disk(volume)
        second = rounds.beside(create)
        guests.run(f"mkfs.ext4 -q /dev/{second} && mount /dev/{second} /mnt && dd if=/dev/urandom of=/mnt/f bs=1M "
                   f"count=2 2>/dev/null && sha256sum </mnt/f >/tmp/sum && umount /mnt && mount /dev/{second} /mnt && "
                   f"sha256sum </mnt/f | cmp - /tmp/sum && umount /mnt")
        if volume == remote_volume:
            digest = guests.run(f"dd if=/dev/{second} bs=1M count=8 iflag=direct 2>/dev/null | sha256sum").split()[0]
            with open(exporting.volume_file(volume), "rb") as file:
                assert hashlib.sha256(file.read(8 * MIB)).hexdigest() == digest
        rounds.beside(lambda: devices.delete("virtio_blk:sma-17"))
        assert second not in guests.disks()
        assert not guests.has_device("sma-17")
        devices.delete("virtio_blk:sma-17")
    rounds.finish()
    assert [c["ctrlr"] for c in target.call("vhost_get_controllers")] == ["sma-1"]
    assert target.call("bdev_nvme_get_discovery_info") == []


def test_a_guest_that_does_not_release_its_disk(target, devices, guests):
    """The VM is paused during the call: the call succeeds, and its device and volume cannot be used otherwise until the
    VM continues."""
    volume = target.make_malloc_volume(size_mib=16)
    devices.create(2, volume)
    guests.disk(volume)
    guests.machine.monitor("stop")
    try:
        devices.delete("virtio_blk:sma-2")
        assert guests.has_device("sma-2")
        assert code_of(devices.create, 3, volume) in KEPT_FROM_OTHERS
    finally:
        guests.machine.monitor("cont")
    wait_until(lambda: not guests.has_device("sma-2"), 30, "the disk is released")

    def created():
        """The agent may not have detected it yet."""
        try:
            return devices.create(3, volume)
        except grpc.RpcError as error:
            assert error.code() in KEPT_FROM_OTHERS
            return None
    assert wait_until(created, 30, "the volume is free") == "virtio_blk:sma-3"
    guests.disk(volume)
    devices.delete("virtio_blk:sma-3")


def test_limits_of_device_and_volume_are_the_same(target, devices, kept):
    handle, volume = kept
    devices.set_qos(handle, rw_iops=50)
    limits = target.call("bdev_get_bdevs", name=str(volume))[0]["assigned_rate_limits"]
    assert limits["rw_ios_per_sec"] == 50_000
    devices.set_qos(handle)
    assert target.call("bdev_get_bdevs", name=str(volume))[0]["assigned_rate_limits"] == limits


# Limits of a device (thousands of I/Os, MiB per second), percent of reads, KiB of an I/O, and the I/Os per second at
# which the tightest limit is reached.
LIMITED = [
    ({"rw_iops": 1}, 50, 4, 1000),
    ({"rd_bandwidth": 3}, 100, 64, 3 * 1024 / 64),
    ({"wr_bandwidth": 2}, 0, 64, 2 * 1024 / 64),
    ({"rw_bandwidth": 4}, 50, 16, 4 * 1024 / 16),
    ({"rw_iops": 1, "rw_bandwidth": 3, "rd_bandwidth": 1, "wr_bandwidth": 2}, 70, 16, 1024 / 16 / 0.7),
]
LIMIT_TOLERANCE = 0.05


def test_limits_as_fio_measures_them(target, devices, guests, kept):
    """Each limit alone and all combined, on separate devices, concurrently."""
    volumes = [target.make_malloc_volume(size_mib=16) for _ in LIMITED]
    handles = [devices.create(20 + i, volume) for i, volume in enumerate(volumes)]
    for handle, (limits, *_) in zip(handles, LIMITED):
        devices.set_qos(handle, **limits)
    # fio ignores I/O that it requested before the measurement started: the queue depth is low where few I/Os are
    # expected.
    jobs = " ".join(f"--name={i} --filename=/dev/{guests.disk(volume)} --rw=randrw --rwmixread={reads} --bs={kib}k "
                    f"--iodepth={max(2, round(asked / 64))}"
                    for i, (volume, (_, reads, kib, asked)) in enumerate(zip(volumes, LIMITED)))
    output = guests.run("fio --output-format=json --direct=1 --ioengine=libaio --time_based --ramp_time=1 "
                        f"--runtime=5 {jobs}")
    got = [job["read"]["iops"] + job["write"]["iops"] for job in json.loads(output[output.index("{"):])["jobs"]]
    for (limits, reads, kib, asked), rate in zip(LIMITED, got):
        print(f"{limits}: {reads} % reads of {kib} KiB: asked {asked:.1f}, got {rate:.1f} per second")
    for handle in handles:
        devices.delete(handle)
    # How close a guest comes to a limit depends on the load of the test system; bench/qos measures that.
    for (limits, *_, asked), rate in zip(LIMITED, got):
        assert asked / 4 < rate < asked * (1 + LIMIT_TOLERANCE), limits


def test_the_target_is_restarted_during_io(target, guests, kept):
    _, volume = kept
    disk = guests.disk(volume)
    job = guests.machine.start(
        f"fio --name=verify --filename=/dev/{disk} --direct=1 --rw=randwrite --bs=4k --offset=64m --size=8m "
        f"--numjobs=4 --offset_increment=8m --iodepth=16 --ioengine=libaio --verify=crc32c "
        f"--verify_fatal=1 --output-format=terse")
    written = f"awk '{{print $7}}' /sys/block/{disk}/stat"
    start = int(guests.run(written))
    guests.machine.wait_until(f"[ $({written}) -gt {start + 4000} ]", 60)
    target.process.kill()
    target.start()
    target.make_file_volume(volume=volume)
    status, output = job.wait(300)
    assert status == 0, output
    assert "I/O error" not in guests.run("dmesg")
    assert target.call("bdev_get_bdevs", name=str(volume))[0]["assigned_rate_limits"]["rw_ios_per_sec"] == 50_000


def test_a_new_vm_gets_the_devices_again(target, devices, guests, kept):
    """The second VM is a Q35: a device on its root port is plugged and unplugged too."""
    handle, volume = kept
    guests.machine.check_kernel()
    guests.machine.process.kill()
    assert code_of(devices.create, 1, volume) == grpc.StatusCode.UNAVAILABLE
    guests.boot("q35", Q35_BUSES)
    wait_until(lambda: guests.has_device("sma-1"), 30, "the device is plugged in again")
    other = target.make_malloc_volume(size_mib=16)
    port_handle = devices.create(ROOT_PORT_ID, other)
    guests.disk(volume)
    disk = guests.disk(other)
    guests.run(f"exec 2>/dev/null; dd if=/dev/urandom of=/tmp/data bs=1M count=4; dd if=/tmp/data of=/dev/{disk} bs=1M "
               f"oflag=direct && dd if=/dev/{disk} bs=1M count=4 iflag=direct | cmp - /tmp/data")
    for gone in (port_handle, handle):
        devices.delete(gone)
    assert guests.disks() == []
    devices.create(1, volume)
    guests.disk(volume)
    devices.delete(handle)
    guests.machine.check_kernel()
