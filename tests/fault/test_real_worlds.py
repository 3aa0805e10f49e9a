# SPDX-License-Identifier: Apache-2.0
"""Random worlds of real processes and real I/O, judged after every step by real_judge.py.

SMA_REAL_WORLDS_SECONDS (60): no world is begun after this time. SMA_REAL_WORLDS_SEED (1): of the first world; "random"
for new ones. SMA_REAL_WORLDS_COUNT: how many worlds at most; with 1 the world of the seed is repeated. The choices of a
world are determined by its seed, their timing is not.
"""

import contextlib
import os
import random
import shutil
import time
import traceback

import pytest
from conftest import make_work_dir
from fault.real_judge import OUTSIDERS_HOST
from fault.real_operator import OPERATORS_HOST, OWN_NQN, disk
from fault.real_steps import Steps
from fault.real_storage import contents, uuid_of
from fault.real_world import World
from grpc import StatusCode

STEPS = 14


def first_seed():
    text = os.environ.get("SMA_REAL_WORLDS_SEED", "1")
    return random.SystemRandom().randrange(1, 1 << 31) if text == "random" else int(text)


def run_world(bin_dir, work_dir, seed):
    """Returns (problems, the steps, number of reads, number of reads that failed)."""
    choose = random.Random(f"world {seed}")
    trace = []
    with World(bin_dir, work_dir, seed, keeps_keys=choose.random() < 0.7) as world:
        steps = Steps(world, seed)
        try:
            trace.append(steps.begin())
            for _ in range(STEPS):
                trace.append(steps.step())
                if world.judge_step():
                    break
            else:
                world.finish()
        except Exception:  # reported with the seed and the steps
            world.judge.problem(traceback.format_exc())
        return world.judge.problems, trace, world.judge.reads, world.judge.errors


def test_random_worlds(bin_dir, capsys):
    end = time.monotonic() + float(os.environ.get("SMA_REAL_WORLDS_SECONDS", "60"))
    seed, count = first_seed(), int(os.environ.get("SMA_REAL_WORLDS_COUNT", "1000000"))
    failed, worlds, reads, errors = [], 0, 0, 0
    while worlds < count and time.monotonic() < end:
        work_dir = make_work_dir()
        problems, trace, right, wrong = run_world(bin_dir, work_dir, seed + worlds)
        if problems:
            failed.append(f"SMA_REAL_WORLDS_SEED={seed + worlds} SMA_REAL_WORLDS_COUNT=1, logs in {work_dir}:\n  " +
                          "\n  ".join([*trace, "PROBLEMS", *problems]))
        else:
            shutil.rmtree(work_dir)
        worlds, reads, errors = worlds + 1, reads + right, errors + wrong
    with capsys.disabled():
        print(f"\nSMA_REAL_WORLDS_SEED={seed}: {worlds} worlds, {reads} reads answered, {errors} not")
    assert not failed, "\n\n".join(failed)
    assert reads > 0


# The judge itself: each fault that is planted behind its back is found, and nothing is found before.

CLEAR, SEALED, GUESTS = 8, 10, 9  # volumes on devices 0, 0 and 3


def exported(world, number):
    """Returns the NSID of the volume on device 0."""
    namespaces = world.lists()["subsystems"][world.nqn(0)].namespaces
    return next(nsid for nsid, (_, uuid) in namespaces.items() if uuid == str(uuid_of(number)))


def replace(world, number, bdev):
    nsid = exported(world, number)
    world.rpc("nvmf_subsystem_remove_ns", nqn=world.nqn(0), nsid=nsid)
    world.judge.relist(world.nqn(0))
    if bdev == "local-10":
        world.rpc("bdev_crypto_delete", name=f"sma-crypto-{uuid_of(SEALED)}")
    world.rpc("nvmf_subsystem_add_ns", nqn=world.nqn(0),
              namespace={"nsid": nsid, "bdev_name": bdev, "uuid": str(uuid_of(number))})


def swap(world):
    replace(world, CLEAR, disk(22))


def strip_encryption(world):
    replace(world, SEALED, "local-10")


def write_clear_text(world):
    world.storage.file(SEALED).write_bytes(contents(SEALED))


def swap_disk_of_guest(world):
    world.rpc("vhost_delete_controller", ctrlr="sma-3")
    world.rpc("vhost_create_blk_controller", ctrlr="sma-3", dev_name=disk(22))


def move(world):
    world.rpc("nvmf_subsystem_remove_ns", nqn=world.nqn(0), nsid=exported(world, CLEAR))
    world.rpc("nvmf_subsystem_add_ns", nqn=world.nqn(1), namespace={"bdev_name": "local-8"})


def let_in(world):
    world.rpc("nvmf_subsystem_add_host", nqn=world.nqn(1), host=OUTSIDERS_HOST)


def harm_host(world):
    world.rpc("nvmf_subsystem_remove_host", nqn=OWN_NQN, host=OPERATORS_HOST)


def harm_namespace(world):
    assert world.operator.add_namespace(world.nqn(1), 23)
    (_, nsid), = world.operator.namespaces
    world.rpc("nvmf_subsystem_remove_ns", nqn=world.nqn(1), nsid=nsid)


def intrude(world):
    assert world.operator.delete_subsystem(world.nqn(1)) and world.operator.make_subsystem(world.nqn(1), 22)
    world.rpc("nvmf_subsystem_add_host", nqn=world.nqn(1), host=world.host_of(1))


@pytest.mark.parametrize(("plant", "found"), [
    (swap, "has disk 22 at"), (strip_encryption, "has the cipher text of 10 at"),
    (write_clear_text, "the medium of disk 10 was changed"), (swap_disk_of_guest, "has disk 22 at"),
    (move, "device 1 still shows volume 8"), (let_in, "a host that may not use it has connected"),
    (harm_host, "harmed: nqn.2016-06.io.spdk:operators-host"), (harm_namespace, "harmed: the operator's namespace"),
    (intrude, "left: nqn.2016-06.io.spdk:host-1 in the operator's")], ids=lambda value: getattr(value, "__name__", ""))
def test_the_judge_finds(bin_dir, work_dir, plant, found):
    with attached_world(bin_dir, work_dir) as world:
        plant(world)
        assert any(found in problem for problem in world.judge_step()), world.judge.problems


@contextlib.contextmanager
def attached_world(bin_dir, work_dir):
    with World(bin_dir, work_dir, 0, drift_period=0) as world:
        calls = [("create", 0, None), ("create", 1, None), ("attach", 0, CLEAR), ("attach", 0, SEALED),
                 ("create", 3, GUESTS)]
        assert [world.call(*call) for call in calls] == [StatusCode.OK] * len(calls)
        assert world.judge_step() == []
        assert world.judge.errors == 0 and world.judge.reads > 0
        world.removed_s = world.restored_s = 1
        yield world


def test_the_judge_finds_what_is_lost(bin_dir, work_dir):
    with attached_world(bin_dir, work_dir) as world:
        world.rpc("nvmf_subsystem_remove_ns", nqn=world.nqn(0), nsid=exported(world, CLEAR))
        assert any("lost: volume 8 of" in problem for problem in world.finish()), world.judge.problems


def test_the_judge_finds_what_is_left(bin_dir, work_dir):
    with attached_world(bin_dir, work_dir) as world:
        world.rpc("bdev_null_create", name="left", num_blocks=8, block_size=512)
        world.rpc("bdev_set_qos_limit", name=disk(21), rw_ios_per_sec=1000)
        problems = world.finish()
        assert len(problems) == 2 and all("leaked: " in problem for problem in problems), problems
