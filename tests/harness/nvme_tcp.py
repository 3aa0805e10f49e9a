# SPDX-License-Identifier: Apache-2.0
"""A small NVMe/TCP host (NVMe/TCP 1.0): connects to a subsystem, and reads and writes blocks, one command at a time."""

import socket
import struct
import time
import uuid

IC_REQ, IC_RESP, CAPSULE_CMD, CAPSULE_RESP, C2H_DATA = 0, 1, 4, 5, 7
FABRICS, WRITE, READ, IDENTIFY = 0x7F, 1, 2, 6
IDENTIFY_NAMESPACE, ACTIVE_NAMESPACES, DESCRIPTORS = 0, 2, 3
UUID_DESCRIPTOR = 3
PROPERTY_SET, CONNECT, PROPERTY_GET = 0, 1, 4
IN_CAPSULE, TRANSPORT = 0x01, 0x5A  # SGL descriptor types
C2H_SUCCESS = 0x08
MAX_IN_CAPSULE_BYTES = 4096


class NvmeError(Exception):
    """Raised for a command that the controller did not complete successfully."""


class QueuePair:
    """A connection, which is one queue pair."""

    def __init__(self, address, subnqn, hostnqn, host_id, qid, controller_id=0xFFFF, timeout_s=10):
        self._socket = socket.create_connection(address, timeout=timeout_s)
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

    def submit(self, cid, opcode, nsid, dwords, data=b"", read_bytes=0):
        """Sends a command without waiting for its completion."""
        if len(data) > MAX_IN_CAPSULE_BYTES:
            raise ValueError("more than fits into a capsule")
        sgl = (struct.pack("<QI3xB", 0, len(data), IN_CAPSULE) if data else
               struct.pack("<QI3xB", 0, read_bytes, TRANSPORT))
        entry = struct.pack("<BBHI16x", opcode, 0x40, cid, nsid) + sgl + dwords.ljust(24, b"\0")
        header = struct.pack("<BBBBI", CAPSULE_CMD, 0, 72, 72 if data else 0, 72 + len(data))
        self._socket.sendall(header + entry + data)

    def gather(self, read_bytes, timeout_s):
        """Waits for commands sent by submit(). `read_bytes`: {cid: size of its data}. Returns {cid: data} of those that
        succeeded, and {cid: status} of those that failed; commands in neither were not answered in time."""
        received = {cid: bytearray(size) for cid, size in read_bytes.items()}
        done, failed, deadline = {}, {}, time.monotonic() + timeout_s
        try:
            while len(done) + len(failed) < len(read_bytes):
                self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
                kind, flags, header, payload = self._receive_pdu()
                status = 0
                if kind == C2H_DATA:
                    cid, = struct.unpack_from("<H", header)
                    offset, size = struct.unpack_from("<II", header, 4)
                    received[cid][offset:offset + size] = payload
                    if not flags & C2H_SUCCESS:
                        continue
                else:
                    cid, status = struct.unpack_from("<HH", header, 12)
                if status >> 1:
                    failed[cid] = status >> 1
                else:
                    done[cid] = bytes(received[cid])
        except OSError:
            pass  # the rest was not answered
        return done, failed

    def command(self, opcode, nsid, dwords, data=b"", read_bytes=0):
        """Returns dword 0 of the completion and the read data. `nsid`: the command type of a Fabrics command."""
        self.submit(1, opcode, nsid, dwords, data, read_bytes)
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


def uuid_of(descriptors):
    """Returns the UUID in a Namespace Identification Descriptor list; None if there is none."""
    at = 0
    while at + 4 <= len(descriptors) and descriptors[at + 1]:
        kind, size = descriptors[at], descriptors[at + 1]
        if kind == UUID_DESCRIPTOR:
            return uuid.UUID(bytes=descriptors[at + 4:at + 4 + size])
        at += 4 + size
    return None


class NvmeTcpHost:
    """An association with a subsystem: an admin queue and one I/O queue. A context manager."""

    def __init__(self, port, subnqn, hostnqn="nqn.2014-08.org.example:host", address="127.0.0.1", nsid=1,
                 block_size=4096, timeout_s=10):
        host_id = uuid.uuid4()
        self.nsid, self.block_size = nsid, block_size
        self._admin = QueuePair((address, port), subnqn, hostnqn, host_id, 0, timeout_s=timeout_s)
        self._admin.command(FABRICS, PROPERTY_SET, struct.pack("<B3xIQ", 0, 0x14, 0x00460001))
        while not self._admin.command(FABRICS, PROPERTY_GET, struct.pack("<B3xI", 0, 0x1C))[0] & 1:
            pass
        self._io = QueuePair((address, port), subnqn, hostnqn, host_id, 1, self._admin.controller_id, timeout_s)

    def _identify(self, structure, nsid):
        return self._admin.command(IDENTIFY, nsid, struct.pack("<I", structure), read_bytes=4096)[1]

    def namespaces(self):
        """Returns {NSID: (UUID, block size, number of blocks)}."""
        listed = struct.unpack("<1024I", self._identify(ACTIVE_NAMESPACES, 0))
        found = {}
        for nsid in listed[:listed.index(0)]:
            try:
                description, namespace = self._identify(DESCRIPTORS, nsid), self._identify(IDENTIFY_NAMESPACE, nsid)
            except NvmeError:
                continue  # removed since it was listed
            lba_format, = struct.unpack_from("<I", namespace, 128 + 4 * (namespace[26] & 15))
            found[nsid] = (uuid_of(description), 1 << (lba_format >> 16 & 0xFF), struct.unpack_from("<Q", namespace)[0])
        return found

    def exchange(self, commands, timeout_s):
        """Sends READ and WRITE commands, at most 31, together: tuples of opcode, NSID, LBA and either the number of
        bytes of one block or the block's data. Returns what QueuePair.gather() returns, by the index of a command."""
        sizes = {}
        for cid, (opcode, nsid, lba, block) in enumerate(commands):
            data = block if opcode == WRITE else b""
            sizes[cid] = 0 if opcode == WRITE else block
            try:
                self._io.submit(cid, opcode, nsid, struct.pack("<QI", lba, 0), data, sizes[cid])
            except OSError:
                return {}, {}  # the connection was lost
        return self._io.gather(sizes, timeout_s)

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
