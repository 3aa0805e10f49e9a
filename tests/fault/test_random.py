# SPDX-License-Identifier: Apache-2.0
"""Tests sixteen callers that make random calls for a few devices and volumes while the agent and its target are killed
at random. A model determines the allowed answers and final states."""

import collections
import concurrent.futures
import random
import threading
import time

import grpc
from fault.history import Call, History
from fault.world import CLIENTS_HOST, OPERATORS_NQN, World, handle, nqn
from harness.agent import AgentClient

CALLERS = 16
DEVICES = 4
VOLUMES = 6
CALL_TIMEOUT_S = 10
PAUSE_BETWEEN_KILLS_S = (0.2, 1.0)

Code = grpc.StatusCode
# Codes that are always allowed while agent and target are restarted.
GONE = {Code.UNAVAILABLE, Code.CANCELLED, Code.DEADLINE_EXCEEDED}
ALLOWED = {"create": {Code.OK, Code.ALREADY_EXISTS}, "delete": {Code.OK},
           "attach": {Code.OK, Code.ALREADY_EXISTS, Code.NOT_FOUND}, "detach": {Code.OK}}


class Callers:
    """The calling threads, the history of their calls, and the answers that the model does not allow."""

    def __init__(self, world, seed):
        self.world = world
        self.seed = seed
        self.stop = threading.Event()
        self.history = History()
        self.codes = collections.Counter()
        self.wrong = []

    def run(self, number):
        random_numbers = random.Random(f"{self.seed}/{number}")
        client = AgentClient(self.world.agent.address)
        while not self.stop.is_set():
            self.call_once(client, random_numbers)
        client.close()

    def call_once(self, client, random_numbers):
        kind = random_numbers.choice(["create", "create", "attach", "attach", "attach", "detach", "delete"])
        device, volume = random_numbers.randrange(DEVICES), random_numbers.randrange(VOLUMES)
        if kind == "delete" or (kind == "create" and random_numbers.random() < 0.5):
            volume = None
        call = self.history.begin(kind, device, volume)
        code = self.answer(client, kind, device, volume)
        self.history.end(call, code == Code.OK)
        self.codes[kind, code.name] += 1
        if code not in ALLOWED[kind] | GONE:
            self.wrong.append((kind, device, volume, code))
        if code in GONE:
            self.stop.wait(0.01)

    def answer(self, client, kind, device, volume):
        volume_id = None if volume is None else self.world.volumes[volume]
        try:
            if kind == "create":
                client.create_nvmf_tcp(nqn(device), self.world.port, hosts=[CLIENTS_HOST], volume=volume_id,
                                       timeout=CALL_TIMEOUT_S)
            elif kind == "delete":
                client.delete_device(handle(device), timeout=CALL_TIMEOUT_S)
            elif kind == "attach":
                client.attach_volume(handle(device), volume_id, timeout=CALL_TIMEOUT_S)
            else:
                client.detach_volume(handle(device), volume_id, timeout=CALL_TIMEOUT_S)
        except grpc.RpcError as error:
            return error.code()
        return Code.OK


def kill_at_random(world, random_numbers, seconds):
    """Kills agent and target at random, and counts the kills."""
    kills = collections.Counter()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(random_numbers.uniform(*PAUSE_BETWEEN_KILLS_S))  # the callers generate load between two kills
        victim = random_numbers.choice(["agent", "agent", "target", "both"])
        kills[victim] += 1
        if victim in ("agent", "both"):
            world.agent.kill()
        if victim in ("target", "both"):
            world.restart_target()
        if victim in ("agent", "both"):
            world.restart_agent()
    return kills


def check_end(world, history, operators, bdevs):
    """Returns what the history does not allow."""
    on_target = world.on_target()
    problems = []
    if on_target.pop(OPERATORS_NQN, None) != operators:
        problems.append("harmed: the operator's subsystem")
    if world.bdev_names() != bdevs:
        problems.append("harmed: bdevs")
    there = {name: sorted(s["volumes"]) for name, s in on_target.items()}
    record = world.in_record()
    if there != record:
        problems.append(f"leaked: target {there}, record {record}")
    for device in range(DEVICES):
        exists = nqn(device) in there
        if not (history.may_be(device) if exists else history.may_be_absent(device)):
            problems.append(f"device {device}: {'leaked' if exists else 'lost'}")
        for volume in range(VOLUMES):
            attached = exists and str(world.volumes[volume]) in there[nqn(device)]
            allowed = history.may_be(device, volume) if attached else history.may_be_absent(device, volume)
            if not allowed:
                problems.append(f"volume {volume} on device {device}: {'leaked' if attached else 'lost'}")
    for name, subsystem in on_target.items():
        if subsystem["hosts"] != [CLIENTS_HOST] or subsystem["listeners"] != [str(world.port)]:
            problems.append(f"harmed: {name} has {subsystem}")
    return problems


def test_the_model_detects_lost_and_leaked_objects():
    history = History()
    history.calls = [Call("create", 0, 1, begun=1, ended=2, succeeded=True)]
    assert history.may_be(0) and not history.may_be_absent(0)
    assert history.may_be(0, 1) and not history.may_be_absent(0, 1)
    assert history.may_be_absent(1) and not history.may_be(1)
    history.calls.append(Call("delete", 0, begun=3, ended=4, succeeded=True))
    assert history.may_be_absent(0) and not history.may_be(0) and not history.may_be(0, 1)
    history.calls.append(Call("create", 0, begun=3.5, ended=5))  # no answer: both are allowed
    assert history.may_be(0) and history.may_be_absent(0)
    history.calls.append(Call("attach", 0, 1, begun=6, ended=7, succeeded=True))
    history.calls.append(Call("detach", 0, 1, begun=6.5, ended=8, succeeded=True))  # concurrent with the attach
    assert history.may_be(0, 1) and history.may_be_absent(0, 1)


def test_random_calls_during_random_kills(bin_dir, work_dir, pytestconfig, capsys):
    seconds = pytestconfig.getoption("--random-seconds")
    seed = pytestconfig.getoption("--random-seed") or random.randrange(1 << 32)
    with World(bin_dir, work_dir, volume_count=VOLUMES) as world:
        operators, bdevs = world.on_target()[OPERATORS_NQN], world.bdev_names()
        callers = Callers(world, seed)
        with concurrent.futures.ThreadPoolExecutor(CALLERS) as pool:
            running = [pool.submit(callers.run, number) for number in range(CALLERS)]
            try:
                kills = kill_at_random(world, random.Random(seed), seconds)
            finally:
                callers.stop.set()
            for caller in running:
                caller.result(60)
        world.wait_settled(60)
        problems = check_end(world, callers.history, operators, bdevs)
        with capsys.disabled():
            print(f"\nseed {seed}, {seconds} s, kills {dict(kills)}, {len(callers.history.calls)} calls")
            for (kind, code), count in sorted(callers.codes.items()):
                print(f"  {kind:<8}{code:<20}{count:>7}")
        assert problems == [], f"seed {seed}"
        assert callers.wrong == [], f"seed {seed}"
        assert callers.codes["attach", "OK"] > 10
        for name in world.in_record():
            world.agent.client.delete_device(f"nvmf-tcp:{name}")
        assert set(world.on_target()) == {OPERATORS_NQN}
