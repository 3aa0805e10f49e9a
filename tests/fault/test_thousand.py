# SPDX-License-Identifier: Apache-2.0
"""Tests a thousand devices with one volume each: how long it takes until they are recreated after the target has
restarted without objects, and until a starting agent has adopted them."""

import concurrent.futures
import json
import os
import signal
import time
import uuid

from fault.world import nqn
from harness import wire
from harness.agent import free_port, start_sma
from harness.jsonrpc import JsonRpcClient
from harness.wait import wait_until

DEVICES = 1000
LIMIT_S = 10.0
VOLUMES = [uuid.UUID(int=(0x7e << 120) + number) for number in range(DEVICES)]


def write_target_configuration(path):
    bdevs = [{"method": "bdev_null_create",
              "params": {"name": f"null-{volume}", "uuid": str(volume), "num_blocks": 2048, "block_size": 512}}
             for volume in VOLUMES]
    path.write_text(json.dumps({"subsystems": [{"subsystem": "bdev", "config": bdevs}]}))


def subsystems(socket):
    with JsonRpcClient(socket) as rpc:
        return {s["nqn"]: [ns["uuid"] for ns in s["namespaces"]] for s in rpc.call("nvmf_get_subsystems")
                if s["subtype"] == "NVMe"}


def wait_ready(agent, timeout_s):
    admin = wire.admin_grpc.AdminStub(agent.client.channel)

    def ready():
        status = admin.GetStatus(wire.admin.GetStatusRequest(), timeout=30)
        return status.serving and not status.restore.active and status.degraded_count == 0
    wait_until(ready, timeout_s, "all is ready")


def test_a_thousand_devices_are_recreated(bin_dir, work_dir, capsys):
    write_target_configuration(work_dir / "target.json")
    socket, port = work_dir / "target.sock", free_port()
    embedded = {"enabled": True, "stop_with_agent": True, "arguments": ["-c", str(work_dir / "target.json")]}
    config = {"socket": str(socket), "embedded": embedded, "state_dir": str(work_dir / "state")}
    agent = start_sma(bin_dir, work_dir, **config)
    try:
        wait_ready(agent, 30)
        start = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda i: agent.client.create_nvmf_tcp(nqn(i), port, volume=VOLUMES[i]), range(DEVICES)))
        made_s = time.monotonic() - start
        expected = {nqn(i): [str(VOLUMES[i])] for i in range(DEVICES)}
        assert subsystems(socket) == expected

        start = time.monotonic()
        os.kill(target_pid(agent), signal.SIGKILL)
        wait_until(lambda: len(subsystems(socket)) == DEVICES, 60, "all subsystems are back")
        wait_ready(agent, 60)
        back_s = time.monotonic() - start
        assert subsystems(socket) == expected

        agent.kill()
        agent.start_process()
        start = time.monotonic()
        wait_ready(agent, 60)
        adopted_s = time.monotonic() - start
        assert subsystems(socket) == expected
        with capsys.disabled():
            print(f"\n{DEVICES} devices with a volume each: made in {made_s:.1f} s, back {back_s:.2f} s after the "
                  f"target was killed, adopted {adopted_s:.2f} s after the agent started to listen")
        assert back_s < LIMIT_S
        assert adopted_s < LIMIT_S
    finally:
        agent.stop()


def target_pid(agent):
    """Returns the process id of the target in the agent's latest log line about it."""
    lines = [line.split() for line in agent.process.log().splitlines() if "target: " in line and "process" in line]
    return int(lines[-1][lines[-1].index("process") + 1])
