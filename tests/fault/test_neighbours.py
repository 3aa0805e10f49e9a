# SPDX-License-Identifier: Apache-2.0
"""Tests one bad neighbour beside 200 healthy devices: calls for these devices, their recreation, and health checks must
not be delayed. The bounds are those that a loaded machine can keep; bench/control_plane/neighbours.py measures the
ratios."""

import concurrent.futures
import json
import time
import uuid

import pytest
from fault.world import handle, nqn
from grpc_health.v1 import health_pb2, health_pb2_grpc
from harness import wire
from harness.agent import free_port, start_sma
from harness.neighbours import KINDS, BadCalls
from harness.target import Target
from harness.wait import wait_until

DEVICES = 200
VOLUMES = [uuid.UUID(int=(0x7d << 120) + number) for number in range(DEVICES)]
BAD_DEVICE = nqn(DEVICES)  # the device whose calls go to the neighbour
# Longer than any call for a healthy device on a loaded machine, and shorter than the neighbour holds its calls.
PATIENCE_S = 20
# What the neighbour may add to the median of a figure: as much again, and what varies on a loaded machine.
SHARE, NOISE_S = 2, 0.25
SERVING_NOISE_S = 3


def write_configuration(path):
    bdevs = [{"method": "bdev_null_create",
              "params": {"name": f"null-{volume}", "uuid": str(volume), "num_blocks": 2048, "block_size": 512}}
             for volume in VOLUMES]
    path.write_text(json.dumps({"subsystems": [{"subsystem": "bdev", "config": bdevs}]}))


def is_serving(agent):
    admin = wire.admin_grpc.AdminStub(agent.client.channel)
    return admin.GetStatus(wire.admin.GetStatusRequest(), timeout=PATIENCE_S).serving


def timed(samples, name, call, *arguments, **keywords):
    start = time.monotonic()
    call(*arguments, timeout=PATIENCE_S, **keywords)
    samples.setdefault(name, []).append(time.monotonic() - start)


def use_each(agent, port):
    """Detaches the volume of each healthy device and attaches it again, deletes and creates the device, and checks the
    agent's health. Returns {call: durations in seconds}."""
    client, samples = agent.client, {}
    health = health_pb2_grpc.HealthStub(client.channel)

    def check_health(timeout):
        answer = health.Check(health_pb2.HealthCheckRequest(), timeout=timeout)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING

    def use(number):
        volume = VOLUMES[number]
        timed(samples, "detach", client.detach_volume, handle(number), volume)
        timed(samples, "attach", client.attach_volume, handle(number), volume)
        timed(samples, "delete", client.delete_device, handle(number))
        timed(samples, "create", client.create_nvmf_tcp, nqn(number), port, volume=volume)
        timed(samples, "health", check_health)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(use, range(DEVICES)))
    return samples


def restart(agent):
    """Starts the killed agent; returns the time until it serves."""
    start = time.monotonic()
    agent.start()
    wait_until(lambda: is_serving(agent), PATIENCE_S, "the agent serves")
    return time.monotonic() - start


def percentile(samples, share):
    return sorted(samples)[min(int(len(samples) * share), len(samples) - 1)]


def compare(title, without, with_neighbour):
    """Prints the median and 99th percentile of each call in milliseconds. Raises AssertionError if the neighbour is
    felt."""
    print(f"\n{title}: without and with it, median ms and p99 ms")
    for name, before in without.items():
        now = with_neighbour[name]
        print(f"{name:8}" + "".join(f"{1000 * percentile(before, share):9.2f}{1000 * percentile(now, share):9.2f}"
                                    f"{percentile(now, share) / percentile(before, share):7.2f}"
                                    for share in (0.5, 0.99)))
    for name, before in without.items():
        assert percentile(with_neighbour[name], 0.5) < SHARE * percentile(before, 0.5) + NOISE_S, name


def healthy(target):
    """Returns how many healthy devices have their volume."""
    wanted = {nqn(number): str(volume) for number, volume in enumerate(VOLUMES)}
    return sum([ns["uuid"] for ns in s.get("namespaces", [])] == [wanted.get(s["nqn"])]
               for s in target.call("nvmf_get_subsystems"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_neighbour_delays_nobody(bin_dir, work_dir, capsys, kind):
    write_configuration(work_dir / "target.json")
    port = free_port()
    neighbour = KINDS[kind](work_dir)
    target = Target(bin_dir, work_dir, ["-c", str(work_dir / "target.json")])
    agent = start_sma(bin_dir, work_dir, socket=str(target.socket), env=neighbour.env, **neighbour.config)
    try:
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda n: agent.client.create_nvmf_tcp(nqn(n), port, volume=VOLUMES[n]), range(DEVICES)))
        agent.client.create_nvmf_tcp(BAD_DEVICE, port)
        without = use_each(agent, port)
        agent.kill()
        serving_s = restart(agent)
        with BadCalls(neighbour, agent, handle(DEVICES)) as bad:
            with_neighbour = use_each(agent, port)
            assert healthy(target) == DEVICES
            # The target restarts without objects.
            target.kill()
            target.start()
            wait_until(lambda: healthy(target) == DEVICES, PATIENCE_S, "all healthy devices are back")
            wait_until(lambda: is_serving(agent), PATIENCE_S, "the agent serves")
            use_each(agent, port)
            # The agent dies during the neighbour's calls, which are repeated until it answers again.
            agent.kill()
            serving_beside_s = restart(agent)
            use_each(agent, port)
            assert healthy(target) == DEVICES
        assert bad.answered_ok == 0
        with capsys.disabled():
            compare(neighbour.title, without, with_neighbour)
            print(f"serving after a restart: {serving_s:.2f} s, {serving_beside_s:.2f} s")
        assert serving_beside_s < SHARE * serving_s + SERVING_NOISE_S
    finally:
        agent.kill()
        neighbour.close()
        target.kill()
