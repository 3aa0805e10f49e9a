# SPDX-License-Identifier: Apache-2.0
"""Kills the agent and the target at every step of every method, and of the agent's start. Afterwards, no object of a
successful call may be missing, no object of a failed call may remain, and no object of an operator may have changed.
Only a random part of the steps is tested, unless --kill-share is 1."""

import concurrent.futures
import dataclasses
import itertools
import random
import threading
import typing

import grpc
import pytest
from fault.table import Table
from fault.world import CLIENTS_HOST, OPERATORS_HOST, OPERATORS_NQN, World, handle, nqn

MAX_STEPS = 60


@pytest.fixture(scope="module")
def world(bin_dir, module_work_dir):
    with World(bin_dir, module_work_dir) as running:
        yield running


class Steps:
    """A random part of the step numbers, which start at 1."""

    def __init__(self, config):
        self.share = config.getoption("--kill-share")
        self.seed = config.getoption("--random-seed") or random.randrange(1 << 32)
        self._random = random.Random(self.seed)

    def __iter__(self):
        return (step for step in itertools.count(1) if self._random.random() < self.share)


@pytest.fixture
def steps(pytestconfig):
    return Steps(pytestconfig)


@dataclasses.dataclass
class Operation:
    """One call, and the devices with their volumes before and after it."""
    name: str
    before: dict
    call: typing.Callable
    after: dict
    error: grpc.StatusCode = None  # the status without a kill
    removes: bool = False  # the removal may be finished later, although the call failed


def create(number, volume=None):
    return lambda w: w.agent.client.create_nvmf_tcp(nqn(number), w.port, hosts=[CLIENTS_HOST],
                                                    volume=None if volume is None else w.volumes[volume])


def attach(number, volume):
    return lambda w: w.agent.client.attach_volume(handle(number), w.volumes[volume])


def detach(number, volume):
    return lambda w: w.agent.client.detach_volume(handle(number), w.volumes[volume])


def delete(number):
    return lambda w: w.agent.client.delete_device(handle(number))


def missing_volume(call):
    """Returns the same call for a volume that the target does not have."""
    def run(w):
        kept, w.volumes = w.volumes, [w.volumes[0], w.operators_volume.__class__(int=1)]
        try:
            call(w)
        finally:
            w.volumes = kept
    return run


OPERATIONS = [
    Operation("CreateDevice", {}, create(0), {0: []}),
    Operation("CreateDevice with a volume", {}, create(0, 0), {0: [0]}),
    Operation("CreateDevice again", {0: [0]}, create(0, 0), {0: [0]}),
    Operation("CreateDevice beside another", {0: [0]}, create(1, 1), {0: [0], 1: [1]}),
    Operation("CreateDevice without its volume", {0: [0]}, missing_volume(create(1, 1)), {0: [0]},
              grpc.StatusCode.NOT_FOUND),
    Operation("AttachVolume", {0: []}, attach(0, 0), {0: [0]}),
    Operation("AttachVolume, a second one", {0: [0]}, attach(0, 1), {0: [0, 1]}),
    Operation("AttachVolume again", {0: [0]}, attach(0, 0), {0: [0]}),
    Operation("AttachVolume of none", {0: [0]}, missing_volume(attach(0, 1)), {0: [0]}, grpc.StatusCode.NOT_FOUND),
    Operation("DetachVolume", {0: [0, 1]}, detach(0, 0), {0: [1]}, removes=True),
    Operation("DeleteDevice", {0: []}, delete(0), {}, removes=True),
    Operation("DeleteDevice with volumes", {0: [0, 1], 1: [2]}, delete(0), {1: [2]}, removes=True),
    Operation("SetQos", {0: [0]}, lambda w: w.set_limits(0, 0, 5), {0: [0]}),
]


def begin(w, operation):
    """Creates the initial objects."""
    w.end_plan()
    for number, volumes in operation.before.items():
        create(number)(w)
        for volume in volumes:
            attach(number, volume)(w)


def clean_up(w):
    for name in w.in_record():
        w.agent.client.delete_device(f"nvmf-tcp:{name}")


def expected(w, model):
    return {nqn(number): sorted(str(w.volumes[v]) for v in volumes) for number, volumes in model.items()}


def judge(w, operation, answer, operators, bdevs):
    """Returns the final problems: (lost, leaked, harmed). `answer`: OK, an error, or None without an answer."""
    found = w.on_target()
    wrong = [] if found.pop(OPERATORS_NQN, None) == operators else ["the operator's subsystem"]
    if w.bdev_names() != bdevs:
        wrong.append("bdevs")
    there = {name: sorted(s["volumes"]) for name, s in found.items()}
    for name, subsystem in found.items():
        if subsystem["hosts"] != [CLIENTS_HOST] or subsystem["listeners"] != [str(w.port)]:
            wrong.append(f"{name}: {subsystem}")
    allowed = []
    if answer in (grpc.StatusCode.OK, None) or operation.removes:
        allowed.append(expected(w, operation.after))
    if answer != grpc.StatusCode.OK:
        allowed.append(expected(w, operation.before))
    record = w.in_record()
    outcome = f"on the target {there}, in the record {record}, allowed {allowed}"
    if there in allowed and record == there:
        return [], [], wrong
    is_lost = not any(includes(there, want) for want in allowed)
    return ([outcome], [], wrong) if is_lost else ([], [outcome], wrong)


def includes(there, want):
    """Returns true if all wanted objects exist."""
    return all(name in there and set(volumes) <= set(there[name]) for name, volumes in want.items())


def call(w, operation):
    """Returns the status code of the call; None if the agent died without an answer."""
    stop = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        supervision = pool.submit(w.supervise_target, stop)
        try:
            operation.call(w)
        except grpc.RpcError as error:
            return None if w.agent_died() else error.code()
        finally:
            stop.set()
            supervision.result()
    return grpc.StatusCode.OK


def sweep(w, table, row, operation, when, victim_is_target, steps):
    """Runs one case for each of `steps`, until the operation has fewer steps than that."""
    operators, bdevs = w.on_target()[OPERATORS_NQN], w.bdev_names()
    for step in steps:
        begin(w, operation)
        victim = w.target.process.pid
        w.plan(step, when, victim if victim_is_target else 0)
        answer = call(w, operation)
        if w.plan_path.exists():
            w.end_plan()
            assert answer == (operation.error or grpc.StatusCode.OK), operation.name
            clean_up(w)
            return
        if victim_is_target:
            w.wait_target_is_back(victim)
        else:
            w.agent.process.wait()
            answer = answer if answer == grpc.StatusCode.OK else None
            w.restart_agent()
        w.wait_settled()
        table.add(row, f"{operation.name}, step {step}, {when}", *judge(w, operation, answer, operators, bdevs))
        clean_up(w)
        assert step < MAX_STEPS, operation.name


@pytest.mark.parametrize("victim", ["agent", "target"])
def test_death_at_every_step_of_every_method(world, victim, steps, capsys):
    table = Table()
    for operation in OPERATIONS:
        for when in ("before", "after"):
            sweep(world, table, operation.name, operation, when, victim == "target", steps)
    with capsys.disabled():
        print(f"\nThe {victim} is killed at {steps.share:.0%} of the steps, seed {steps.seed}\n{table.text()}")
    assert table.failures == []
    assert table.cases > (80 if steps.share == 1 else 0)


def test_death_of_the_agent_at_every_step_of_its_start(world, steps, capsys):
    """The target has restarted without objects, so that all are recreated, and the agent dies during that."""
    w, table = world, Table()
    before = Operation("start", {0: [0, 1], 1: [2]}, None, {0: [0, 1], 1: [2]})
    operators, bdevs = w.on_target()[OPERATORS_NQN], w.bdev_names()
    for when in ("before", "after"):
        for step in steps:
            begin(w, before)
            w.set_limits(0, 1, 7)
            limits = w.on_target()[nqn(0)]["volumes"]
            w.agent.kill()
            w.restart_target()
            w.plan(step, when)
            w.start_agent_that_may_die()
            died = not w.plan_path.exists()
            w.end_plan()
            lost, leaked, harmed = judge(w, before, grpc.StatusCode.OK, operators, bdevs)
            if w.on_target()[nqn(0)]["volumes"] != limits:
                lost.append("limits")
            table.add(f"start, {when} a step", f"step {step}", lost, leaked, harmed)
            clean_up(w)
            if not died:
                break
    with capsys.disabled():
        print(f"\nThe agent is killed while it restores, seed {steps.seed}\n{table.text()}")
    assert table.failures == []
    assert table.cases > (20 if steps.share == 1 else 0)


def test_an_operators_host_on_a_device_is_kept(world):
    w = world
    begin(w, Operation("", {0: [0]}, None, {}))
    w.rpc("nvmf_subsystem_add_host", nqn=nqn(0), host=OPERATORS_HOST)
    for step in range(1, 6):
        w.plan(step, "after")
        try:
            attach(0, 1)(w)
            detach(0, 1)(w)
        except grpc.RpcError:
            w.agent.process.wait()
            w.restart_agent()
        w.end_plan()
        w.wait_settled()
        assert w.on_target()[nqn(0)]["hosts"] == sorted([CLIENTS_HOST, OPERATORS_HOST])
    clean_up(w)
