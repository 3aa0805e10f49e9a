# SPDX-License-Identifier: Apache-2.0
"""Tests sma --embedded: the agent starts the target, restarts it when necessary and finds it again after its own
restart."""

import json
import os
import signal
import socket
import struct
import uuid

import pytest

from harness.agent import free_port, start_sma
from harness.jsonrpc import JsonRpcClient
from harness.wait import wait_until

NQN = "nqn.2016-06.io.spdk:embedded"


class Embedded:
    """The socket of the embedded target, and its process, which is not a child of the test."""

    def __init__(self, work_dir):
        self.socket = work_dir / "embedded.sock"

    def call(self, method, **params):
        with JsonRpcClient(self.socket) as client:
            return client.call(method, **params)

    def pid(self):
        """Returns the process that listens on the socket."""
        return peer_pid(self.socket)


def peer_pid(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        return struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]


def alive(pid):
    try:
        os.kill(pid, 0)
        return True
    except ProcessLookupError:
        return False


@pytest.fixture
def volume():
    return uuid.UUID("11111111-2222-4333-8444-555555555555")


@pytest.fixture
def target_config(work_dir, volume):
    """Returns the target's configuration: one volume in a file."""
    image = work_dir / "disk.img"
    image.write_bytes(bytes(1 << 20))
    path = work_dir / "target.json"
    path.write_text(json.dumps({"subsystems": [{"subsystem": "bdev", "config": [
        {"method": "bdev_aio_create", "params": {"name": "disk", "filename": str(image), "block_size": 512,
                                                 "uuid": str(volume)}}]}]}))
    return path


@pytest.fixture
def embedded(work_dir):
    target = Embedded(work_dir)
    yield target
    # The target continues when the agent stops, unless configured otherwise.
    try:
        pid = target.pid()
    except OSError:
        return
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not alive(pid), 20, "the embedded target ended")


@pytest.fixture
def start(bin_dir, work_dir, embedded, target_config):
    def start(**options):
        options = {"enabled": True, "binary": str(bin_dir / "sma-target"), "arguments": ["-c", str(target_config)],
                   **options}
        return start_sma(bin_dir, work_dir, socket=str(embedded.socket), embedded=options)
    return start


def serves(agent, volume):
    """Checks that agent and target work, by creating and deleting a device with a volume."""
    handle = agent.client.create_nvmf_tcp(NQN, free_port(), volume=volume, allow_any_host=True)
    agent.client.delete_device(handle)
    return True


def test_it_starts_the_target(start, embedded, volume):
    with start() as agent:
        assert serves(agent, volume)
        assert embedded.pid() != agent.process.pid


def test_a_target_that_dies_is_restarted_with_its_devices(start, embedded, volume):
    with start() as agent:
        port = free_port()
        agent.client.create_nvmf_tcp(NQN, port, volume=volume, allow_any_host=True)
        first = embedded.pid()
        os.kill(first, signal.SIGKILL)

        def restored():
            subsystems = embedded.call("nvmf_get_subsystems")
            namespaces = [n["uuid"] for s in subsystems if s["nqn"] == NQN for n in s["namespaces"]]
            return namespaces == [str(volume)]
        wait_until(restored, 30, "the device is on the new target")
        assert embedded.pid() != first
        agent.client.create_nvmf_tcp(NQN, port, volume=volume, allow_any_host=True)


def test_the_target_survives_the_agent_and_is_found_again(start, embedded, volume):
    port = free_port()
    with start() as agent:
        agent.client.create_nvmf_tcp(NQN, port, volume=volume, allow_any_host=True)
        first = embedded.pid()
        agent.kill()
    assert embedded.pid() == first
    with start() as agent:
        handle = agent.client.create_nvmf_tcp(NQN, port, volume=volume, allow_any_host=True)
        assert embedded.pid() == first
        agent.client.delete_device(handle)


def test_the_target_stops_with_the_agent_if_configured(start, embedded, volume):
    with start(stop_with_agent=True) as agent:
        assert serves(agent, volume)
        pid = embedded.pid()
    wait_until(lambda: not alive(pid), 20, "the target ended with the agent")
    assert not embedded.socket.exists()


def test_a_target_that_does_not_start_is_reported_and_the_agent_exits(start):
    with pytest.raises(ChildProcessError, match="/bin/false ended before it listened"):
        start(binary="/bin/false")
