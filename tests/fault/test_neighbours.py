# SPDX-License-Identifier: Apache-2.0
"""Tests one bad neighbour beside 200 healthy devices: calls for these devices, their recreation, and health checks must
not be delayed."""

import concurrent.futures
import json
import uuid

import pytest
from fault.world import handle, nqn
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


def write_configuration(path):
    bdevs = [{"method": "bdev_null_create",
              "params": {"name": f"null-{volume}", "uuid": str(volume), "num_blocks": 2048, "block_size": 512}}
             for volume in VOLUMES]
    path.write_text(json.dumps({"subsystems": [{"subsystem": "bdev", "config": bdevs}]}))


def is_serving(agent):
    admin = wire.admin_grpc.AdminStub(agent.client.channel)
    return admin.GetStatus(wire.admin.GetStatusRequest(), timeout=PATIENCE_S).serving


def use_each(agent):
    """Detaches and attaches the volume of each healthy device."""
    def use(number):
        agent.client.detach_volume(handle(number), VOLUMES[number], timeout=PATIENCE_S)
        agent.client.attach_volume(handle(number), VOLUMES[number], timeout=PATIENCE_S)
        assert is_serving(agent)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(use, range(DEVICES)))


def healthy(target):
    """Returns how many healthy devices have their volume."""
    wanted = {nqn(number): str(volume) for number, volume in enumerate(VOLUMES)}
    return sum([ns["uuid"] for ns in s.get("namespaces", [])] == [wanted.get(s["nqn"])]
               for s in target.call("nvmf_get_subsystems"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_neighbour_delays_nobody(bin_dir, work_dir, kind):
    write_configuration(work_dir / "target.json")
    port = free_port()
    neighbour = KINDS[kind](work_dir)
    target = Target(bin_dir, work_dir, ["-c", str(work_dir / "target.json")])
    agent = start_sma(bin_dir, work_dir, socket=str(target.socket), env=neighbour.env, **neighbour.config)
    try:
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda n: agent.client.create_nvmf_tcp(nqn(n), port, volume=VOLUMES[n]), range(DEVICES)))
        agent.client.create_nvmf_tcp(BAD_DEVICE, port)
        with BadCalls(neighbour, agent, handle(DEVICES)) as bad:
            use_each(agent)
            assert healthy(target) == DEVICES
            # The target restarts without objects.
            target.kill()
            target.start()
            wait_until(lambda: healthy(target) == DEVICES, PATIENCE_S, "all healthy devices are back")
            wait_until(lambda: is_serving(agent), PATIENCE_S, "the agent serves")
            use_each(agent)
            # The agent dies during the neighbour's calls.
            agent.kill()
        assert bad.answered_ok == 0
        agent.start()
        with BadCalls(neighbour, agent, handle(DEVICES)):
            wait_until(lambda: is_serving(agent), PATIENCE_S, "the agent serves")
            use_each(agent)
            assert healthy(target) == DEVICES
    finally:
        agent.kill()
        neighbour.close()
        target.kill()
