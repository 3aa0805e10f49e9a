# SPDX-License-Identifier: Apache-2.0
"""A small NVMe/TCP host (NVMe/TCP 1.0): connects to a subsystem, and reads and writes blocks, one command at a time."""

import socket
import struct
import uuid

IC_REQ, IC_RESP, CAPSULE_CMD, CAPSULE_RESP, C2H_DATA = 0, 1, 4, 5, 7
FABRICS, WRITE, READ = 0x7F, 1, 2
PROPERTY_SET, CONNECT, PROPERTY_GET = 0, 1, 4
IN_CAPSULE, TRANSPORT = 0x01, 0x5A  # SGL descriptor types
C2H_SUCCESS = 0x08
MAX_IN_CAPSULE_BYTES = 4096


class NvmeError(Exception):
    """Raised for a command that the controller did not complete successfully."""


class QueuePair:
    """A connection, which is one queue pair."""

    def __init__(self, address, subnqn, hostnqn, host_id, qid, controller_id=0xFFFF):
        self._socket = socket.create_connection(address, timeout=10)
        self._socket.sendall(struct.pack("<BBBBIHBBI", IC_REQ, 0, 128, 0, 128, 0, 0, 0, 0).ljust(128, b"\0"))
        self._receive_pdu()
        data = bytearray(1024)
        data[0:16] = host_id.bytes
        struct.pack_into("<H", data, 16, controller_id)
        data[256:256 + len(subnqn)] = subnqn.encode()
        data[512:512 + len(hostnqn)] = hostnqn.encode()
        result, _ = self.command(FABRICS, CONNECT, struct.pack("<HHHBBI", 0, qid, 31, 0, 0, 0), bytes(data))
        self.controller_id = result & 0xFFFF

    def close(self):
        self._socket.close()

    def _receive(self, size):
        data = b""
        while len(data) < size:
            part = self._socket.recv(size - len(data))
            if not part:
                raise ConnectionError("the controller has closed the connection")
            data += part
        return data

    def _receive_pdu(self):
        kind, flags, header_bytes, offset, size = struct.unpack("<BBBBI", self._receive(8))
        body = self._receive(size - 8)
        return kind, flags, body[:header_bytes - 8], body[offset - 8:] if offset else b""

    def command(self, opcode, nsid, dwords, data=b"", read_bytes=0):
        """Returns dword 0 of the completion and the read data. `nsid`: the command type of a Fabrics command."""
        if len(data) > MAX_IN_CAPSULE_BYTES:
            raise ValueError("more than fits into a capsule")
        sgl = (struct.pack("<QI3xB", 0, len(data), IN_CAPSULE) if data else
               struct.pack("<QI3xB", 0, read_bytes, TRANSPORT))
        entry = struct.pack("<BBHI16x", opcode, 0x40, 1, nsid) + sgl + dwords.ljust(24, b"\0")
        header = struct.pack("<BBBBI", CAPSULE_CMD, 0, 72, 72 if data else 0, 72 + len(data))
        self._socket.sendall(header + entry + data)
        received = bytearray(read_bytes)
        while True:
            kind, flags, header, payload = self._receive_pdu()
            if kind == C2H_DATA:
                offset, size = struct.unpack_from("<II", header, 4)
                received[offset:offset + size] = payload
                if flags & C2H_SUCCESS:
                    return 0, bytes(received)
            elif kind == CAPSULE_RESP:
                result, status = struct.unpack("<I10xH", header)
                if status >> 1:
                    raise NvmeError(f"status {status >> 1:#x}")
                return result, bytes(received)
            else:
                raise NvmeError(f"PDU of type {kind}")


class NvmeTcpHost:
    """An association with a subsystem: an admin queue and one I/O queue. A context manager."""

    def __init__(self, port, subnqn, hostnqn="nqn.2014-08.org.example:host", address="127.0.0.1", nsid=1,
                 block_size=4096):
        host_id = uuid.uuid4()
        self.nsid, self.block_size = nsid, block_size
        self._admin = QueuePair((address, port), subnqn, hostnqn, host_id, 0)
        self._admin.command(FABRICS, PROPERTY_SET, struct.pack("<B3xIQ", 0, 0x14, 0x00460001))
        while not self._admin.command(FABRICS, PROPERTY_GET, struct.pack("<B3xI", 0, 0x1C))[0] & 1:
            pass
        self._io = QueuePair((address, port), subnqn, hostnqn, host_id, 1, self._admin.controller_id)

    def write(self, lba, data):
        for offset in range(0, len(data), self.block_size):
            block = data[offset:offset + self.block_size]
            self._io.command(WRITE, self.nsid, struct.pack("<QI", lba + offset // self.block_size, 0), block)

    def read(self, lba, blocks):
        return self._io.command(READ, self.nsid, struct.pack("<QI", lba, blocks - 1),
                                read_bytes=blocks * self.block_size)[1]

    def close(self):
        self._io.close()
        self._admin.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
