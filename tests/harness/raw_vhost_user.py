# SPDX-License-Identifier: Apache-2.0
"""A vhost-user front end with a virtio-blk driver, implemented from the specifications with `struct` only: it shares no
code with the target, and can send invalid messages."""

import array
import contextlib
import mmap
import os
import socket
import struct

GET_FEATURES, SET_FEATURES, SET_OWNER, SET_MEM_TABLE = 1, 2, 3, 5
SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE, GET_VRING_BASE = 8, 9, 10, 11
SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR = 12, 13, 14
GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES, SET_VRING_ENABLE = 15, 16, 18

VERSION, REPLY, NEED_REPLY = 1, 4, 8
PROTOCOL_FEATURES, VERSION_1 = 1 << 30, 1 << 32
REPLY_ACK = 1 << 3

READ, WRITE, FLUSH, GET_ID = 0, 1, 4, 8
RAM_BYTES = 4 << 20
GUEST, USER = 0x1_0000_0000, 0x7F00_0000_0000
RING_BYTES = 0x8000
QUEUE_SIZE = 16
SECTOR = 512


def message(request, payload=b"", flags=NEED_REPLY):
    return struct.pack("<III", request, VERSION | flags, len(payload)) + payload


class FrontEnd:
    """One connection. Its memory is a memfd with a ring of 32 KiB for each vring, followed by space for one request per
    descriptor chain."""

    def __init__(self, path, timeout_s=10):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout_s)
        self.socket.connect(str(path))
        self.fd = os.memfd_create("guest")
        os.truncate(self.fd, RAM_BYTES)
        self.ram = mmap.mmap(self.fd, RAM_BYTES)
        self.available = {}
        self.eventfds = []

    def close(self):
        self.socket.close()
        for fd in [self.fd, *self.eventfds]:
            os.close(fd)
        self.eventfds, self.fd = [], os.open("/dev/null", os.O_RDONLY)

    def send(self, data, fds=()):
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.socket.sendmsg([data], rights)

    def receive(self):
        """Returns the payload of the next reply."""
        header = self._exactly(12)
        request, flags, size = struct.unpack("<III", header)
        assert flags == VERSION | REPLY, (request, flags)
        return self._exactly(size)

    def _exactly(self, size):
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise ConnectionError("the back end closed the connection")
            data += part
        return data

    def ask(self, request, payload=b"", fds=()):
        self.send(message(request, payload), fds)
        return self.receive()

    def eventfd(self):
        self.eventfds.append(os.eventfd(0, os.EFD_NONBLOCK))
        return self.eventfds[-1]

    def handshake(self):
        offered, = struct.unpack("<Q", self.ask(GET_FEATURES))
        assert offered & VERSION_1 and offered & PROTOCOL_FEATURES
        assert struct.unpack("<Q", self.ask(GET_PROTOCOL_FEATURES))[0] & REPLY_ACK
        self.send(message(SET_PROTOCOL_FEATURES, struct.pack("<Q", REPLY_ACK), flags=0))
        self.acknowledged(SET_OWNER)
        self.acknowledged(SET_FEATURES, struct.pack("<Q", VERSION_1 | PROTOCOL_FEATURES))
        self.acknowledged(SET_MEM_TABLE, struct.pack("<IIQQQQ", 1, 0, GUEST, RAM_BYTES, USER, 0), [self.fd])

    def acknowledged(self, request, payload=b"", fds=()):
        assert self.ask(request, payload, fds) == bytes(8), request

    def start_messages(self, vring, base=0):
        """Returns the messages that start a vring, each with its descriptors."""
        ring = USER + vring * RING_BYTES
        self.available[vring] = base
        return [(SET_VRING_NUM, struct.pack("<II", vring, QUEUE_SIZE), ()),
                (SET_VRING_BASE, struct.pack("<II", vring, base), ()),
                (SET_VRING_ADDR, struct.pack("<IIQQQQ", vring, 0, ring, ring + 0x2000, ring + 0x1000, 0), ()),
                (SET_VRING_CALL, struct.pack("<Q", vring), [self.eventfd()]),
                (SET_VRING_KICK, struct.pack("<Q", vring), [self.kick_fd(vring)]),
                (SET_VRING_ENABLE, struct.pack("<II", vring, 1), ())]

    def kick_fd(self, vring):
        self._kicks = getattr(self, "_kicks", {})
        self._kicks[vring] = self.eventfd()
        return self._kicks[vring]

    def start(self, vring, base=0):
        for request, payload, fds in self.start_messages(vring, base):
            self.acknowledged(request, payload, fds)

    def stop(self, vring):
        return struct.unpack("<II", self.ask(GET_VRING_BASE, struct.pack("<II", vring, 0)))[1]

    def submit(self, vring, kind, sector, data):
        """Makes a request of three descriptors available, using the first descriptors of the table in turn: at most
        five may be outstanding. Returns its slot."""
        index = self.available[vring]
        slot = index % 5
        ring, at = vring * RING_BYTES, (2 << 20) + vring * (256 << 10) + slot * 0x4000
        self.ram[at:at + 16] = struct.pack("<IIQ", kind, 0, sector)
        self.ram[at + 16] = 0xFF
        self.ram[at + 0x1000:at + 0x1000 + len(data)] = data
        first = slot * 3
        write = 2 if kind in (READ, GET_ID) else 0
        for i, (address, size, flags) in enumerate([(at, 16, 1), (at + 0x1000, len(data), 1 | write), (at + 16, 1, 2)]):
            descriptor = struct.pack("<QIHH", GUEST + address, size, flags, first + i + 1)
            self.ram[ring + (first + i) * 16:ring + (first + i + 1) * 16] = descriptor
        heads = ring + 0x1000 + 4
        self.ram[heads + index % QUEUE_SIZE * 2:heads + index % QUEUE_SIZE * 2 + 2] = struct.pack("<H", first)
        self.available[vring] = index + 1 & 0xFFFF
        self.ram[ring + 0x1002:ring + 0x1004] = struct.pack("<H", self.available[vring])
        with contextlib.suppress(BlockingIOError):
            os.eventfd_write(self._kicks[vring], 1)
        return slot

    def used(self, vring):
        ring = vring * RING_BYTES
        return struct.unpack_from("<H", self.ram, ring + 0x2002)[0]

    def answer(self, vring, slot, size):
        """Returns the status and data of a completed request."""
        at = (2 << 20) + vring * (256 << 10) + slot * 0x4000
        return self.ram[at + 16], bytes(self.ram[at + 0x1000:at + 0x1000 + size])
