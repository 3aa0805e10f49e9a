"""The target at its limits: few descriptors, little memory, a full disk, a remote that does not answer, clients that
only take. It answers, serves the others, recovers, and gives memory and descriptors back."""

import contextlib
import os
import pathlib
import random
import resource
import signal
import stat
import subprocess
import time

import pytest

from harness import nvme_pdu as nvme
from harness.agent import free_port
from harness.jsonrpc import JsonRpcClient, RpcError
from harness.nvme_pdu import RawConnection, RawHost
from harness.remote import ExportingTarget, address
from harness.target import MIB, Target
from harness.wait import wait_until

NQN = "nqn.2016-06.io.spdk:limits"
BLOCK = 4096
LARGE = 131072


def limited(bin_dir, work_dir, *commands):
    """A folder of programs in which sma-target runs `commands` of the shell first."""
    folder = work_dir / "limited"
    folder.mkdir()
    script = folder / "sma-target"
    script.write_text("\n".join(["#!/bin/sh", *commands, f'exec {bin_dir}/sma-target "$@"', ""]))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return folder


def export(target, bdev, nqn=NQN):
    """A subsystem with this bdev as namespace 1; its port."""
    with contextlib.suppress(RpcError):  # it is there already
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
    """The status."""
    host.io.send(nvme.write_in_capsule(cid, lba, 1, data))
    return host.io.expect(nvme.CAPSULE_RESP).status


def answer_seconds(target):
    started = time.monotonic()
    target.call("bdev_get_bdevs")
    return time.monotonic() - started


def descriptors(target):
    return len(os.listdir(f"/proc/{target.process.pid}/fd"))


def log_in(port):
    """A host, tried again while the target is about to make room."""
    def attempt():
        try:
            return RawHost(port, NQN)
        except AssertionError as error:  # closed before it answered
            raise ConnectionError(str(error)) from None
    return wait_until(attempt, 10, "a host logs in")


def half_open(port, count, stack):
    """Connections that send nothing. Some may be refused."""
    for _ in range(count):
        with contextlib.suppress(OSError):
            stack.enter_context(RawConnection(port))


@pytest.fixture(autouse=True)
def many_descriptors():
    """For this process, which plays thousands of clients."""
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
            # A file is opened, from the reserve.
            target.make_file_volume(size_mib=1)
            for _ in range(60):
                stack.enter_context(JsonRpcClient(target.socket))
            assert answer_seconds(target) < 2
            assert write_block(late, 2, b"l" * BLOCK) == 0
            assert early.read(2, 1, BLOCK) == b"l" * BLOCK
            assert descriptors(target) <= limit
            used_s = target.process.cpu_seconds()
            time.sleep(2)  # what is measured: nobody asks for anything
            assert target.process.cpu_seconds() - used_s < 0.3
        wait_until(lambda: descriptors(target) <= before, 15, "descriptors are given back")
        with log_in(port) as host:
            assert host.read(2, 1, BLOCK) == b"l" * BLOCK


def test_the_soft_limit_of_descriptors_is_raised(bin_dir, work_dir):
    hard = min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    with Target(limited(bin_dir, work_dir, "ulimit -Sn 256", f"ulimit -Hn {hard}"), work_dir) as target:
        limits = pathlib.Path(f"/proc/{target.process.pid}/limits").read_text()
        line = next(line for line in limits.splitlines() if line.startswith("Max open files"))
        assert line.split()[3:5] == [str(hard), str(hard)]


def ask_for_much(host, count):
    """Reads that the host does not take: each needs memory of its own."""
    host.io.send(*(nvme.read(cid, cid * LARGE // BLOCK, LARGE // BLOCK, LARGE) for cid in range(count)))


def take_all(host, count, content):
    """Takes the answers and compares them."""
    for _ in range(count):
        data = host.io.expect(nvme.C2H_DATA)
        assert data.data == content[data.cid * LARGE:][:LARGE]
        if not data.flags & nvme.SUCCESS:
            assert host.io.expect(nvme.CAPSULE_RESP).status == 0


READS = 24


def filled_volume(target, content):
    """A file with `content`; its bdev."""
    volume = target.make_file_volume(size_mib=8)
    with open(target.volume_file(volume), "r+b") as file:
        file.write(content)
        os.fsync(file.fileno())
    return file_bdev(volume)


def test_memory_of_many_hosts_is_bounded_and_given_back(bin_dir, work_dir):
    """Hosts that do not take what they ask for, then take it."""
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
            hosts = [stack.enter_context(RawHost(port, NQN, host_id=number + 1)) for number in range(160)]
            for host in hosts:
                ask_for_much(host, READS)
            # A fair share for the last one: it has an answer while all others wait.
            last = stack.enter_context(RawHost(port, NQN, host_id=1000))
            ask_for_much(last, 1)
            take_all(last, 1, content)
            assert answer_seconds(target) < 2
            assert target.process.resident_kib() - before_kib < 150 * 1024
            for host in hosts:
                take_all(host, READS, content)
            assert target.process.resident_kib() - before_kib < 150 * 1024
            # Still connected, and idle.
            target.process.wait_until(lambda: target.process.resident_kib() - before_kib < 48 * 1024, 20,
                                      f"memory is given back, {before_kib} KiB before")
            ask_for_much(hosts[0], READS)
            take_all(hosts[0], READS, content)


def test_little_memory(bin_dir, work_dir):
    """256 MiB of address space: what does not fit is refused, all else is served."""
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
            # Each has its batch of bdevs, more than there is memory for, were all answers kept.
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


def test_a_batch_that_asks_for_all_disks_again_and_again(bin_dir, work_dir):
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
        assert longest_s < 1
        answers = receive_large(greedy)
        assert len(answers) == 250 * 1024 // (len(call) + 1)
        assert len(answers[0]["result"]) == 200
        assert answers[-1]["error"]["code"] == -32603
        assert target.process.resident_kib() - before_kib < 250 * 1024
        target.process.wait_until(lambda: target.process.resident_kib() - before_kib < 150 * 1024, 20, "memory is back")


def receive_large(client):
    """One answer: JsonRpcClient.receive parses what it has after each piece, which takes long with many."""
    text = b""
    while not text.endswith(b"\n"):
        text += client._socket.recv(1 << 20)  # pylint: disable=protected-access
    client._buffer = text.decode()  # pylint: disable=protected-access
    return client.receive()


def test_idle_control_connections_lock_nobody_out(bin_dir, work_dir):
    with Target(bin_dir, work_dir) as target, contextlib.ExitStack() as stack:
        for _ in range(400):
            stack.enter_context(JsonRpcClient(target.socket))
        assert answer_seconds(target) < 2
        # Neither do those that ask and do not read.
        for _ in range(100):
            client = stack.enter_context(JsonRpcClient(target.socket))
            client.send_raw(b'{"jsonrpc":"2.0","id":1,"method":"rpc_get_methods"}' * 500)
        assert answer_seconds(target) < 5


def can_mount():
    return os.geteuid() == 0 and subprocess.run(
        ["unshare", "-m", "sh", "-c", "mount -t tmpfs -o size=1m none /mnt"], check=False,
        capture_output=True).returncode == 0


def test_full_disk(bin_dir, work_dir):
    """A sparse file on a file system of 8 MiB: writes that do not fit fail, and work again when there is room."""
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
                assert write_block(host, lba, b"n" * BLOCK) == 0  # in place
            (inside / "filler").unlink()
            assert write_block(host, written, b"x" * BLOCK) == 0
            assert host.read(written, 1, BLOCK) == b"x" * BLOCK


def test_frozen_remote(bin_dir, work_dir):
    """A gateway whose remote stops: its calls, its other disks and their hosts are served; then all goes on."""
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
            remote.process.signal(signal.SIGSTOP)
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
                # Hosts that come and go while theirs is stuck.
                for number in range(20):
                    with RawHost(far, NQN, host_id=number + 10) as impatient:
                        impatient.io.send(nvme.read(1, 0, LARGE // BLOCK, LARGE))
                assert answer_seconds(gateway) < 2
            finally:
                remote.process.signal(signal.SIGCONT)
            responses = [far_host.io.expect(nvme.CAPSULE_RESP) for _ in range(count)]
            assert sorted(r.cid for r in responses) == list(range(1, count + 1))
            assert all(r.status == 0 for r in responses)
            for cid in range(1, count + 1):
                assert far_host.read(cid, 1, BLOCK) == bytes([cid]) * BLOCK
            gateway.process.wait_until(lambda: len(gateway.call("nvmf_subsystem_get_controllers", nqn=NQN)) == 1, 20,
                                       "the impatient hosts are gone")
            gateway.process.wait_until(lambda: gateway.process.resident_kib() - before_kib < 16 * 1024, 20,
                                       "memory is given back")
