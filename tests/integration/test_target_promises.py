# SPDX-License-Identifier: Apache-2.0
"""Tests that the properties which the target reports for its disks are true on the wire, with clients that share no
code with it."""

import contextlib
import fcntl
import os
import socket
import struct
import time

import pytest

from harness import nvme_pdu as nvme
from harness.agent import free_port
from harness.jsonrpc import RpcError
from harness.nvme_pdu import RawHost
from harness.raw_vhost_user import GET_FEATURES, READ, WRITE, FrontEnd
from harness.target import MIB, Target
from harness.wait import wait_until

NQN = "nqn.2016-06.io.spdk:promises"
BLOCK = 4096
IDENTIFY, WRITE_ZEROES = 6, 8
DEALLOCATE = 1 << 25
F_RO, F_DISCARD, F_WRITE_ZEROES = 1 << 5, 1 << 13, 1 << 14


@pytest.fixture
def target(bin_dir, work_dir):
    with Target(bin_dir, work_dir, ["-S", work_dir, "--cores", "1"]) as running:
        yield running


def export(target, bdev):
    """Returns the port."""
    with contextlib.suppress(RpcError):  # it already exists
        target.call("nvmf_create_transport", trtype="TCP")
    target.call("nvmf_create_subsystem", nqn=NQN, allow_any_host=True)
    target.call("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": bdev})
    port = free_port()
    target.call("nvmf_subsystem_add_listener", nqn=NQN,
                listen_address={"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(port)})
    return port


def make_file(target, work_dir, name, **params):
    path = work_dir / f"{name}.img"
    path.write_bytes(b"x" * MIB)
    target.call("bdev_aio_create", name=name, filename=str(path), block_size=BLOCK, **params)
    return path


def identify_namespace(host):
    host.admin.send(nvme.command(IDENTIFY, 5, 1, struct.pack("<I20x", 0), host_bytes=4096))
    data = host.admin.expect(nvme.C2H_DATA)
    if not data.flags & nvme.SUCCESS:
        assert host.admin.expect(nvme.CAPSULE_RESP).status == 0
    return data.data


def test_dlfeat_describes_write_zeroes(target, work_dir):
    path = make_file(target, work_dir, "disk")
    with RawHost(export(target, "disk"), NQN) as host:
        dlfeat = identify_namespace(host)[33]
        for flags, deallocates in ((0, False), (DEALLOCATE, dlfeat & 8 != 0)):
            before = os.stat(path).st_blocks
            dwords = struct.pack("<QI", 16, 127 | flags)
            host.io.send(nvme.command(WRITE_ZEROES, 3, 1, dwords))
            assert host.io.expect(nvme.CAPSULE_RESP).status == 0
            assert host.read(16, 1, BLOCK) == bytes(BLOCK)
            assert (os.stat(path).st_blocks < before) == deallocates, hex(dlfeat)
            with open(path, "r+b") as file:
                file.write(b"x" * MIB)


def test_a_read_only_disk_is_exported_read_only(target, work_dir):
    make_file(target, work_dir, "disk", readonly=True)
    target.call("vhost_create_blk_controller", ctrlr="c", dev_name="disk")
    with contextlib.closing(FrontEnd(work_dir / "c")) as front_end:
        features, = struct.unpack("<Q", front_end.ask(GET_FEATURES))
        assert features & (F_RO | F_DISCARD | F_WRITE_ZEROES) == F_RO
    with RawHost(export(target, "disk"), NQN) as host:
        assert identify_namespace(host)[99] & 1
        host.io.send(nvme.write_in_capsule(9, 1, 1, bytes(BLOCK)))
        assert host.io.expect(nvme.CAPSULE_RESP).status != 0


def test_a_file_has_one_bdev(target, work_dir):
    path = make_file(target, work_dir, "disk")
    os.link(path, work_dir / "link.img")
    for name in (path, work_dir / "link.img"):
        with pytest.raises(RpcError):
            target.call("bdev_aio_create", name="again", filename=str(name), block_size=BLOCK)
    target.call("bdev_aio_delete", name="disk")
    target.call("bdev_aio_create", name="again", filename=str(path), block_size=BLOCK)


def test_commands_after_the_keep_alive_time_are_not_executed(target, work_dir):
    """A stopped target has not seen the time pass, and the host may have continued elsewhere."""
    make_file(target, work_dir, "disk")
    target.call("nvmf_create_transport", trtype="TCP", kas=1, min_kato=300)
    port = export(target, "disk")
    with RawHost(port, NQN, keep_alive_ms=300) as host:
        target.process.pause()
        try:
            host.io.send(nvme.write_in_capsule(5, 0, 1, bytes(BLOCK)))
            time.sleep(1)  # the keep-alive time passes
        finally:
            target.process.resume()
        assert host.io.receive() is None, "not disconnected"
    with RawHost(port, NQN) as reader:
        assert reader.read(0, 1, BLOCK) == b"x" * BLOCK


def fill(eventfd):
    """Sets the counter to its maximum, although the target may add to it at the same time."""
    while True:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(eventfd)
        with contextlib.suppress(BlockingIOError):
            return os.eventfd_write(eventfd, (1 << 64) - 2)


def test_a_blocking_eventfd_delays_nobody(target, work_dir):
    make_file(target, work_dir, "disk")
    port = export(target, "disk")
    make_file(target, work_dir, "guest")
    target.call("vhost_create_blk_controller", ctrlr="c", dev_name="guest")
    with contextlib.closing(FrontEnd(work_dir / "c")) as front_end, RawHost(port, NQN) as host:
        front_end.handshake()
        messages = front_end.start_messages(0)
        for request, payload, fds in messages:
            front_end.acknowledged(request, payload, fds)
        # The counter is full, and the open file, which the target has a duplicate of, is made blocking.
        call = messages[3][2][0]
        fill(call)
        fcntl.fcntl(call, fcntl.F_SETFL, 0)
        try:
            front_end.submit(0, READ, 0, bytes(BLOCK))
            # An earlier signal may have stopped its vring; others on the same reactor are served all the time.
            until = time.monotonic() + 2
            while time.monotonic() < until:
                assert host.read(1, 1, BLOCK) == b"x" * BLOCK
        finally:
            fcntl.fcntl(call, fcntl.F_SETFL, os.O_NONBLOCK)
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(call)  # unblocks a waiting target


def test_setting_the_same_limit_again_gives_no_credit(target, work_dir):
    make_file(target, work_dir, "disk")
    limit, seconds = 1000, 2
    with RawHost(export(target, "disk"), NQN) as host:
        target.call("bdev_set_qos_limit", name="disk", rw_ios_per_sec=limit)
        depth, done = 16, 0
        host.io.send(*(nvme.read(cid, cid, 1, BLOCK) for cid in range(depth)))
        started = time.monotonic()
        next_set = started
        while time.monotonic() < started + seconds:
            if time.monotonic() >= next_set:
                target.call("bdev_set_qos_limit", name="disk", rw_ios_per_sec=limit)
                next_set += 0.02
            data = host.io.expect(nvme.C2H_DATA)
            if not data.flags & nvme.SUCCESS:
                assert host.io.expect(nvme.CAPSULE_RESP).status == 0
            done += 1
            host.io.send(nvme.read(data.cid, data.cid, 1, BLOCK))
        took = time.monotonic() - started
    # An initial burst, and the I/Os of the last answers.
    assert done <= limit * took * 1.2 + 100


def execute(front_end, kind, sector, data):
    """Executes a virtio-blk request on vring 0 and returns its data."""
    used = front_end.used(0)
    slot = front_end.submit(0, kind, sector, data)
    wait_until(lambda: front_end.used(0) != used, 10, "the request is complete")
    return front_end.answer(0, slot, len(data))[1]


class NvmeHost:
    """Writes a block over NVMe/TCP."""

    def __init__(self, target, bdev, _):
        self.port = export(target, bdev)
        self.host = RawHost(self.port, NQN)
        self.host.read(0, 1, BLOCK)

    def send_write(self, data):
        self.host.io.send(nvme.write_in_capsule(9, 0, 1, data))

    def leave(self):
        self.host.io.socket.shutdown(socket.SHUT_RDWR)

    def read_anew(self):
        with RawHost(self.port, NQN) as host:
            return host.read(0, 1, BLOCK)


class Guest:
    """Writes a block over vhost-user."""

    def __init__(self, target, bdev, work_dir):
        target.call("vhost_create_blk_controller", ctrlr="left", dev_name=bdev)
        self.path = work_dir / "left"
        self.front_end = self.connect()
        execute(self.front_end, READ, 0, bytes(BLOCK))

    def connect(self):
        front_end = FrontEnd(self.path)
        front_end.handshake()
        front_end.start(0)
        return front_end

    def send_write(self, data):
        self.front_end.submit(0, WRITE, 0, data)

    def leave(self):
        self.front_end.socket.close()

    def read_anew(self):
        return execute(self.connect(), READ, 0, bytes(BLOCK))


@pytest.mark.parametrize("client", [NvmeHost, Guest])
def test_requests_of_a_client_that_has_left_are_not_executed(target, work_dir, client):
    """The client sends a write while the target is stopped, and leaves before it continues: by then it may have written
    newer data through another target."""
    target.call("bdev_malloc_create", name="kept", block_size=BLOCK, num_blocks=256)
    one = client(target, "kept", work_dir)
    target.process.pause()
    one.send_write(b"o" * BLOCK)
    one.leave()
    time.sleep(0.01)  # the target notices that it was stopped if that took longer than a millisecond
    target.process.resume()
    assert one.read_anew() == bytes(BLOCK)
