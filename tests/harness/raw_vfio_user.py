# SPDX-License-Identifier: Apache-2.0
"""A vfio-user client that drives an NVMe controller's registers and admin queue, implemented from the specifications
with `struct` only: it shares no code with the target."""

import array
import mmap
import os
import socket
import struct
import time

VERSION, DMA_MAP, DMA_UNMAP, GET_INFO, SET_IRQS = 1, 2, 3, 4, 8
REGION_READ, REGION_WRITE, RESET = 9, 10, 13
NO_REPLY = 0x10
BAR0 = 0
CC, CSTS, AQA, ASQ, ACQ, DOORBELLS = 0x14, 0x1C, 0x24, 0x28, 0x30, 0x1000
RAM_BYTES, RAM_ADDRESS = 1 << 20, 0x1000_0000
IDENTIFY = 6


class Client:
    def __init__(self, folder, timeout_s=10):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout_s)
        self.socket.connect(str(folder / "cntrl"))
        self.fd = os.memfd_create("guest")
        os.truncate(self.fd, RAM_BYTES)
        self.ram = mmap.mmap(self.fd, RAM_BYTES)
        self.message_id = 0
        self.tail = 0

    def close(self):
        self.socket.close()
        os.close(self.fd)

    def send(self, command, payload=b"", fds=(), flags=0):
        self.message_id = self.message_id + 1 & 0xFFFF
        header = struct.pack("<HHIII", self.message_id, command, 16 + len(payload), flags, 0)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.socket.sendmsg([header + payload], rights)

    def receive(self):
        """Returns the error number and payload of the next reply."""
        _, _, size, _, error = struct.unpack("<HHIII", self._exactly(16))
        return error, self._exactly(size - 16)

    def _exactly(self, size):
        data = b""
        while len(data) < size:
            part, *_ = self.socket.recvmsg(size - len(data), 64)
            if not part:
                raise ConnectionError("the server closed the connection")
            data += part
        return data

    def ask(self, command, payload=b"", fds=()):
        self.send(command, payload, fds)
        error, reply = self.receive()
        assert error == 0, (command, error)
        return reply

    def handshake(self):
        self.ask(VERSION, struct.pack("<HH", 0, 1) + b'{"capabilities":{"max_msg_fds":8}}\0')
        self.map_ram()

    def map_ram(self):
        self.ask(DMA_MAP, struct.pack("<IIQQQ", 32, 3, 0, RAM_ADDRESS, RAM_BYTES), [self.fd])

    def unmap_ram(self):
        self.ask(DMA_UNMAP, struct.pack("<IIQQ", 24, 0, RAM_ADDRESS, RAM_BYTES))

    def read(self, offset, size):
        return self.ask(REGION_READ, struct.pack("<QII", offset, BAR0, size))[16:]

    def write(self, offset, data):
        self.ask(REGION_WRITE, struct.pack("<QII", offset, BAR0, len(data)) + data)

    def enable(self):
        """Enables the controller; returns true if it becomes ready within ten seconds."""
        self.ram[:] = bytes(RAM_BYTES)
        self.tail = 0
        self.write(CC, struct.pack("<I", 0))
        self.write(AQA, struct.pack("<I", 0x000F000F))
        self.write(ASQ, struct.pack("<Q", RAM_ADDRESS))
        self.write(ACQ, struct.pack("<Q", RAM_ADDRESS + 0x1000))
        self.write(CC, struct.pack("<I", 0x00460001))
        until = time.monotonic() + 10
        while time.monotonic() < until:
            if self.read(CSTS, 4)[0] & 1:
                return True
            time.sleep(0.001)  # polling interval
        return False

    def identify(self, cns, nsid=0, wait=True):
        """Rings the doorbell for an Identify command; returns its status, or None without `wait`."""
        entry = struct.pack("<BBHIQQQQI20x", IDENTIFY, 0, self.tail, nsid, 0, 0, RAM_ADDRESS + 0x4000, 0, cns)
        self.ram[self.tail * 64:self.tail * 64 + 64] = entry
        slot, self.tail = self.tail, (self.tail + 1) % 16
        self.write(DOORBELLS, struct.pack("<I", self.tail))
        if not wait:
            return None
        until = time.monotonic() + 10
        while time.monotonic() < until:
            status, = struct.unpack_from("<H", self.ram, 0x1000 + slot * 16 + 14)
            if status & 1:
                return status >> 1
            time.sleep(0.001)  # polling interval
        raise TimeoutError("no completion")
