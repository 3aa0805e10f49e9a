# SPDX-License-Identifier: Apache-2.0
"""A stop of the agent does not take long, whatever the agent waits for."""

import contextlib
import socket
import time

import grpc
import pytest

from harness.agent import free_port, start_sma
from harness.neighbours import SilentNode
from harness.wait import wait_until

NQN = "nqn.2016-06.io.spdk:device0"
# The default of stop_timeout and one second, and some time for a busy machine.
STOP_TIME_S = 2.0 + 1.0


def seconds_to_stop(agent):
    start = time.monotonic()
    agent.process.stop()
    time_s = time.monotonic() - start
    agent.client.close()  # after the measurement, because it cancels the calls in progress
    return time_s


@pytest.fixture
def agent(bin_dir, work_dir, target):
    metrics_port = free_port()
    running = start_sma(bin_dir, work_dir, socket=str(target.socket), metrics={"address": f"127.0.0.1:{metrics_port}"})
    running.metrics_port = metrics_port
    yield running
    running.kill()


def test_a_stop_does_not_wait_for_a_silent_node(agent, target):
    handle = agent.client.create_nvmf_tcp(NQN, free_port())
    node = SilentNode()
    try:
        calls = [node.call(agent, number, handle, timeout=30) for number in range(3)]
        wait_until(node.was_called, 10, "the node is called")
        assert seconds_to_stop(agent) < STOP_TIME_S
        for call in calls:
            with pytest.raises((grpc.RpcError, grpc.FutureCancelledError)):
                call.result(timeout=5)
    finally:
        node.close()
    # The next start removes what the calls have left behind.
    agent.start()
    volume = target.make_malloc_volume()
    agent.client.attach_volume(handle, volume)
    assert [namespace["uuid"] for namespace in target.subsystem(NQN)["namespaces"]] == [str(volume)]


def test_a_stop_does_not_wait_for_clients_of_the_metrics(agent):
    with contextlib.ExitStack() as scrapers:
        for request in [b"", b"GET /metrics HTTP/1.1\r\n"] * 4:
            scraper = scrapers.enter_context(socket.create_connection(("127.0.0.1", agent.metrics_port)))
            scraper.sendall(request)
        assert seconds_to_stop(agent) < 1.6  # not two seconds, the time limit of an idle connection
