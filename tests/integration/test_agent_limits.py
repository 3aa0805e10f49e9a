# SPDX-License-Identifier: Apache-2.0
"""Tests the agent at its limits: with few descriptors and harmful clients, it still serves other clients, and its
memory use decreases afterwards."""

import contextlib
import gzip
import socket

import grpc
import pytest

from harness import wire
from harness.agent import Agent, AgentClient, start_sma
from harness.http2 import Http2Connection
from harness.target import MIB
from harness.wait import wait_until

SERVICE = "/sma.StorageManagementAgent/"
STREAMS = 20_000


def memory_mib(agent, field="VmRSS"):
    with open(f"/proc/{agent.process.pid}/status") as status:
        return next(int(line.split()[1]) // 1024 for line in status if line.startswith(field + ":"))


def answers(agent):
    client = AgentClient(agent.address)
    try:
        client.stub.GetQosCapabilities(wire.sma.GetQosCapabilitiesRequest(), timeout=10)
    except grpc.RpcError as error:
        assert error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED), error
    finally:
        client.close()
    return True


@pytest.fixture
def agent(bin_dir, work_dir):
    """Starts an agent without a target, which these calls do not need."""
    with start_sma(bin_dir, work_dir, socket=str(work_dir / "none.sock")) as running:
        yield running


@pytest.mark.parametrize("path", [SERVICE + "DeleteDevice", "/grpc.health.v1.Health/Watch"])
def test_memory_of_reset_streams_is_freed(agent, path):
    before = memory_mib(agent)
    for _ in range(2):
        with Http2Connection(agent.address, timeout_s=120) as connection:
            connection.open_and_reset(path, STREAMS)
            connection.ping(b"all read")
        wait_until(lambda: memory_mib(agent) < before + 64, 120, "the memory is freed")
    assert answers(agent)


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_a_small_message_does_not_expand_in_memory(agent, compression):
    call = agent.client.channel.unary_unary(SERVICE + "DeleteDevice", request_serializer=lambda data: data)
    before = memory_mib(agent, "VmHWM")
    bomb = bytes(256 * MIB)
    assert len(gzip.compress(bomb)) < MIB, "less than the limit of a request"
    with pytest.raises(grpc.RpcError) as raised:
        call(bomb, timeout=60, compression=getattr(grpc.Compression, compression.capitalize()))
    assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert memory_mib(agent, "VmHWM") < before + 32
    assert answers(agent)


def test_it_survives_more_connections_than_descriptors(bin_dir, work_dir):
    command = ["sh", "-c", 'ulimit -n 64 && exec "$0" "$@"', bin_dir / "sma"]
    config = {"socket": str(work_dir / "none.sock"), "state_dir": str(work_dir / "state")}
    with Agent("sma", command, work_dir, config) as agent:
        host, _, port = agent.address.rpartition(":")
        for _ in range(3):
            with contextlib.ExitStack() as connections:
                for _ in range(100):
                    connections.enter_context(socket.create_connection((host, int(port)), 10))
            wait_until(lambda: answers(agent), 30, "it answers again")


def test_it_uses_the_hard_limit_of_descriptors(bin_dir, work_dir):
    command = ["sh", "-c", 'ulimit -Sn 64 && exec "$0" "$@"', bin_dir / "sma"]
    config = {"socket": str(work_dir / "none.sock"), "state_dir": str(work_dir / "state")}
    with Agent("sma", command, work_dir, config) as agent:
        with open(f"/proc/{agent.process.pid}/limits") as limits:
            soft, hard = next(line for line in limits if line.startswith("Max open files")).split()[3:5]
        assert soft == hard != "64"
