# SPDX-License-Identifier: Apache-2.0
"""Tests guests that share no code with the target: they send sequences of vhost-user and vfio-user messages, cut off at
any point, while bdevs are removed and created and limits change. The target must survive and serve a correct guest."""

import contextlib
import random
import time

import pytest

from harness import raw_vfio_user, raw_vhost_user
from harness.raw_vhost_user import READ, SECTOR, WRITE, FrontEnd, message
from harness.target import Target
from harness.wait import wait_until

NQN = "nqn.2016-06.io.spdk:raw"
UUID = "5f3c1a52-8a3d-4d0e-9b58-6f2f4f1c7a01"
SECONDS = 15
GONE = (ConnectionError, TimeoutError, BrokenPipeError)


class Disk:
    """A bdev that is removed and recreated with the same UUID."""

    def __init__(self, target):
        self.target = target
        self.make()

    def make(self):
        self.target.call("bdev_malloc_create", name="disk", uuid=UUID, block_size=SECTOR, num_blocks=8192)

    def remove(self):
        self.target.call("bdev_malloc_delete", name="disk")

    def disturb(self, choice):
        if choice == "replace":
            self.remove()
            self.make()
        else:
            self.target.call("bdev_set_qos_limit", name="disk", rw_ios_per_sec=1000 if choice == "limit" else 0)


@pytest.fixture
def seed(pytestconfig):
    seed = pytestconfig.getoption("--random-seed") or random.SystemRandom().randrange(1, 1 << 31)
    print(f"--random-seed={seed}")
    return seed


def misuse_vhost(choose, path, disk):
    """Runs one front end until a random end."""
    front_end = FrontEnd(path)
    try:
        front_end.handshake()
        vrings = choose.sample(range(4), choose.randint(1, 3))
        for vring in vrings:
            messages = front_end.start_messages(vring)
            for request, payload, fds in messages[:choose.choice([3, 5, 6, 6, 6, 6])]:
                front_end.acknowledged(request, payload, fds)
        for _ in range(choose.randint(1, 12)):
            vring = choose.choice(vrings)
            step = choose.choice(["io", "io", "io", "stop", "half", "again", "junk", "disturb", "end"])
            if step == "io":
                for _ in range(choose.randint(1, 4)):
                    front_end.submit(vring, choose.choice([READ, WRITE]), choose.randrange(8200), bytes(SECTOR))
            elif step == "stop":
                # Does not wait for the answer, so that later messages overtake it.
                front_end.send(message(raw_vhost_user.GET_VRING_BASE, vring.to_bytes(4, "little") + bytes(4)))
                disk.disturb("replace")
                break
            elif step == "half":
                front_end.send(message(raw_vhost_user.SET_VRING_BASE, bytes(8))[:choose.randint(1, 19)])
                break
            elif step == "again":
                front_end.start(vring, choose.randrange(3))
            elif step == "junk":
                front_end.send(choose.randbytes(choose.randint(12, 600)))
                break
            elif step == "disturb":
                disk.disturb(choose.choice(["replace", "limit", "no limit"]))
            else:
                front_end.socket.close()
                disk.disturb("replace")
                break
    except (*GONE, AssertionError, OSError):
        pass  # the request was refused or the connection closed, which the target may do
    finally:
        front_end.close()


def use_vhost(path):
    """Writes and reads back."""
    front_end = FrontEnd(path, timeout_s=30)
    with contextlib.closing(front_end):
        front_end.handshake()
        front_end.start(0)
        data = b"raw " * 128
        for count, (kind, payload) in enumerate([(WRITE, data), (READ, bytes(SECTOR))], 1):
            slot = front_end.submit(0, kind, 77, payload)
            wait_until(lambda count=count: front_end.used(0) == count, 30, "answers the request")
            status, answer = front_end.answer(0, slot, SECTOR)
            assert (status, answer) == (0, data)
        assert front_end.stop(0) == 2


def test_vhost_user(bin_dir, work_dir, seed):
    choose = random.Random(seed)
    with Target(bin_dir, work_dir, ["-S", work_dir, "-m", "0x3"]) as target:
        disk = Disk(target)
        target.call("vhost_create_blk_controller", ctrlr="c", dev_name="disk")
        until, rounds = time.monotonic() + SECONDS, 0
        while time.monotonic() < until or rounds < 3:
            misuse_vhost(choose, work_dir / "c", disk)
            target.process.check_running()
            rounds += 1
        disk.disturb("no limit")
        use_vhost(work_dir / "c")
        print(f"{rounds} front ends")


def misuse_vfio(choose, folder, target, disk):
    client = raw_vfio_user.Client(folder)
    try:
        client.handshake()
        if choose.random() < 0.9:
            client.enable()
        for _ in range(choose.randint(1, 8)):
            step = choose.choice(["identify", "identify", "unmap", "reset", "half", "junk", "disturb", "off", "end"])
            if step == "identify":
                client.identify(choose.choice([0, 1, 2, 3]), choose.randrange(3), wait=choose.random() < 0.5)
            elif step == "unmap":
                client.identify(1, wait=False)
                client.unmap_ram()
                client.map_ram()
            elif step == "reset":
                client.identify(1, wait=False)
                client.send(raw_vfio_user.RESET)
            elif step == "half":
                client.socket.send(choose.randbytes(choose.randint(1, 15)))
                break
            elif step == "junk":
                client.send(choose.randrange(32), choose.randbytes(choose.randrange(200)))
            elif step == "off":
                client.write(raw_vfio_user.CC, bytes(4))
            elif step == "disturb":
                target.call("nvmf_subsystem_remove_ns", nqn=NQN, nsid=1)
                target.call("nvmf_subsystem_add_ns", nqn=NQN, namespace={"nsid": 1, "bdev_name": "disk"})
            else:
                client.identify(0, 1, wait=False)
                client.socket.close()
                disk.remove()
                disk.make()
                target.call("nvmf_subsystem_add_ns", nqn=NQN, namespace={"nsid": 1, "bdev_name": "disk"})
                break
    except (*GONE, AssertionError, OSError):
        pass  # the request was refused or the connection closed, which the target may do
    finally:
        client.close()


def test_vfio_user(bin_dir, work_dir, seed):
    choose = random.Random(seed)
    with Target(bin_dir, work_dir, ["-m", "0x3"]) as target:
        disk = Disk(target)
        target.call("nvmf_create_transport", trtype="VFIOUSER")
        target.call("nvmf_create_subsystem", nqn=NQN, allow_any_host=True)
        target.call("nvmf_subsystem_add_ns", nqn=NQN, namespace={"nsid": 1, "bdev_name": "disk"})
        target.call("nvmf_subsystem_add_listener", nqn=NQN,
                    listen_address={"trtype": "VFIOUSER", "traddr": str(work_dir), "trsvcid": "0"})
        until, rounds = time.monotonic() + SECONDS, 0
        while time.monotonic() < until or rounds < 3:
            misuse_vfio(choose, work_dir, target, disk)
            target.process.check_running()
            rounds += 1
        with contextlib.closing(raw_vfio_user.Client(work_dir, timeout_s=30)) as client:
            client.handshake()
            assert client.enable()
            assert client.identify(1) == 0
        print(f"{rounds} clients")
