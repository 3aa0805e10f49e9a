# SPDX-License-Identifier: Apache-2.0
"""Runs one scenario with sma and with the reference agent on the same target program, and checks that the answers, and
the objects on the target after each step, are the same."""

import uuid

import grpc
import pytest

from harness import wire
from harness.agent import free_port, start_reference, start_sma
from harness.target import Target

NQN_1, NQN_2 = "nqn.2016-06.io.spdk:device-1", "nqn.2016-06.io.spdk:device-2"
HOST_1 = "nqn.2014-08.org.example:host-1"
VOLUME_1, VOLUME_2 = uuid.UUID(int=1 << 79 | 1), uuid.UUID(int=1 << 79 | 2)
MISSING = uuid.UUID(int=1 << 79 | 3)
HANDLE_1 = f"nvmf-tcp:{NQN_1}"


class Player:
    """Runs the steps with one agent and stores the results."""

    def __init__(self, agent, target, port):
        self.client = agent.client
        self.target = target
        self.port = port
        self.history = []

    def step(self, name, call):
        try:
            outcome = call() or "OK"
        except grpc.RpcError as error:
            outcome = error.code().name
        self.history.append((name, outcome, self.objects()))

    def objects(self):
        """Returns the objects on the target, without values that the target chooses, such as model names."""
        subsystems = {
            s["nqn"]: {"hosts": sorted(h["nqn"] for h in s["hosts"]), "any host": s["allow_any_host"],
                       "listeners": [(a["trtype"], a["adrfam"], a["traddr"], a["trsvcid"] == str(self.port))
                                     for a in s["listen_addresses"]],
                       "namespaces": [(n["nsid"], n["bdev_name"], n["uuid"], n["nguid"]) for n in s["namespaces"]]}
            for s in self.target.call("nvmf_get_subsystems") if s["subtype"] == "NVMe"}
        transports = [t["trtype"] for t in self.target.call("nvmf_get_transports")]
        bdevs = {b["name"]: b["claimed"] for b in self.target.call("bdev_get_bdevs")}
        return {"subsystems": subsystems, "transports": transports, "bdevs": bdevs}


def play(player):
    client, port, step = player.client, player.port, player.step
    step("create", lambda: client.create_nvmf_tcp(NQN_1, port, hosts=[HOST_1]))
    step("attach", lambda: client.attach_volume(HANDLE_1, VOLUME_1))
    step("attach again", lambda: client.attach_volume(HANDLE_1, VOLUME_1))
    step("create with a volume", lambda: client.create_nvmf_tcp(NQN_2, port, volume=VOLUME_2, allow_any_host=True))
    step("attach to another device", lambda: client.attach_volume(f"nvmf-tcp:{NQN_2}", VOLUME_1))
    step("detach", lambda: client.detach_volume(HANDLE_1, VOLUME_1))
    step("detach again", lambda: client.detach_volume(HANDLE_1, VOLUME_1))
    step("attach once more", lambda: client.attach_volume(HANDLE_1, VOLUME_1))
    step("attach a missing volume", lambda: client.attach_volume(HANDLE_1, MISSING))
    step("detach a missing volume", lambda: client.detach_volume(HANDLE_1, MISSING))
    step("attach without a volume", lambda: client.stub.AttachVolume(
        wire.sma.AttachVolumeRequest(device_handle=HANDLE_1)) and None)
    step("detach with a bad id", lambda: client.stub.DetachVolume(
        wire.sma.DetachVolumeRequest(device_handle=HANDLE_1, volume_id=b"short")) and None)
    step("create without parameters", lambda: client.stub.CreateDevice(wire.sma.CreateDeviceRequest()) and None)
    step("delete a handle of nobody", lambda: client.delete_device("nobody:x"))
    step("detach, the other", lambda: client.detach_volume(f"nvmf-tcp:{NQN_2}", VOLUME_2))
    step("detach, last", lambda: client.detach_volume(HANDLE_1, VOLUME_1))
    step("delete", lambda: client.delete_device(HANDLE_1))
    step("delete again", lambda: client.delete_device(HANDLE_1))
    step("delete the other", lambda: client.delete_device(f"nvmf-tcp:{NQN_2}"))


def history(bin_dir, work_dir, start_agent):
    work_dir.mkdir()
    with Target(bin_dir, work_dir) as target:
        for name, volume in (("one", VOLUME_1), ("two", VOLUME_2)):
            target.call("bdev_malloc_create", name=name, uuid=str(volume), block_size=512, num_blocks=2048)
        with start_agent(work_dir, socket=str(target.socket)) as agent:
            player = Player(agent, target, free_port())
            play(player)
            return player.history


@pytest.fixture(scope="module")
def histories(bin_dir, module_work_dir):
    ours = history(bin_dir, module_work_dir / "ours", lambda work_dir, **c: start_sma(bin_dir, work_dir, **c))
    reference = history(bin_dir, module_work_dir / "reference", start_reference)
    return ours, reference


def test_the_same_answers(histories):
    ours, reference = ([(name, outcome) for name, outcome, _ in h] for h in histories)
    assert ours == reference


def test_the_same_objects_after_each_step(histories):
    ours, reference = ({name: objects for name, _, objects in h} for h in histories)
    assert ours == reference


def test_the_scenario_creates_and_removes_objects(histories):
    for steps in histories:
        objects = {name: objects for name, _, objects in steps}
        assert set(objects["create with a volume"]["subsystems"]) == {NQN_1, NQN_2}
        assert objects["create with a volume"]["subsystems"][NQN_1]["hosts"] == [HOST_1]
        assert objects["attach"]["subsystems"][NQN_1]["namespaces"] == [
            (1, "one", str(VOLUME_1), VOLUME_1.hex.upper())]
        assert objects["delete the other"]["subsystems"] == {}
        assert not any(objects["delete the other"]["bdevs"].values())
