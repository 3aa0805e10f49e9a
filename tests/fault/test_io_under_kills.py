# SPDX-License-Identifier: Apache-2.0
"""Tests that the I/O of a host continues without an error while the agent is killed and restarted."""

import concurrent.futures
import threading

import grpc
from fault.world import CLIENTS_HOST, World, handle, nqn
from harness.io_stream import IoStream
from harness.wait import wait_until

KILLS = 20
IO_SECONDS = 12


def change_until(world, stop, answers):
    """Creates and deletes another device repeatedly, so that the agent is killed during calls. Adds the results to
    `answers`."""
    while not stop.is_set():
        client = world.agent.client
        for call in (lambda: client.create_nvmf_tcp(nqn(1), world.port, volume=world.volumes[1], timeout=5),
                     lambda: client.delete_device(handle(1), timeout=5)):
            try:
                call()
                answers.append(grpc.StatusCode.OK)
            except (grpc.RpcError, ValueError) as error:  # ValueError: the client was closed by a kill
                answers.append(error.code() if isinstance(error, grpc.RpcError) else None)
                stop.wait(0.005)


def connections(world):
    """Returns the controllers of the first device that have an I/O queue; their numbers change after a reconnect."""
    return [c for c in world.rpc("nvmf_subsystem_get_controllers", nqn=nqn(0)) if c["num_io_qpairs"] > 0]


def test_io_of_a_connected_host_continues(bin_dir, work_dir):
    with World(bin_dir, work_dir) as world:
        client = world.agent.client
        client.create_nvmf_tcp(nqn(0), world.port, hosts=[CLIENTS_HOST], volume=world.volumes[0])
        stop, answers = threading.Event(), []
        with IoStream(bin_dir, work_dir, nqn(0), world.port, world.volumes[0], hostnqn=CLIENTS_HOST,
                      seconds=IO_SECONDS) as io, concurrent.futures.ThreadPoolExecutor(1) as pool:
            connected = wait_until(lambda: connections(world), 10, "the host is connected")
            changes = pool.submit(change_until, world, stop, answers)
            try:
                for _ in range(KILLS):
                    world.restart_agent()
                    world.wait_serving()
                    done = answers.count(grpc.StatusCode.OK)
                    wait_until(lambda: answers.count(grpc.StatusCode.OK) > done, 10, "a call has succeeded")
            finally:
                stop.set()
            changes.result(60)
            assert io.process.exit_status is None, "the I/O ended before the last kill"
            assert connections(world) == connected
            assert io.wait_finished(120) > 0
