# SPDX-License-Identifier: Apache-2.0
"""Tests that, with a thousand volumes on one dead storage node, the start of the agent, the recovery of other devices
after a restart of the target, comparisons and memory are as without these volumes."""

import concurrent.futures
import dataclasses
import json
import time
import uuid

from fault.world import handle, nqn
from harness import wire
from harness.agent import free_port, start_sma
from harness.neighbours import SilentNode
from harness.remote import ExportingTarget, attach_request
from harness.target import Target
from harness.wait import wait_until

FAR_DEVICES, FAR_OF_EACH = 50, 20
NEAR_DEVICES = 50
FAR = [uuid.UUID(int=(0x7c << 120) + number) for number in range(FAR_DEVICES * FAR_OF_EACH)]
NEAR = [uuid.UUID(int=(0x7b << 120) + number) for number in range(NEAR_DEVICES)]
NODE_NQN = "nqn.2016-06.io.spdk:node"
HOST_NQN = "nqn.2016-06.io.spdk:host0"
PATIENCE_S = 20
# What the volumes on the dead node may add: a tenth, and what varies between two runs on a busy computer.
SHARE, NOISE_S = 1.1, 0.5
# Comparisons are made every second here, by default every 30 s; then they may take half a percent of a core more. On a
# busy computer the same work takes up to twice the time.
COMPARED_S, DEFAULT_PERIOD_S, MOST_OF_A_CORE = 10, 30, 0.01
ROWS_MIB = 10  # the record's rows of the volumes


@dataclasses.dataclass
class Measured:
    back_s: float  # until the target's own volumes are back after its restart
    serving_s: float  # until the agent serves after its restart
    compared: float  # the share of a core that comparisons take
    memory_mib: float  # after all this

    def __str__(self):
        return (f"others back after {self.back_s:.2f} s, the agent serves after {self.serving_s:.2f} s, comparisons "
                f"take {100 * self.compared:.1f} % of a core, memory {self.memory_mib:.1f} MiB")


def configuration(volumes):
    bdevs = [{"method": "bdev_null_create",
              "params": {"name": f"null-{volume}", "uuid": str(volume), "num_blocks": 2048, "block_size": 512}}
             for volume in volumes]
    return json.dumps({"subsystems": [{"subsystem": "bdev", "config": bdevs}]})


def status(agent):
    admin = wire.admin_grpc.AdminStub(agent.client.channel)
    return admin.GetStatus(wire.admin.GetStatusRequest(), timeout=PATIENCE_S)


def attach_far(agent, number, port):
    message = attach_request(handle(number // FAR_OF_EACH), FAR[number])
    message.volume.nvmf.subnqn, message.volume.nvmf.hostnqn = NODE_NQN, HOST_NQN
    message.volume.nvmf.direct.addresses.add(trtype="tcp", traddr="127.0.0.1", trsvcid=str(port))
    agent.client.stub.AttachVolume(message, timeout=60)


def near_devices(target):
    """Returns how many devices with local volumes have their volumes."""
    wanted = {nqn(FAR_DEVICES + number): [str(volume)] for number, volume in enumerate(NEAR)}
    return sum([ns["uuid"] for ns in s.get("namespaces", [])] == wanted.get(s["nqn"])
               for s in target.call("nvmf_get_subsystems"))


def use_near(agent):
    def use(number):
        device = handle(FAR_DEVICES + number)
        agent.client.detach_volume(device, NEAR[number], timeout=PATIENCE_S)
        agent.client.attach_volume(device, NEAR[number], timeout=PATIENCE_S)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(NEAR_DEVICES)))


def measure(agent, target, degraded):
    """Restarts the target without any objects, then the agent; compares all devices with the target meanwhile."""
    target.kill()
    target.start()
    start = time.monotonic()
    wait_until(lambda: near_devices(target) == NEAR_DEVICES, PATIENCE_S, "the target's own volumes are back")
    back_s = time.monotonic() - start
    wait_until(lambda: status(agent).serving, PATIENCE_S, "the agent serves")
    use_near(agent)

    agent.kill()
    start = time.monotonic()
    agent.start()
    wait_until(lambda: status(agent).serving, PATIENCE_S, "the agent serves")
    serving_s = time.monotonic() - start
    use_near(agent)
    assert near_devices(target) == NEAR_DEVICES

    wait_until(lambda: is_restored(agent, degraded), PATIENCE_S, "the restore has ended")
    start, used_s = time.monotonic(), agent.process.cpu_seconds()
    wait_until(lambda: time.monotonic() - start >= COMPARED_S, COMPARED_S + 1, "some comparisons are over")
    compared = (agent.process.cpu_seconds() - used_s) / (time.monotonic() - start)
    return Measured(back_s, serving_s, compared, agent.process.resident_kib() / 1024)


def is_restored(agent, degraded):
    now = status(agent)
    return not now.restore.active and now.degraded_count >= degraded


def test_a_thousand_volumes_on_a_dead_node(bin_dir, work_dir, capsys):
    (work_dir / "remote.json").write_text(configuration(FAR))
    (work_dir / "target.json").write_text(configuration(NEAR))
    port, device_port = free_port(), free_port()
    remote = ExportingTarget(bin_dir, work_dir, ["-c", str(work_dir / "remote.json")])
    target = Target(bin_dir, work_dir, ["-c", str(work_dir / "target.json")])
    agent = start_sma(bin_dir, work_dir, socket=str(target.socket), drift_period=1)
    node = None
    try:
        remote.export_call("nvmf_create_subsystem", nqn=NODE_NQN, allow_any_host=True, max_namespaces=len(FAR))
        for volume in FAR:
            remote.call("nvmf_subsystem_add_ns", nqn=NODE_NQN, namespace={"bdev_name": str(volume)})
        remote.listen(NODE_NQN, port)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: agent.client.create_nvmf_tcp(nqn(n), device_port), range(FAR_DEVICES)))
            list(pool.map(lambda n: agent.client.create_nvmf_tcp(nqn(FAR_DEVICES + n), device_port, volume=NEAR[n]),
                          range(NEAR_DEVICES)))
        without = measure(agent, target, degraded=0)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: attach_far(agent, n, port), range(len(FAR))))
        remote.kill()
        node = SilentNode(port=port)
        wait_until(lambda: status(agent).degraded_count >= len(FAR), PATIENCE_S, "the volumes are unreachable")
        use_near(agent)

        dead = measure(agent, target, degraded=len(FAR))
        with capsys.disabled():
            print(f"\nwithout volumes on the node: {without}\n{len(FAR)} volumes on the dead node: {dead}")
        assert dead.back_s < SHARE * without.back_s + NOISE_S
        assert dead.serving_s < SHARE * without.serving_s + NOISE_S
        assert (dead.compared - without.compared) / DEFAULT_PERIOD_S < MOST_OF_A_CORE
        assert dead.memory_mib < SHARE * without.memory_mib + ROWS_MIB
    finally:
        agent.kill()
        target.kill()
        remote.kill()
        if node is not None:
            node.close()
