"""The target as a program: ready at once, and no burden while nothing happens."""

import contextlib
import socket
import time
import uuid

from harness.agent import free_port
from harness.jsonrpc import JsonRpcClient
from harness.memory import count_in_memory
from harness.nvme_pdu import RawConnection, RawHost
from harness.process import Process
from harness.target import Target


def start_up_seconds(bin_dir, work_dir, number):
    """From the start of the program until it has answered a call."""
    path = work_dir / f"start-{number}.sock"
    started = time.monotonic()
    with Process(f"start-{number}", [bin_dir / "sma-target", "-r", path], work_dir) as process:
        while True:
            process.check_running()
            with contextlib.suppress(OSError), JsonRpcClient(path) as client:
                client.call("spdk_get_version")
                return time.monotonic() - started
            time.sleep(0.001)  # between two looks


def test_it_is_ready_within_100_ms(bin_dir, work_dir):
    """The best of five: how long it takes, not how busy the machine is."""
    assert min(start_up_seconds(bin_dir, work_dir, number) for number in range(5)) < 0.1


def test_hosts_with_one_io_queue_each_are_spread(bin_dir, work_dir):
    """Each has an admin queue and an I/O queue: the I/O queues go to all I/O threads alike."""
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
    """600 at once, then none: what is left is less than 4 KiB each."""
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
            time.sleep(0.05)  # between two looks
        assert kept_kib <= count * 4


def wait_until_idle(process):
    """Returns when the process has used no processor time for half a second: pages of new disks are populated."""
    for _ in range(60):
        before_s = process.cpu_seconds()
        time.sleep(0.5)  # what is looked at
        if process.cpu_seconds() == before_s:
            return


def test_it_idles_with_connections_and_many_disks(bin_dir, work_dir):
    """Under 1 % of a core, over three seconds."""
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
        time.sleep(3)  # what is measured
        assert (target.process.cpu_seconds() - before_s) / (time.monotonic() - started) < 0.01


def test_a_key_that_is_gone_is_nowhere_in_its_memory(bin_dir, work_dir):
    """Neither as digits, as it came and was shown, nor as bytes; the connection that brought it is still there."""
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
