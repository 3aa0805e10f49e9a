# SPDX-License-Identifier: Apache-2.0
"""Tests the target at its limits: with few descriptors, little memory, a full disk, a remote that does not answer, or
clients that do not read. It must answer, serve other clients, recover, and release memory and descriptors."""

import concurrent.futures
import contextlib
import errno
import os
import pathlib
import random
import resource
import stat
import subprocess
import time
import uuid

import pytest

from harness import nvme_pdu as nvme
from harness import raw_vfio_user
from harness.agent import free_port
from harness.jsonrpc import JsonRpcClient, RpcError
from harness.nvme_pdu import RawConnection, RawHost
from harness.raw_vhost_user import FrontEnd
from harness.remote import ExportingTarget, address
from harness.target import MIB, Target
from harness.wait import wait_until

NQN = "nqn.2016-06.io.spdk:limits"
BLOCK = 4096
LARGE = 131072


def limited(bin_dir, work_dir, *commands):
    """Returns a folder of programs in which sma-target runs the shell commands `commands` first."""
    folder = work_dir / "limited"
    folder.mkdir()
    script = folder / "sma-target"
    script.write_text("\n".join(["#!/bin/sh", *commands, f'exec {bin_dir}/sma-target "$@"', ""]))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return folder


def export(target, bdev, nqn=NQN):
    """Creates a subsystem with this bdev as namespace 1; returns its port."""
    with contextlib.suppress(RpcError):  # it already exists
        target.call("nvmf_create_transport", trtype="TCP")
    target.call("nvmf_create_subsystem", nqn=nqn, allow_any_host=True)
    target.call("nvmf_subsystem_add_ns", nqn=nqn, namespace={"bdev_name": bdev})
    port = free_port()
    target.call("nvmf_subsystem_add_listener", nqn=nqn,
                listen_address={"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(port)})
    return port


def file_bdev(volume):
    return f"file-{volume.hex[:8]}"


def write_block(host, lba, data, cid=9):
    """Returns the status."""
    host.io.send(nvme.write_in_capsule(cid, lba, 1, data))
    return host.io.expect(nvme.CAPSULE_RESP).status


def answer_seconds(target):
    started = time.monotonic()
    target.call("bdev_get_bdevs")
    return time.monotonic() - started


def descriptors(target):
    return len(os.listdir(f"/proc/{target.process.pid}/fd"))


def log_in(port):
    """Connects a host, retrying until the target has dropped other connections."""
    def attempt():
        try:
            return RawHost(port, NQN)
        except AssertionError as error:  # the connection was closed before an answer
            raise ConnectionError(str(error)) from None
    return wait_until(attempt, 10, "a host logs in")


def half_open(port, count, stack):
    """Opens connections that send nothing. Some may be refused."""
    for _ in range(count):
        with contextlib.suppress(OSError):
            stack.enter_context(RawConnection(port))


@pytest.fixture(autouse=True)
def many_descriptors():
    """Raises the limit of this process, which simulates thousands of clients."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("limit,connections", [(64, 200), (1024, 1100)])
def test_few_descriptors_and_connections_that_do_not_log_in(bin_dir, work_dir, limit, connections):
    with Target(limited(bin_dir, work_dir, f"ulimit -n {limit}"), work_dir) as target:
        port = export(target, file_bdev(target.make_file_volume(size_mib=1)))
        with contextlib.ExitStack() as stack:
            early = stack.enter_context(RawHost(port, NQN))
            before = descriptors(target)
            half_open(port, connections, stack)
            assert answer_seconds(target) < 2
            assert write_block(early, 1, b"e" * BLOCK) == 0
            late = stack.enter_context(log_in(port))
            assert late.read(1, 1, BLOCK) == b"e" * BLOCK
            # Opening a file uses the reserve.
            target.make_file_volume(size_mib=1)
            for _ in range(60):
                stack.enter_context(JsonRpcClient(target.socket))
            assert answer_seconds(target) < 2
            assert write_block(late, 2, b"l" * BLOCK) == 0
            assert early.read(2, 1, BLOCK) == b"l" * BLOCK
            assert descriptors(target) <= limit
            used_s = target.process.cpu_seconds()
            time.sleep(2)  # measured while no client sends anything
            assert target.process.cpu_seconds() - used_s < 0.3
        wait_until(lambda: descriptors(target) <= before, 15, "descriptors are closed")
        with log_in(port) as host:
            assert host.read(2, 1, BLOCK) == b"l" * BLOCK


def test_files_leave_descriptors_for_json_rpc(bin_dir, work_dir):
    """Methods open files until they are refused; then new clients are served, and a method that needs none works."""
    limit = 128
    with Target(limited(bin_dir, work_dir, f"ulimit -n {limit}"), work_dir) as target:
        port = free_port()
        target.call("nvmf_create_transport", trtype="TCP")
        target.call("nvmf_create_transport", trtype="VFIOUSER")
        target.call("nvmf_create_subsystem", nqn=NQN, allow_any_host=True)
        volumes = []
        # One connection for all calls: each new one could take the descriptor at which a file was refused.
        with target.connect() as client:
            def make_file_volume():
                volume = uuid.uuid4()
                target.volume_file(volume).write_bytes(bytes(MIB))
                client.call("bdev_aio_create", name=file_bdev(volume), filename=str(target.volume_file(volume)),
                            block_size=BLOCK, uuid=str(volume))
                volumes.append(volume)

            with pytest.raises(RpcError) as refused:
                for _ in range(limit):
                    make_file_volume()
            assert (refused.value.code, refused.value.message) == (-errno.EMFILE, "Too many open files")
            assert len(volumes) > limit / 4
            listen_address = {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(port)}
            with pytest.raises(RpcError):
                client.call("nvmf_subsystem_add_listener", nqn=NQN, listen_address=listen_address)
            with pytest.raises(RpcError):
                client.call("bdev_nvme_attach_controller", name="r", trtype="TCP", adrfam="IPv4", traddr="127.0.0.1",
                            trsvcid=str(port), subnqn=NQN)
            with pytest.raises(RpcError) as refused:
                client.call("vhost_create_blk_controller", ctrlr="disk", dev_name=file_bdev(volumes[0]))
            assert refused.value.message == "Too many open files"
            guest = {"trtype": "VFIOUSER", "traddr": str(work_dir), "trsvcid": "0"}
            with pytest.raises(RpcError):
                client.call("nvmf_subsystem_add_listener", nqn=NQN, listen_address=guest)
        with contextlib.ExitStack() as stack:
            for _ in range(limit // 4 * 3 // 4 - 2):
                client = stack.enter_context(JsonRpcClient(target.socket, timeout_s=10))
                assert len(client.call("bdev_get_bdevs")) == len(volumes)
        for volume in volumes[:3]:  # the connections of the calls take the lowest descriptors, too
            target.call("bdev_aio_delete", name=file_bdev(volume))
        target.make_file_volume(size_mib=1)


def test_discovery_connections_do_not_lock_out_hosts(bin_dir, work_dir):
    """Anybody may connect to the discovery subsystem; a host of a subsystem is served all the same."""
    limit = 128
    with Target(limited(bin_dir, work_dir, f"ulimit -n {limit}"), work_dir) as target, \
            contextlib.ExitStack() as connections:
        port = export(target, file_bdev(target.make_file_volume(size_mib=1)))
        for i in range(limit):
            connection = RawConnection(port, timeout_s=10, source="127.0.0.9")
            connections.callback(connection.close)
            try:
                connection.initialize()
                connection.connect_queue(nvme.DISCOVERY_NQN, host_id=1000 + i)
            except AssertionError:  # the connection was closed before an answer
                break
        assert descriptors(target) > limit / 2
        with log_in(port) as host:
            assert host.read(0, 1, BLOCK) == bytes(BLOCK)


def listen_for_guests(target, folder):
    folder.mkdir()
    with contextlib.suppress(RpcError):  # it already exists
        target.call("nvmf_create_transport", trtype="VFIOUSER")
    nqn = f"{NQN}:{folder.name}"
    target.call("nvmf_create_subsystem", nqn=nqn, allow_any_host=True)
    target.call("nvmf_subsystem_add_listener", nqn=nqn,
                listen_address={"trtype": "VFIOUSER", "traddr": str(folder), "trsvcid": "0"})


def test_few_descriptors_and_guests(bin_dir, work_dir):
    """More VMMs than descriptors: they wait, the control plane has its own descriptors, and no thread polls."""
    limit = 80
    with Target(limited(bin_dir, work_dir, f"ulimit -n {limit}"), work_dir, ["-S", work_dir]) as target:
        bdev = file_bdev(target.make_file_volume(size_mib=1))
        for i in range(9):
            target.call("vhost_create_blk_controller", ctrlr=f"c{i}", dev_name=bdev)
        for i in range(2):
            listen_for_guests(target, work_dir / f"guest{i}")
        before = descriptors(target)
        with contextlib.ExitStack() as stack:
            for i in range(9 * 8):
                stack.enter_context(contextlib.closing(FrontEnd(work_dir / f"c{i % 9}")))
            for i in range(2):
                stack.enter_context(contextlib.closing(raw_vfio_user.Client(work_dir / f"guest{i}")))
            assert answer_seconds(target) < 2
            used_s = target.process.cpu_seconds()
            time.sleep(2)  # measured while no client sends anything
            assert target.process.cpu_seconds() - used_s < 0.3
            # Opening a file uses the reserve.
            target.make_file_volume(size_mib=1)
            for _ in range(5):
                assert stack.enter_context(JsonRpcClient(target.socket)).call("rpc_get_methods")
        wait_until(lambda: descriptors(target) <= before + 2, 15, "descriptors are closed")
        with contextlib.closing(FrontEnd(work_dir / "c8")) as front_end:
            front_end.handshake()
        with contextlib.closing(raw_vfio_user.Client(work_dir / "guest1")) as client:
            client.handshake()


def test_the_soft_limit_of_descriptors_is_raised(bin_dir, work_dir):
    hard = min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    with Target(limited(bin_dir, work_dir, "ulimit -Sn 256", f"ulimit -Hn {hard}"), work_dir) as target:
        limits = pathlib.Path(f"/proc/{target.process.pid}/limits").read_text()
        line = next(line for line in limits.splitlines() if line.startswith("Max open files"))
        assert line.split()[3:5] == [str(hard), str(hard)]


def ask_for_much(host, count):
    """Sends reads whose data the host does not receive: each needs its own memory."""
    host.io.send(*(nvme.read(cid, cid * LARGE // BLOCK, LARGE // BLOCK, LARGE) for cid in range(count)))


def take_all(host, count, content):
    """Receives the answers and compares them."""
    for _ in range(count):
        data = host.io.expect(nvme.C2H_DATA)
        assert data.data == content[data.cid * LARGE:][:LARGE]
        if not data.flags & nvme.SUCCESS:
            assert host.io.expect(nvme.CAPSULE_RESP).status == 0


READS = 24
# Per connection: permanent memory, and memory that a login needs temporarily.
IDLE_KIB, INPUT_KIB = 10, 12


def filled_volume(target, content):
    """Creates a file with `content`; returns its bdev."""
    volume = target.make_file_volume(size_mib=8)
    with open(target.volume_file(volume), "r+b") as file:
        file.write(content)
        os.fsync(file.fileno())
    return file_bdev(volume)


def test_memory_of_many_hosts_is_bounded_and_freed(bin_dir, work_dir):
    """Hosts that do not receive the data that they request, and then receive them."""
    content = random.Random(1).randbytes(READS * LARGE)
    with Target(bin_dir, work_dir, ["--cores", "1"]) as target:
        port = export(target, filled_volume(target, content))
        with RawHost(port, NQN, host_id=999) as host:
            ask_for_much(host, READS)
            take_all(host, READS, content)
        target.process.wait_until(lambda: target.subsystem(NQN) and
                                  not target.call("nvmf_subsystem_get_controllers", nqn=NQN), 10, "it is gone")
        before_kib = target.process.resident_kib()
        with contextlib.ExitStack() as stack:
            hosts = [stack.enter_context(RawHost(port, NQN, host_id=number + 1)) for number in range(64)]
            for host in hosts:
                ask_for_much(host, READS)
            # Memory is shared fairly: the last host receives an answer while all others wait.
            last = stack.enter_context(RawHost(port, NQN, host_id=1000))
            ask_for_much(last, 1)
            take_all(last, 1, content)
            assert answer_seconds(target) < 2
            assert target.process.resident_kib() - before_kib < 150 * 1024
            # All hosts receive concurrently, because each has only a limited time to receive its data.
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda host: take_all(host, READS, content), hosts))
            assert target.process.resident_kib() - before_kib < 150 * 1024
            # The hosts are still connected and idle.
            target.process.wait_until(lambda: target.process.resident_kib() - before_kib < 48 * 1024, 20,
                                      f"memory is given back, {before_kib} KiB before")
            ask_for_much(hosts[0], READS)
            take_all(hosts[0], READS, content)


def test_idle_connections_cost_little(bin_dir, work_dir):
    """Tests queues of the usual depth, each of which has been full once."""
    with Target(bin_dir, work_dir, ["--cores", "1"]) as target, contextlib.ExitStack() as stack:
        port = export(target, file_bdev(target.make_file_volume(size_mib=1)))
        stack.enter_context(RawHost(port, NQN, host_id=999))
        before_kib = target.process.resident_kib()
        hosts = [stack.enter_context(RawHost(port, NQN, host_id=number + 1, entries=128)) for number in range(128)]
        assert target.process.resident_kib() - before_kib < len(hosts) * 2 * (IDLE_KIB + INPUT_KIB)
        for host in hosts:
            host.io.send(*(nvme.write_in_capsule(cid, 1, 1, bytes(BLOCK)) for cid in range(127)))
            for _ in range(127):
                assert host.io.expect(nvme.CAPSULE_RESP).status == 0
        target.process.wait_until(lambda: target.process.resident_kib() - before_kib < len(hosts) * 2 * IDLE_KIB, 20,
                                  f"memory is given back, {before_kib} KiB before")


def test_little_memory(bin_dir, work_dir):
    """256 MiB of address space: requests that do not fit are refused, all others are served."""
    content = random.Random(2).randbytes(READS * LARGE)
    with Target(limited(bin_dir, work_dir, "ulimit -v 262144"), work_dir, ["--cores", "1"]) as target:
        port = export(target, filled_volume(target, content))
        with pytest.raises(RpcError):
            target.make_malloc_volume(size_mib=1024)
        with contextlib.ExitStack() as stack:
            hosts = []
            for number in range(100):
                try:
                    hosts.append(stack.enter_context(RawHost(port, NQN, host_id=number + 1)))
                except (OSError, AssertionError):
                    break  # refused
            assert len(hosts) >= 16
            for host in hosts:
                ask_for_much(host, READS)
            assert answer_seconds(target) < 2
            # Each client has its batch of bdevs, more than fit in memory if all answers were kept.
            with JsonRpcClient(target.socket) as client:
                call = b'{"jsonrpc":"2.0","id":1,"method":"rpc_get_methods"}'
                client.send_raw(b"[" + b",".join([call] * 3000) + b"]")
                assert answer_seconds(target) < 2
                assert len(client.receive()) == 3000
            for host in hosts:
                take_all(host, READS, content)
        with log_in(port) as host:
            ask_for_much(host, READS)
            take_all(host, READS, content)


def test_a_batch_that_lists_all_disks_many_times(bin_dir, work_dir):
    """The largest batch, with 200 disks: others are answered meanwhile, and memory stays bounded."""
    with Target(bin_dir, work_dir) as target, JsonRpcClient(target.socket, timeout_s=120) as greedy:
        for number in range(200):
            target.call("bdev_null_create", name=f"null{number}", num_blocks=1000, block_size=512)
        target.call("bdev_get_bdevs")
        before_kib = target.process.resident_kib()
        call = b'{"jsonrpc":"2.0","id":1,"method":"bdev_get_bdevs"}'
        greedy.send_raw(b"[" + b",".join([call] * (250 * 1024 // (len(call) + 1))) + b"]")
        longest_s = 0
        for _ in range(20):
            started = time.monotonic()
            target.call("spdk_get_version")
            longest_s = max(longest_s, time.monotonic() - started)
        assert longest_s < 3
        answers = receive_large(greedy)
        assert len(answers) == 250 * 1024 // (len(call) + 1)
        assert len(answers[0]["result"]) == 200
        assert answers[-1]["error"]["code"] == -32603
        assert target.process.resident_kib() - before_kib < 250 * 1024
        target.process.wait_until(lambda: target.process.resident_kib() - before_kib < 150 * 1024, 20, "memory freed")


def receive_large(client):
    """Receives one answer. JsonRpcClient.receive parses its data after each piece, which takes long for large
    answers."""
    text = b""
    while not text.endswith(b"\n"):
        text += client._socket.recv(1 << 20)  # pylint: disable=protected-access
    client._buffer = text.decode()  # pylint: disable=protected-access
    return client.receive()


def test_idle_control_connections_do_not_exclude_others(bin_dir, work_dir):
    with Target(bin_dir, work_dir) as target, contextlib.ExitStack() as stack:
        for _ in range(400):
            stack.enter_context(JsonRpcClient(target.socket))
        assert answer_seconds(target) < 2
        # Neither do clients that send requests and do not read the answers.
        for _ in range(100):
            client = stack.enter_context(JsonRpcClient(target.socket))
            client.send_raw(b'{"jsonrpc":"2.0","id":1,"method":"rpc_get_methods"}' * 500)
        assert answer_seconds(target) < 5


def can_mount():
    return os.geteuid() == 0 and subprocess.run(
        ["unshare", "-m", "sh", "-c", "mount -t tmpfs -o size=1m none /mnt"], check=False,
        capture_output=True).returncode == 0


def test_full_disk(bin_dir, work_dir):
    """A sparse file on a file system of 8 MiB: writes that do not fit fail, and succeed again after space was freed."""
    if not can_mount():
        pytest.skip("mounting a small file system takes root and mount namespaces")
    (work_dir / "small").mkdir()
    script = f"mount -t tmpfs -o size=8m none {work_dir}/small && exec {bin_dir}/sma-target \"$@\""
    folder = limited(bin_dir, work_dir, f"exec unshare -m sh -c '{script}' sh \"$@\"")
    with Target(folder, work_dir) as target:
        inside = pathlib.Path(f"/proc/{target.process.pid}/root{work_dir}/small")
        (inside / "filler").write_bytes(bytes(4 * MIB))
        (inside / "disk").touch()
        os.truncate(inside / "disk", 64 * MIB)
        target.call("bdev_aio_create", name="disk", filename=f"{work_dir}/small/disk", block_size=BLOCK)
        port = export(target, "disk")
        with RawHost(port, NQN) as host:
            written = 0
            while write_block(host, written, bytes([written % 251 + 1]) * BLOCK) == 0:
                written += 1
                assert written < 8 * MIB // BLOCK, "more than the file system holds"
            assert written > 0
            assert answer_seconds(target) < 2
            for lba in (0, written - 1):
                assert host.read(lba, 1, BLOCK) == bytes([lba % 251 + 1]) * BLOCK
                assert write_block(host, lba, b"n" * BLOCK) == 0  # overwrites an allocated block
            (inside / "filler").unlink()
            assert write_block(host, written, b"x" * BLOCK) == 0
            assert host.read(written, 1, BLOCK) == b"x" * BLOCK


def test_frozen_remote(bin_dir, work_dir):
    """A gateway whose remote hangs: its calls, its other disks and their hosts are served; afterwards everything
    continues."""
    with ExportingTarget(bin_dir, work_dir) as remote, Target(bin_dir, work_dir, ["--cores", "2"]) as gateway:
        volume = remote.export_file(size_mib=8)
        remote_nqn = "nqn.2016-06.io.spdk:remote"
        remote_port = remote.make_subsystem(remote_nqn, file_bdev(volume))
        gateway.call("bdev_nvme_attach_controller", name="nv0", subnqn=remote_nqn, **address(remote_port))
        far = export(gateway, "nv0n1")
        near = export(gateway, file_bdev(gateway.make_file_volume(size_mib=1)), nqn=NQN + ":near")
        with RawHost(far, NQN) as far_host, RawHost(near, NQN + ":near") as near_host:
            assert write_block(far_host, 0, b"a" * BLOCK) == 0
            before_kib = gateway.process.resident_kib()
            remote.process.pause()
            try:
                count = 16
                far_host.io.send(*(nvme.write_in_capsule(cid, cid, 1, bytes([cid]) * BLOCK)
                                   for cid in range(1, count + 1)))
                for lba in range(50):
                    assert write_block(near_host, lba, bytes([lba + 1]) * BLOCK) == 0
                    assert near_host.read(lba, 1, BLOCK) == bytes([lba + 1]) * BLOCK
                assert answer_seconds(gateway) < 2
                with RawHost(near, NQN + ":near", host_id=2) as another:
                    assert another.read(0, 1, BLOCK) == b"\1" * BLOCK
                # Hosts connect and disconnect while the I/O of the first one hangs.
                for number in range(20):
                    with RawHost(far, NQN, host_id=number + 10) as impatient:
                        impatient.io.send(nvme.read(1, 0, LARGE // BLOCK, LARGE))
                assert answer_seconds(gateway) < 2
            finally:
                remote.process.resume()
            responses = [far_host.io.expect(nvme.CAPSULE_RESP) for _ in range(count)]
            assert sorted(r.cid for r in responses) == list(range(1, count + 1))
            assert all(r.status == 0 for r in responses)
            for cid in range(1, count + 1):
                assert far_host.read(cid, 1, BLOCK) == bytes([cid]) * BLOCK
            gateway.process.wait_until(lambda: len(gateway.call("nvmf_subsystem_get_controllers", nqn=NQN)) == 1, 20,
                                       "the impatient hosts are gone")
            gateway.process.wait_until(lambda: gateway.process.resident_kib() - before_kib < 16 * 1024, 20,
                                       "memory is given back")
