# SPDX-License-Identifier: Apache-2.0
"""Tests a gateway with a faulty remote: dead connections, path errors, a different disk with the same NSID, fewer
queues than reactors."""

import contextlib
import socket
import struct
import threading
import time

import pytest

from harness import nvme_pdu
from harness.nvme_pdu import RawHost
from harness.remote import ExportingTarget, NvmeTool, address, finish, finish_load
from harness.tcp_proxy import TcpProxy
from harness.wait import wait_until

REMOTE_NQN = "nqn.2016-06.io.spdk:remote0"
LOCAL_NQN = "nqn.2016-06.io.spdk:local0"
BLOCK = 4096


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


def test_io_on_a_dead_connection_uses_the_other_path(remote, gateway, host):
    """The admin connections stay alive, and no option is set."""
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


def test_a_frozen_remote_is_detected_and_its_other_path_used(bin_dir, work_dir, gateway, host, remote):
    """With SIGSTOP the kernel acknowledges everything, and nothing is answered."""
    volume = remote.export_file()
    port = remote.make_subsystem(REMOTE_NQN, volume)
    attach(gateway, port)
    local_port = gateway.make_subsystem(LOCAL_NQN, volume)
    remote.process.pause()
    try:
        verify = host.start("verify", local_port, LOCAL_NQN, "--size", "1M")
        wait_until(lambda: path_states(gateway) != ["enabled"], 20, "the loss is detected")
    finally:
        remote.process.resume()
    finish(verify)
    assert path_states(gateway) == ["enabled"]


@pytest.mark.parametrize("loss", ["keep-alive", "reset"])
def test_a_write_held_by_a_lost_path_does_not_land_late(bin_dir, work_dir, gateway, loss):
    """The network holds a write; the gateway sends it on the other path. When the first copy arrives, a newer write has
    been acknowledged."""
    old, new = b"O" * BLOCK, b"N" * BLOCK
    keep_alive_s = 1
    with ExportingTarget(bin_dir, work_dir, kas=1, min_kato=keep_alive_s * 1000) as remote:
        volume = remote.export_file()
        port = remote.make_subsystem(REMOTE_NQN, volume)
        gateway.call("bdev_nvme_set_options", keep_alive_timeout_ms=keep_alive_s * 1000)
        with TcpProxy(port) as proxy, gateway.connect() as slow:
            attach(gateway, proxy.port)
            with RawHost(gateway.make_subsystem(LOCAL_NQN, volume), LOCAL_NQN) as host:
                host.io.send(nvme_pdu.write_in_capsule(5, 0, 1, bytes(BLOCK)))
                assert host.io.expect(nvme_pdu.CAPSULE_RESP).status == 0
                attach(gateway, port)
                proxy.hold()
                host.io.send(nvme_pdu.write_in_capsule(5, 0, 1, old))
                wait_until(lambda: proxy.holding() - {0}, 10, "the write")  # 0 is the admin queue
                if loss == "reset":
                    slow.send("bdev_nvme_reset_controller", {"name": "nv0"})
                assert host.io.expect(nvme_pdu.CAPSULE_RESP).status == 0
                host.io.send(nvme_pdu.write_in_capsule(5, 0, 1, new))
                assert host.io.expect(nvme_pdu.CAPSULE_RESP).status == 0
                proxy.release()
                wait_until(lambda: path_states(gateway) == ["enabled"] * 2, 20, "the first path")
                assert host.read(0, 1, BLOCK) == new
            with RawHost(port, REMOTE_NQN, host_id=77) as reader:
                assert reader.read(0, 1, BLOCK) == new


def test_io_that_waits_for_a_disk_is_not_sent_to_another(bin_dir, work_dir, gateway, host):
    with ExportingTarget(bin_dir, work_dir, name="first") as first:
        port = first.make_subsystem(REMOTE_NQN, first.export_file())
        assert attach(gateway, port) == ["nv0n1"]
        local_port = gateway.make_subsystem(LOCAL_NQN, "nv0n1")
        host.run("verify", local_port, LOCAL_NQN, "--size", "1M")
        load = host.start_load(local_port, LOCAL_NQN, 30)
        wait_until(lambda: io_count(gateway) > 100, 20, "I/O")
        first.kill()
    # The same subsystem and NSID, but another disk.
    with ExportingTarget(bin_dir, work_dir, name="second") as second:
        other = second.export_file()
        second.make_subsystem(REMOTE_NQN, other, port=port)
        wait_until(lambda: gateway.call("bdev_get_bdevs", name="nv0n1")[0]["uuid"] == str(other), 20, "the other disk")
        with pytest.raises(AssertionError):
            finish_load(load)
        content = second.volume_file(other).read_bytes()
        assert content.count(0) == len(content), "written to"


def test_a_first_portal_without_answers_does_not_determine_the_disk(remote, gateway, host):
    volume = remote.export_file()
    port = remote.make_subsystem(REMOTE_NQN, volume)
    remote_flush = remote.call("bdev_get_bdevs", name=str(volume))[0]["supported_io_types"]["flush"]
    with socket.create_server(("127.0.0.1", 0)) as hole:
        with gateway.connect() as slow:
            slow.send("bdev_nvme_attach_controller",
                      {"name": "nv0", "subnqn": REMOTE_NQN, **address(hole.getsockname()[1])})
            taken = hole.accept()  # kept open and never answered
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


class PathErrors:
    """A proxy in front of a remote: completes reads of I/O queues with a path-related status (NVMe Base 2.0, Internal
    Path Error, 0x370), and forwards everything else. A context manager."""

    READ, CAPSULE_CMD, CAPSULE_RESP, INTERNAL_PATH_ERROR = 2, 4, 5, 0x370

    def __init__(self, port):
        self._remote = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self._sockets = []
        self.port = self._server.getsockname()[1]
        self.reads = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client = self._server.accept()[0]
                remote = socket.create_connection(("127.0.0.1", self._remote))
                self._sockets += [client, remote]
                threading.Thread(target=self._from_host, args=(client, remote), daemon=True).start()
                threading.Thread(target=self._from_remote, args=(remote, client), daemon=True).start()

    def _from_host(self, client, remote):
        with contextlib.suppress(OSError, ConnectionError):
            while True:
                header = self._exactly(client, 8)
                pdu = header + self._exactly(client, struct.unpack_from("<I", header, 4)[0] - 8)
                if pdu[0] == self.CAPSULE_CMD and pdu[8] == self.READ:
                    self.reads += 1
                    status = self.INTERNAL_PATH_ERROR << 1
                    client.sendall(struct.pack("<BBBBIQHHHH", self.CAPSULE_RESP, 0, 24, 0, 24, 0, self.reads % 32, 0,
                                               struct.unpack_from("<H", pdu, 10)[0], status))
                else:
                    remote.sendall(pdu)

    @staticmethod
    def _from_remote(remote, client):
        with contextlib.suppress(OSError):
            while data := remote.recv(1 << 16):
                client.sendall(data)

    @staticmethod
    def _exactly(sock, size):
        data = b""
        while len(data) < size:
            part = sock.recv(size - len(data))
            if not part:
                raise ConnectionError
            data += part
        return data

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for one in [self._server, *self._sockets]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def test_a_path_error_uses_the_other_path_or_backs_off(remote, gateway, host):
    volume = remote.export_file()
    port = remote.make_subsystem(REMOTE_NQN, volume)
    with PathErrors(port) as errors:
        attach(gateway, errors.port)
        local_port = gateway.make_subsystem(LOCAL_NQN, volume)
        load = host.start_load(local_port, LOCAL_NQN, 20)
        wait_until(lambda: errors.reads > 0, 20, "a read")
        before = errors.reads
        time.sleep(2)  # measured: the number of retries in this time
        assert errors.reads - before < 2000
        attach(gateway, port)
        assert finish_load(load) > 100
