# SPDX-License-Identifier: Apache-2.0
"""Tests the target as a program: it is ready quickly, and causes no load while idle."""

import contextlib
import socket
import time
import uuid

import pytest

from harness.agent import free_port
from harness.jsonrpc import JsonRpcClient, RpcError
from harness.memory import count_in_memory
from harness.nvme_pdu import RawConnection, RawHost
from harness.process import Process
from harness.target import Target


def start_up_seconds(bin_dir, work_dir, number):
    """Returns the time from the start of the program to the answer of a call."""
    path = work_dir / f"start-{number}.sock"
    started = time.monotonic()
    with Process(f"start-{number}", [bin_dir / "sma-target", "-r", path], work_dir) as process:
        while True:
            process.check_running()
            with contextlib.suppress(OSError), JsonRpcClient(path) as client:
                client.call("spdk_get_version")
                return time.monotonic() - started
            time.sleep(0.001)  # polling interval


def test_it_is_ready_within_100_ms(bin_dir, work_dir):
    """Takes the best of five measurements, so that other load on the host does not matter."""
    assert min(start_up_seconds(bin_dir, work_dir, number) for number in range(5)) < 0.1


def test_hosts_with_one_io_queue_each_are_spread(bin_dir, work_dir):
    """Each host has an admin queue and an I/O queue: the I/O queues are distributed evenly over all I/O threads."""
    port, nqn = free_port(), "nqn.2016-06.io.spdk:spread"
    with Target(bin_dir, work_dir, ["--cores", "2"]) as target, contextlib.ExitStack() as stack:
        target.call("nvmf_create_transport", trtype="TCP")
        target.call("nvmf_create_subsystem", nqn=nqn, allow_any_host=True)
        target.call("nvmf_subsystem_add_listener", nqn=nqn,
                    listen_address={"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(port)})
        for number in range(8):
            stack.enter_context(RawHost(port, nqn, host_id=number + 1))
        groups = target.call("nvmf_get_stats")["poll_groups"]
        assert [group["current_io_qpairs"] for group in groups] == [4, 4]


def resident_kib(pid):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))


def test_past_discovery_associations_keep_no_memory(bin_dir, work_dir):
    """600 at once, then none: less than 4 KiB remain allocated for each."""
    port, nqn, count = free_port(), "nqn.2016-06.io.spdk:past", 600
    with Target(bin_dir, work_dir, ["--cores", "1"]) as target, contextlib.ExitStack() as stack:
        target.call("nvmf_create_transport", trtype="TCP")
        target.call("nvmf_create_subsystem", nqn=nqn, allow_any_host=True)
        target.call("nvmf_subsystem_add_listener", nqn=nqn,
                    listen_address={"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(port)})
        before_kib = resident_kib(target.process.pid)
        for _ in range(count):
            connection = stack.enter_context(RawConnection(port))
            connection.initialize()
            connection.connect_queue("nqn.2014-08.org.nvmexpress.discovery")
        stack.close()
        deadline = time.monotonic() + 20
        while (kept_kib := resident_kib(target.process.pid) - before_kib) > count * 4 and time.monotonic() < deadline:
            time.sleep(0.05)  # polling interval
        assert kept_kib <= count * 4


def wait_until_idle(process):
    """Returns after the process has used no CPU time for half a second: the pages of new disks are populated then."""
    for _ in range(60):
        before_s = process.cpu_seconds()
        time.sleep(0.5)  # observation time
        if process.cpu_seconds() == before_s:
            return


def test_it_idles_with_connections_and_many_disks(bin_dir, work_dir):
    """Uses less than 1 % of a core, over three seconds."""
    port = free_port()
    with Target(bin_dir, work_dir, ["-m", "0x3"]) as target, contextlib.ExitStack() as connections:
        target.call("nvmf_create_transport", trtype="TCP")
        target.call("nvmf_create_subsystem", nqn="nqn.2016-06.io.spdk:idle", allow_any_host=True)
        target.call("nvmf_subsystem_add_listener", nqn="nqn.2016-06.io.spdk:idle",
                    listen_address={"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(port)})
        for _ in range(100):
            target.make_malloc_volume(size_mib=1)
        for _ in range(50):
            connections.enter_context(socket.create_connection(("127.0.0.1", port)))
        target.call("spdk_get_version")
        wait_until_idle(target.process)
        before_s, started = target.process.cpu_seconds(), time.monotonic()
        time.sleep(3)  # observation time
        assert (target.process.cpu_seconds() - before_s) / (time.monotonic() - started) < 0.01


def test_a_destroyed_key_is_nowhere_in_its_memory(bin_dir, work_dir):
    """Neither as hexadecimal digits, as received and shown, nor as bytes; the connection that carried it is still
    open."""
    keys = [uuid.uuid4().hex, uuid.uuid4().hex]
    with Target(bin_dir, work_dir) as target, target.connect() as client:
        client.call("bdev_malloc_create", name="base", block_size=512, num_blocks=8192)
        client.call("accel_crypto_key_create", name="k", cipher="AES_XTS", key=keys[0], key2=keys[1])
        client.call("bdev_crypto_create", base_bdev_name="base", name="crypt", key_name="k")
        assert client.call("accel_crypto_keys_get")[0]["key"] == keys[0]
        needles = [key.encode() for key in keys] + [bytes.fromhex(key) for key in keys]
        assert all(count_in_memory(target.process.pid, needles).values())
        client.call("bdev_crypto_delete", name="crypt")
        client.call("accel_crypto_key_destroy", key_name="k")
        assert count_in_memory(target.process.pid, needles) == dict.fromkeys(needles, 0)


def test_refused_calls_are_logged_without_secrets(target):
    """Each refusal says the method, its object and the reason."""
    secret = uuid.uuid4().hex
    with pytest.raises(RpcError):
        target.call("bdev_malloc_delete", name="nosuchdisk")
    with pytest.raises(RpcError):
        target.call("bdev_get_bdevs", name="nosuchdisk")
    with pytest.raises(RpcError):
        target.call("accel_crypto_key_create", name="equalkeys", cipher="AES_XTS", key=secret, key2=secret)
    with pytest.raises(RpcError):
        target.call("nvmf_subsystem_add_host", nqn="nqn.2016-06.io.spdk:nosuch", host="nqn.2014-08.org.example:h")
    log = target.process.log()
    assert "JSON-RPC: bdev_malloc_delete nosuchdisk: refused, -19: No such device" in log
    assert "JSON-RPC: accel_crypto_key_create equalkeys: refused, -32602: failed to create DEK, rc -22" in log
    assert "JSON-RPC: nvmf_subsystem_add_host nqn.2016-06.io.spdk:nosuch: refused, " in log
    assert secret not in log
    assert "bdev_get_bdevs" not in log, "a query is no mistake"


def test_refused_calls_do_not_fill_the_log(target):
    with target.connect() as client:
        started = time.monotonic()
        for _ in range(500):
            with pytest.raises(RpcError):
                client.call("bdev_null_delete", name="nosuchdisk")
        elapsed_s = time.monotonic() - started
        with pytest.raises(RpcError):
            client.call("bdev_malloc_delete", name="another")
    lines = target.process.log().splitlines()
    refusals = [line for line in lines if "bdev_null_delete nosuchdisk: refused" in line]
    assert 50 <= len(refusals) <= 101 + elapsed_s
    assert any("bdev_malloc_delete another: refused" in line for line in lines)
