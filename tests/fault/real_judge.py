# SPDX-License-Identifier: Apache-2.0
"""Judges a real world by what hosts and guests read and by what an operator made:

1. a host that may read a volume reads that volume's bytes or gets an error, and no other host sees the volume;
2. what the agent did not make is as its owner left it."""

import concurrent.futures
import contextlib
import random
import time

from fault.real_operator import OPERATORS_HOST, OWN_NQN
from fault.real_storage import ENCRYPTED, ISCSI, NUMBERS, SIZE, VOLUMES, block_size_of, contents, describe, uuid_of
from harness.nvme_tcp import READ, WRITE, NvmeError, NvmeTcpHost
from harness.raw_vhost_user import GET_ID, FrontEnd
from harness.raw_vhost_user import READ as VIRTIO_READ

OUTSIDERS_HOST = "nqn.2016-06.io.spdk:outsiders-host"
GONE = (OSError, NvmeError)
CONNECT_S, ANSWER_S = 1.0, 0.6  # longer waits count as errors, since neighbours may be stopped
SAMPLES = 3  # blocks of each namespace


class Judge:
    """Hosts with connections that are kept from one step to the next, and the problems that they found."""

    def __init__(self, world, seed):
        self._world = world
        self._random = random.Random(f"judge {seed}")
        self._kept = {}  # {device: (host, {NSID: UUID} as last listed)}
        self.problems = []
        self.reads = self.errors = 0

    def close(self):
        for host, _ in self._kept.values():
            host.close()

    def check(self):
        """Checks both rules once."""
        operator = self._world.operator
        self._check_operator()
        nvme, guests = self._world.nvme_devices, self._world.vhost_devices
        with concurrent.futures.ThreadPoolExecutor(len(nvme) + len(guests) + 1) as pool:
            tasks = [pool.submit(self._check_device, device) for device in nvme]
            tasks += [pool.submit(self._check_guest, device) for device in guests]
            tasks.append(pool.submit(self._check_operators_view, operator))
            for task in tasks:
                task.result()
        self.problems += [f"the medium of disk {number} was changed" for number in self._world.storage.damaged()]

    def problem(self, text):
        if text not in self.problems:
            self.problems.append(text)

    def relist(self, nqn):
        """Connected hosts read the list of namespaces, so that an NSID that they know becomes free."""
        for device, (host, _) in list(self._kept.items()):
            if self._world.nqn(device) == nqn:
                try:
                    self._kept[device] = (host, host.namespaces())
                except GONE:
                    del self._kept[device]
                    host.close()

    # Rule 1.

    def _check_device(self, device):
        world, nqn = self._world, self._world.nqn(device)
        with contextlib.suppress(*GONE):
            NvmeTcpHost(world.port, nqn, OUTSIDERS_HOST, timeout_s=CONNECT_S).close()
            self.problem(f"{nqn}: a host that may not use it has connected")
        if device in self._kept:
            host, known = self._kept.pop(device)
            self._read(f"{nqn}, connected before", nqn, host, known)
            host.close()
        with contextlib.suppress(*GONE):
            host = NvmeTcpHost(world.port, nqn, world.host_of(device), timeout_s=CONNECT_S)
            known = host.namespaces()
            for nsid, (uuid, _, _) in known.items():
                self._check_may_see(device, nqn, nsid, uuid)
            if self._read(nqn, nqn, host, known):
                self._kept[device] = (host, known)
            else:
                host.close()

    def _check_may_see(self, device, nqn, nsid, uuid):
        world = self._world
        if (nqn, nsid) in world.operator.namespaces or nqn in world.operator.subsystems:
            return
        if uuid not in NUMBERS:
            self.problem(f"{nqn}: nobody made namespace {nsid} with UUID {uuid}")
        elif not world.history.may_be(device, NUMBERS[uuid]):
            world.later.append((device, NUMBERS[uuid]))

    def _expected(self, nqn, nsid, uuid):
        """Returns the numbers of the disks whose contents a namespace may have."""
        operator = self._world.operator
        own = [operator.namespaces.get((nqn, nsid)), operator.subsystems.get(nqn) and
               operator.subsystems[nqn].namespaces.get(nsid)]
        bdevs = [entry[0] for entry in own if entry]
        if bdevs:
            # It may also be that a host knows this NSID from before the operator took it.
            return [int(bdevs[0].rpartition("-")[2]), *([NUMBERS[uuid]] if uuid in NUMBERS else [])]
        return [NUMBERS[uuid]] if uuid in NUMBERS else []

    def _read(self, what, nqn, host, known):
        """Reads blocks of each namespace, and writes one of them again. Returns true if all of them were answered."""
        commands, meaning = [], []
        for nsid, (uuid, block_size, blocks) in list(known.items())[:6]:
            for _ in range(SAMPLES):
                lba = self._random.randrange(min(blocks, SIZE // block_size))
                commands.append((READ, nsid, lba, block_size))
                meaning.append((nsid, uuid, lba * block_size))
        done, failed = host.exchange(commands, ANSWER_S)
        self.reads += len(done)
        self.errors += len(commands) - len(done)
        right = []
        for index, data in done.items():
            nsid, uuid, offset = meaning[index]
            numbers = self._expected(nqn, nsid, uuid)
            if not any(data == contents(number)[offset:offset + len(data)] for number in numbers):
                self.problem(f"{what}: namespace {nsid} with UUID {uuid} has {describe(data)} at {offset}, "
                             f"not disk {numbers}")
            elif len(numbers) == 1:
                right.append((WRITE, nsid, commands[index][2], data))
        if right and self._random.random() < 0.3:
            # The same bytes: they change a medium only if they reach another one, or bypass the encryption.
            host.exchange([self._random.choice(right)], ANSWER_S)
        return len(done) + len(failed) == len(commands)

    def _check_guest(self, device):
        name, operator = self._world.vhost_name(device), self._world.operator
        try:
            front_end = FrontEnd(self._world.work_dir / name, timeout_s=CONNECT_S)
        except OSError:
            return
        with contextlib.closing(front_end), contextlib.suppress(OSError, AssertionError):
            front_end.handshake()
            front_end.start(0)
            serial = self._ask_guest(front_end, GET_ID, 0, 20).rstrip(b"\0").decode()
            own = operator.vhosts.get(name)
            numbers = [n for n in VOLUMES if str(uuid_of(n))[:20] == serial]
            # The disk shows the UUID of its bdev, which for encrypted and iSCSI volumes is not the volume's.
            numbers = numbers or [n for n in (*ENCRYPTED, *ISCSI) if self._world.history.may_be(device, n)]
            if not own and len(numbers) == 1 and not self._world.history.may_be(device, numbers[0]):
                self._world.later.append((device, numbers[0]))
            for _ in range(SAMPLES):
                offset = self._random.randrange(SIZE // 4096) * 4096
                data = self._ask_guest(front_end, VIRTIO_READ, offset // 512, 4096)
                self.reads += 1
                wanted = [int(own.rpartition("-")[2])] if own else numbers
                if not any(data == contents(number)[offset:offset + 4096] for number in wanted):
                    self.problem(f"{name}: the disk with serial number {serial} has {describe(data)} at {offset}")
            front_end.stop(0)

    def _ask_guest(self, front_end, kind, sector, size):
        """Raises TimeoutError if there is no answer, and ConnectionError if it is an error."""
        before, deadline = front_end.used(0), time.monotonic() + ANSWER_S
        slot = front_end.submit(0, kind, sector, bytes(size))
        while front_end.used(0) == before:
            if time.monotonic() > deadline:
                self.errors += 1
                raise TimeoutError("no answer")
            time.sleep(0.001)
        status, data = front_end.answer(0, slot, size)
        if status != 0:
            self.errors += 1
            raise ConnectionError("an error")
        return data

    def reads_volume(self, device, number):
        """Returns true if the device's host can read all of the volume, or its guest a part. Records wrong bytes."""
        if device in self._world.vhost_devices:
            before = self.reads
            self._check_guest(device)
            return self.reads == before + SAMPLES
        nqn = self._world.nqn(device)
        try:
            with NvmeTcpHost(self._world.port, nqn, self._world.host_of(device), timeout_s=CONNECT_S) as host:
                nsid = next((n for n, what in host.namespaces().items() if what[0] == uuid_of(number)), None)
                if nsid is None:
                    return False
                for first in range(0, SIZE // 4096, 16):
                    done, _ = host.exchange(self._blocks(nsid, number, first), ANSWER_S)
                    if len(done) < 16:
                        return False
                    for index, data in done.items():
                        offset = (first + index) * 4096
                        if data != contents(number)[offset:offset + len(data)]:
                            self.problem(f"{nqn}: volume {number} has {describe(data)} at {offset}")
                return True
        except GONE:
            return False

    @staticmethod
    def _blocks(nsid, number, first):
        """Returns reads of one block in each of 16 pieces of 4 KiB."""
        size = block_size_of(number)
        return [(READ, nsid, (first + i) * 4096 // size, size) for i in range(16)]

    # Rule 2.

    def _check_operator(self):
        world = self._world
        if not world.target_answers():
            return
        harmed, extra = world.operator.harm()
        for what in harmed:
            self.problem(f"harmed: {what}")
        if extra and world.agent_is_alive():
            # A call that found another owner's object may still be withdrawing what it added.
            deadline = time.monotonic() + world.removed_s
            while extra and time.monotonic() < deadline:
                time.sleep(0.05)
                harmed, extra = world.operator.harm()
            for what in extra:
                self.problem(f"left: {what}")

    def _check_operators_view(self, operator):
        """The operator's hosts read the operator's disks."""
        for nqn in (OWN_NQN, *(n for n in list(operator.subsystems) if n != OWN_NQN)):
            with contextlib.suppress(*GONE), NvmeTcpHost(int(operator.port), nqn, OPERATORS_HOST,
                                                         timeout_s=CONNECT_S) as host:
                self._read(f"the operator's {nqn}", nqn, host, host.namespaces())
