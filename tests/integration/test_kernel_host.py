# SPDX-License-Identifier: Apache-2.0
"""Tests the main use case: a Linux kernel uses devices and volumes of the agent on the embedded target. One VM and one
agent; each test has its own device."""

import json
import signal
import uuid

import pytest

from harness.agent import free_port, start_sma
from harness.host import Host
from harness.target import Target
from harness.vm import GuestError
from harness.vm.machine import HOST_IPV6
from harness.wait import wait_until

HOST = "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-4333-8444-555555555555"
OTHER_HOST = "nqn.2014-08.org.nvmexpress:uuid:99999999-2222-4333-8444-555555555555"


@pytest.fixture(scope="module")
def target(bin_dir, module_work_dir):
    with Target(bin_dir, module_work_dir) as running:
        yield running


@pytest.fixture(scope="module")
def sma(bin_dir, module_work_dir, target):
    with start_sma(bin_dir, module_work_dir, socket=str(target.socket)) as agent:
        yield agent


@pytest.fixture(scope="module")
def port():
    """The port of the listener that all devices share."""
    return free_port()


@pytest.fixture
def nqn():
    return f"nqn.2016-06.io.spdk:test-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def host(machine):
    host = Host(machine)
    yield host
    host.run("umount /mnt 2>/dev/null; nvme disconnect-all")


@pytest.fixture
def device(sma, port, nqn):
    """A device that every host may use."""
    handle = sma.client.create_nvmf_tcp(nqn, port, allow_any_host=True)
    yield handle
    sma.client.delete_device(handle)


def write_files(host, disk):
    """Creates a file system with files and their checksums on the disk, and unmounts it."""
    host.run(f"""set -e
        mkfs.ext4 -q -F {disk}
        mount -t ext4 {disk} /mnt
        for i in 1 2 3 4 5 6 7 8; do dd if=/dev/urandom of=/mnt/file$i bs=64k count=$((i * 4)) 2>/dev/null; done
        cd /mnt && sha256sum file* >sums && cd / && umount /mnt""")


def check_files(host, disk):
    host.run(f"set -e; e2fsck -f -n {disk}; mount -t ext4 {disk} /mnt; cd /mnt; sha256sum -c sums; cd /; umount /mnt")


def test_the_device_is_discovered(host, device, port, nqn):
    log = host.discover(port)
    assert nqn in log
    assert f"trsvcid: {port}" in log


def test_a_file_backed_volume_keeps_a_file_system(host, sma, target, device, port, nqn):
    volume = target.make_file_volume()
    sma.client.attach_volume(device, volume)
    host.connect(nqn, port)
    disk = host.disk(volume)
    write_files(host, disk)
    host.disconnect(nqn)
    host.connect(nqn, port)
    check_files(host, host.disk(volume))
    # The namespace reports the volume's id in both forms.
    assert volume.hex in host.run(f"nvme id-ns {disk}")
    assert str(volume) in host.run(f"nvme ns-descs {disk}")


def test_a_volume_is_detached_and_attached_while_connected(host, sma, target, device, port, nqn):
    volume = target.make_file_volume()
    sma.client.attach_volume(device, volume)
    host.connect(nqn, port)
    write_files(host, host.disk(volume))
    sma.client.detach_volume(device, volume)
    host.wait_gone(volume)
    assert host.state(nqn) == "live"
    sma.client.attach_volume(device, volume)
    check_files(host, host.disk(volume))


def test_a_second_volume_is_hot_added(host, sma, target, device, port, nqn):
    first, second = target.make_malloc_volume(), target.make_malloc_volume(size_mib=16)
    sma.client.attach_volume(device, first)
    host.connect(nqn, port)
    host.disk(first)
    sma.client.attach_volume(device, second)
    disk = host.disk(second)
    assert int(host.run(f"blockdev --getsize64 {disk}")) == 16 << 20
    assert host.find_disk(first) not in (None, disk)


def test_a_growing_volume_is_detected(host, sma, target, device, port, nqn):
    volume = target.make_file_volume(size_mib=16)
    sma.client.attach_volume(device, volume)
    host.connect(nqn, port)
    disk = host.disk(volume)
    with open(target.volume_file(volume), "ab") as file:
        file.truncate(32 << 20)
    target.call("bdev_aio_rescan", name=f"file-{volume.hex[:8]}")
    host.wait_until(f"test $(blockdev --getsize64 {disk}) = {32 << 20}")


def test_a_host_that_is_not_on_the_list_is_refused(host, sma, target, port, nqn):
    handle = sma.client.create_nvmf_tcp(nqn, port, hosts=[HOST])
    with pytest.raises(GuestError):
        host.connect(nqn, port, hostnqn=OTHER_HOST)
    assert host.state(nqn) == ""
    host.connect(nqn, port, hostnqn=HOST)
    host.disconnect(nqn)
    sma.client.delete_device(handle)


def test_digests(host, sma, target, device, port, nqn):
    volume = target.make_file_volume()
    sma.client.attach_volume(device, volume)
    host.connect(nqn, port, "--hdr-digest", "--data-digest")
    disk = host.disk(volume)
    write_files(host, disk)
    check_files(host, disk)


def test_several_io_queues(host, sma, target, device, port, nqn):
    volume = target.make_malloc_volume()
    sma.client.attach_volume(device, volume)
    host.connect(nqn, port, "--nr-io-queues=2", "--nr-write-queues=2", "--nr-poll-queues=2")
    assert len(target.call("nvmf_subsystem_get_qpairs", nqn=nqn)) == 7  # one of them is the admin queue
    verify_with_fio(host, host.disk(volume), "--numjobs=2 --size=8M --offset_increment=8M")


def test_ipv6(host, sma, target, nqn):
    port = free_port()
    handle = sma.client.create_nvmf_tcp(nqn, port, traddr="::1", adrfam="ipv6", allow_any_host=True)
    volume = target.make_malloc_volume()
    sma.client.attach_volume(handle, volume)
    host.connect(nqn, port, address=HOST_IPV6)
    verify_with_fio(host, host.disk(volume), "--size=8M")
    host.disconnect(nqn)
    sma.client.delete_device(handle)


def verify_with_fio(host, disk, options="", timeout_s=120):
    """Writes the disk in random order with checksums and verifies them."""
    output = host.run(f"fio --name=verify --filename={disk} --direct=1 --ioengine=libaio --iodepth=32 --rw=randwrite "
                      f"--bsrange=512-128k --verify=crc32c --verify_fatal=1 --output-format=json {options}", timeout_s)
    jobs = json.loads(output[output.index("{"):])["jobs"]
    assert all(job["error"] == 0 for job in jobs)
    assert all(job["read"]["total_ios"] > 0 for job in jobs)


@pytest.mark.parametrize("kind", ["malloc", "file"])
def test_fio_with_verification(host, sma, target, device, port, nqn, kind):
    volume = target.make_malloc_volume() if kind == "malloc" else target.make_file_volume(block_size=512)
    sma.client.attach_volume(device, volume)
    host.connect(nqn, port)
    verify_with_fio(host, host.disk(volume))


def test_discard_and_write_zeroes(host, sma, target, device, port, nqn):
    volume = target.make_file_volume()
    sma.client.attach_volume(device, volume)
    host.connect(nqn, port)
    disk = host.disk(volume)
    host.run(f"""set -e
        dd if=/dev/urandom of={disk} bs=1M count=8 oflag=direct 2>/dev/null
        blkdiscard -o 1048576 -l 2097152 {disk}
        nvme write-zeroes {disk} --start-block=1024 --block-count=511
        for offset in 1 2 4 5; do
          dd if={disk} bs=1M skip=$offset count=1 iflag=direct 2>/dev/null | cmp -n 1048576 - /dev/zero
        done
        ! dd if={disk} bs=1M skip=3 count=1 iflag=direct 2>/dev/null | cmp -s -n 1048576 - /dev/zero""")
    # Discarded blocks use no space in the file.
    assert target.volume_file(volume).stat().st_blocks * 512 <= (8 - 2) << 20


def test_a_killed_target_loses_no_data(host, sma, target, device, port, nqn):
    volume = target.make_file_volume()
    sma.client.attach_volume(device, volume)
    host.connect(nqn, port, "--reconnect-delay=1", "--ctrl-loss-tmo=60")
    disk = host.disk(volume)
    writing = host.machine.start(
        f"fio --name=survive --filename={disk} --direct=1 --ioengine=libaio --iodepth=8 --rw=randwrite --bs=4k "
        "--size=16M --rate_iops=400 --verify=crc32c --verify_fatal=1")
    wait_until(lambda: host_wrote(target, volume), 30, "the host writes")
    target.kill()
    wait_until(lambda: host.state(nqn) == "connecting", 30, "the host has detected it")
    target.start()
    target.make_file_volume(volume=volume)
    wait_until(lambda: host.state(nqn) == "live", 60, "the host is connected again")
    assert "err= 0" in writing.check(180)


def host_wrote(target, volume):
    name = target.call("bdev_get_bdevs", name=str(volume))[0]["name"]
    stats = {bdev["name"]: bdev for bdev in target.call("bdev_get_iostat")["bdevs"]}
    return stats[name]["num_write_ops"] > 100


def test_a_host_that_disappears_leaves_nothing_on_the_target(host, sma, target, device, port, nqn):
    volume = target.make_malloc_volume()
    sma.client.attach_volume(device, volume)
    host.connect(nqn, port, "--keep-alive-tmo=2", "--reconnect-delay=1")
    host.disk(volume)
    assert len(target.call("nvmf_subsystem_get_controllers", nqn=nqn)) == 1
    # The VM is paused: its connections stay open, but send no keep-alive.
    host.machine.process.signal(signal.SIGSTOP)
    try:
        wait_until(lambda: target.call("nvmf_subsystem_get_controllers", nqn=nqn) == [], 30, "the controller ends")
    finally:
        host.machine.process.signal(signal.SIGCONT)
    wait_until(lambda: host.state(nqn) == "live", 60, "the host is connected again")
