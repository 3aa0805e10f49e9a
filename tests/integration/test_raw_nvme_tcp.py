# SPDX-License-Identifier: Apache-2.0
"""Tests hosts that send arbitrary data over NVMe/TCP: sequences of PDUs, complete or cut off anywhere, in every order.
The bytes are encoded by harness/nvme_pdu.py, independently of the target's own codecs. Intended for a build with
AddressSanitizer."""

import contextlib
import itertools
import random
import resource
import threading
import time

import pytest

from harness import nvme_pdu as nvme
from harness.agent import free_port
from harness.nvme_pdu import RawConnection, RawHost
from harness.target import Target
from harness.wait import wait_until

NQN = "nqn.2016-06.io.spdk:raw"
BLOCK = 512
WRITE_BYTES = 16384
MANY = 1000


class Served:
    """A target with two I/O threads that serves one memory disk on a TCP port."""

    def __init__(self, target, port):
        self.target, self.port = target, port

    def controllers(self):
        return self.target.call("nvmf_subsystem_get_controllers", nqn=NQN)

    def queue_pairs(self):
        groups = self.target.call("nvmf_get_stats")["poll_groups"]
        return sum(group["current_admin_qpairs"] + group["current_io_qpairs"] for group in groups)

    def check_empty_and_serving(self):
        """Checks that nothing of the earlier hosts is left, and that the next one is served."""
        self.target.process.wait_until(lambda: not self.controllers() and self.queue_pairs() == 0, 20,
                                       "all hosts are gone")
        with RawHost(self.port, NQN) as host:
            assert len(host.read(0, 8, BLOCK)) == 8 * BLOCK
        self.target.process.wait_until(lambda: not self.controllers(), 20, "the last host is disconnected")


@pytest.fixture(scope="module")
def served(bin_dir, module_work_dir):
    port = free_port()
    with Target(bin_dir, module_work_dir, ["--cores", "2"]) as target:
        target.call("nvmf_create_transport", trtype="TCP")
        target.call("nvmf_create_subsystem", nqn=NQN, allow_any_host=True)
        volume = target.make_malloc_volume(size_mib=16, block_size=BLOCK)
        target.call("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": f"malloc-{volume.hex[:8]}"})
        target.call("nvmf_subsystem_add_listener", nqn=NQN,
                    listen_address={"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(port)})
        yield Served(target, port)


def in_threads(count, work):
    """Runs `work(index)` in `count` threads; raises the first error."""
    errors = []

    def guarded(index):
        try:
            work(index)
        except Exception as error:  # pylint: disable=broad-exception-caught
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_hosts_that_connect_repeatedly_and_terminate_at_once(served):
    """In one segment each: no request is free for the second command, so it is parsed after the answer to the first was
    sent, and the connection ends before its own answer is sent."""
    segment = nvme.ic_req() + nvme.property_get(1) + nvme.property_get(2) + nvme.term_req()
    until = time.monotonic() + 5

    def connect_again_and_again(_):
        rounds = 0
        while rounds < 50 or time.monotonic() < until:
            with RawConnection(served.port) as host:
                host.send(segment)
                assert all(pdu.kind in (nvme.IC_RESP, nvme.CAPSULE_RESP) for pdu in host.receive_all())
            rounds += 1

    in_threads(8, connect_again_and_again)
    served.check_empty_and_serving()


# PDUs that a host may send before and after Connect, by a letter.
PIECES = {
    "i": nvme.ic_req(),
    "c": nvme.connect(1, NQN),
    "p": nvme.property_get(2),
    "k": nvme.command(nvme.KEEP_ALIVE, 3),
    "d": nvme.h2c_data(4, 0, 0, bytes(64)),
    "t": nvme.term_req(),
}


def model(order):
    """Returns the expected result of PDUs in this order: the number of answers, and how the connection ends: None if it
    stays open, the fatal status of the target's termination request, or "closed"."""
    initialized, owed = False, 0
    for piece in order:
        if piece == "t":
            return owed, "closed" if initialized else nvme.SEQUENCE_ERROR
        if piece == "i":
            if initialized:
                return owed, nvme.SEQUENCE_ERROR
            initialized = True
        elif not initialized:
            return owed, nvme.SEQUENCE_ERROR
        elif piece == "d":
            return owed, nvme.INVALID_HEADER_FIELD  # unknown transfer tag
        owed += 1
    return owed, None


def check_order(served, order):
    owed, end = model(order)
    with RawConnection(served.port) as host:
        host.send(*(PIECES[piece] for piece in order))
        if end is None:
            answers = [host.receive() for _ in range(owed)]
            assert None not in answers, order
            assert [a.kind for a in answers].count(nvme.CAPSULE_RESP) == owed - 1, order
            # Each command is answered once, in any order of completion.
            assert sorted(a.cid for a in answers[1:]) == sorted("_cpk".index(p) for p in order if p != "i"), order
            return
        answers = host.receive_all()
        if end == "closed":
            assert len(answers) <= owed, order
            return
        # Answers that were lost by a reset are ignored.
        if answers and answers[-1].kind == nvme.C2H_TERM_REQ:
            assert answers.pop().fatal_status == end, order
        assert len(answers) <= owed and all(a.kind != nvme.C2H_TERM_REQ for a in answers), order


def test_every_order_of_pdus_in_one_segment(served):
    orders = [order for size in range(1, len(PIECES) + 1) for order in itertools.permutations(PIECES, size)]
    orders += [order for order in itertools.product("icpd", repeat=4)]
    in_threads(4, lambda index: [check_order(served, order) for order in orders[index::4]])
    served.check_empty_and_serving()


def session_steps(port, digests, host_id):
    """A session with an admin queue and an I/O queue that writes with R2T, as a generator: before each step it yields
    the connection and the bytes of the step, so that the caller may send other bytes instead and stop."""
    with contextlib.ExitStack() as stack:
        admin = stack.enter_context(RawConnection(port))
        yield admin, nvme.ic_req(digests)
        admin.initialize(digests)
        yield admin, nvme.connect(0, NQN, host_id=host_id, digests=digests)
        controller = admin.connect_queue(NQN, host_id=host_id)
        enable = nvme.property_set(1, nvme.CC, nvme.ENABLE, digests=digests)
        yield admin, enable
        admin.complete(enable)
        io = stack.enter_context(RawConnection(port))
        io.initialize(digests)
        io_connect = dict(queue_id=1, controller_id=controller, host_id=host_id)
        yield io, nvme.connect(0, NQN, digests=digests, **io_connect)
        io.connect_queue(NQN, **io_connect)
        request = nvme.write(5, 0, WRITE_BYTES // BLOCK, WRITE_BYTES, digests=digests)
        yield io, request
        io.send(request)
        tag = io.expect(nvme.R2T).tag
        half = bytes(WRITE_BYTES // 2)
        first = nvme.h2c_data(5, tag, 0, half, last=False, digests=digests)
        yield io, first
        io.send(first)
        last = nvme.h2c_data(5, tag, len(half), half, digests=digests)
        yield io, last
        io.send(last)
        assert io.expect(nvme.CAPSULE_RESP).status == 0
        request = nvme.read(6, 0, WRITE_BYTES // BLOCK, WRITE_BYTES, digests=digests)
        yield io, request
        io.send(request)
        yield io, nvme.property_get(2, digests=digests)


STEPS = 9


def run_to(steps, number):
    """Runs to the given step and returns what it yields."""
    for _ in range(number):
        next(steps)
    return next(steps)


def cuts(size, rng):
    """Returns offsets for cutting a PDU: around each field of its headers, and some in its data."""
    fields = (1, 2, 3, 4, 7, 8, 9, 12, 16, 20, 23, 24, 25, 28, 40, 64, 71, 72, 73, 76, 127, size - 5, size - 1)
    places = {cut for cut in fields if 0 < cut < size}
    return sorted(places | {rng.randrange(1, size) for _ in range(4)})


@pytest.mark.parametrize("digests", [0, nvme.HEADER_DIGEST | nvme.DATA_DIGEST], ids=["plain", "digests"])
def test_ends_in_the_middle_of_each_pdu(served, digests):
    """Tests connections that are closed in an orderly way (received bytes are parsed), by a reset, and with a
    termination request in the middle of the PDU."""
    rng = random.Random(20)
    for number in range(STEPS):
        with contextlib.closing(session_steps(served.port, digests, 1)) as steps:
            size = len(run_to(steps, number)[1])
        for cut in cuts(size, rng):
            for ending in ("close", "reset", "terminate"):
                with contextlib.closing(session_steps(served.port, digests, 1)) as steps:
                    host, whole = run_to(steps, number)
                    host.send(whole[:cut])
                    if ending == "terminate":
                        host.send(nvme.term_req())
                    if ending == "reset":
                        host.abandon()
    served.check_empty_and_serving()


def test_termination_at_each_point(served):
    """Ends the session instead of a step, in one segment before or after it; by the host's termination request or by
    the end of its stream."""
    for number, digests in itertools.product(range(STEPS), (0, 3)):
        for before, after in itertools.product((False, True), repeat=2):
            for ending in (nvme.term_req(), nvme.term_req(nvme.SEQUENCE_ERROR, bytes(100)), b""):
                with contextlib.closing(session_steps(served.port, digests, 1)) as steps:
                    host, whole = run_to(steps, number)
                    host.send(whole if before else b"", ending, whole if after else b"")
                    if not ending:
                        host.socket.shutdown(1)
                        host.receive_all()
                    elif number > 0 or before:
                        assert all(pdu.kind != nvme.C2H_TERM_REQ for pdu in host.receive_all())
    served.check_empty_and_serving()


@pytest.mark.parametrize("digests", [0, nvme.HEADER_DIGEST | nvme.DATA_DIGEST], ids=["plain", "digests"])
def test_r2t_data_in_odd_pieces(served, digests):
    """Several concurrent writes with data in PDUs of odd sizes, interleaved, in segments that end anywhere."""
    rng = random.Random(digests)
    with RawHost(served.port, NQN, digests=digests) as host:
        for _ in range(15 if digests else 40):
            contents = {cid: rng.randbytes(WRITE_BYTES) for cid in rng.sample(range(100, 200), 4)}
            lba_of = {cid: index * WRITE_BYTES // BLOCK for index, cid in enumerate(contents)}
            host.io.send(*(nvme.write(cid, lba, WRITE_BYTES // BLOCK, WRITE_BYTES, digests=digests)
                           for cid, lba in lba_of.items()))
            queues = {}
            for _ in contents:
                r2t = host.io.expect(nvme.R2T)
                queues[r2t.cid] = pieces_of(r2t, contents[r2t.cid], rng, digests)
            stream = b""
            while queues:
                cid = rng.choice(list(queues))
                stream += queues[cid].pop(0)
                if not queues[cid]:
                    del queues[cid]
            at = 0
            while at < len(stream):
                size = rng.choice((1, 3, 7, 23, 500, 4001, 30011))
                host.io.send(stream[at:at + size])
                at += size
            responses = [host.io.expect(nvme.CAPSULE_RESP) for _ in contents]
            assert {r.cid: r.status for r in responses} == dict.fromkeys(contents, 0)
            for cid, data in contents.items():
                assert host.read(lba_of[cid], WRITE_BYTES // BLOCK, BLOCK) == data
    served.check_empty_and_serving()


def pieces_of(r2t, data, rng, digests):
    """Returns the H2CData PDUs for `data`, in order."""
    pieces, at = [], 0
    while at < len(data):
        size = min(rng.choice((4, 12, 500, 4092, 8196, WRITE_BYTES)), len(data) - at)
        pieces.append(nvme.h2c_data(r2t.cid, r2t.tag, at, data[at:at + size], at + size == len(data), digests))
        at += size
    return pieces


def allow_descriptors(count):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        if hard < count:
            pytest.skip(f"this process may have {hard} descriptors, the test needs {count}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_a_thousand_connections_at_once(served, stopped):
    """Each is a separate association with the discovery subsystem; then all end at once in different ways. A target
    that was stopped in the meantime accepts them in one go: they exceed the number of pending connections, but none is
    late."""
    allow_descriptors(MANY + 200)
    with contextlib.ExitStack() as stack:
        hosts = []
        with served.target.process.paused() if stopped else contextlib.nullcontext():
            for number in range(MANY):
                host = stack.enter_context(RawConnection(served.port))
                host.send(nvme.ic_req(), nvme.connect(1, nvme.DISCOVERY_NQN, host_id=number + 1))
                hosts.append(host)
        for host in hosts:
            host.expect(nvme.IC_RESP)
            assert host.expect(nvme.CAPSULE_RESP).status == 0
        assert served.queue_pairs() == MANY
        for host in hosts:
            host.send(nvme.property_get(2), nvme.property_get(3), nvme.property_get(4))
        for host in hosts:
            assert sorted(host.expect(nvme.CAPSULE_RESP).cid for _ in range(3)) == [2, 3, 4]
        for number, host in enumerate(hosts):
            host.send(nvme.property_get(2), nvme.property_get(3)[:number % 80],
                      nvme.term_req() if number % 3 == 0 else b"")
            if number % 3 == 1:
                host.abandon()
    served.check_empty_and_serving()
    wait_until(lambda: served.queue_pairs() == 0, 20, "all queue pairs are closed")
