# SPDX-License-Identifier: Apache-2.0
"""PDUs of NVMe/TCP 1.0, encoded and decoded byte by byte, and a connection that sends any sequence of them.

Implemented from the specification only: it shares no code with the target's codecs, so that it does not repeat their
errors.
"""

import socket
import struct

IC_REQ, IC_RESP, H2C_TERM_REQ, C2H_TERM_REQ, CAPSULE_CMD, CAPSULE_RESP = 0, 1, 2, 3, 4, 5
H2C_DATA, C2H_DATA, R2T = 6, 7, 9
# Flags of the common header (section 3.3.1) and digests of ICReq (section 3.6.2.2).
HEADER_DIGEST_FLAG, DATA_DIGEST_FLAG, LAST_PDU, SUCCESS = 0x01, 0x02, 0x04, 0x08
HEADER_DIGEST, DATA_DIGEST = 0x01, 0x02
# Fatal error status of a termination request (section 3.6.2.4).
INVALID_HEADER_FIELD, SEQUENCE_ERROR = 1, 2

FLUSH, WRITE, READ = 0, 1, 2
KEEP_ALIVE, FABRICS = 0x18, 0x7F
PROPERTY_SET, CONNECT, PROPERTY_GET = 0, 1, 4
CC, CSTS = 0x14, 0x1C
ENABLE = 0x00460001  # CC: 64-byte submission and 16-byte completion entries, enabled
ANY_CONTROLLER = 0xFFFF
DISCOVERY_NQN = "nqn.2014-08.org.nvmexpress.discovery"
HOST_NQN = "nqn.2014-08.org.example:raw-host"


def _crc_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_CRC_TABLE = _crc_table()


def crc32c(data):
    """Returns the CRC32C of `data`, reflected, as in digests."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def pdu(kind, specific, data=b"", flags=0, digests=0):
    """Returns a PDU with its digests. `specific`: the header after the eight common bytes."""
    header_size = 8 + len(specific)
    data_at = header_size + (4 if digests & HEADER_DIGEST else 0)
    size = data_at + len(data)
    if digests & HEADER_DIGEST:
        flags |= HEADER_DIGEST_FLAG
    if data and digests & DATA_DIGEST:
        flags |= DATA_DIGEST_FLAG
        size += 4
    header = struct.pack("<BBBBI", kind, flags, header_size, data_at if data else 0, size) + specific
    header_digest = struct.pack("<I", crc32c(header)) if digests & HEADER_DIGEST else b""
    data_digest = struct.pack("<I", crc32c(data)) if data and digests & DATA_DIGEST else b""
    return header + header_digest + data + data_digest


def ic_req(digests=0, version=0):
    return pdu(IC_REQ, struct.pack("<HBBI", version, 0, digests, 0).ljust(120, b"\0"))


def term_req(status=INVALID_HEADER_FIELD, culprit=b""):
    return pdu(H2C_TERM_REQ, struct.pack("<HI10x", status, 0), culprit)


def command(opcode, cid, nsid=0, dwords=b"", data=b"", host_bytes=0, digests=0):
    """Returns a command capsule. `data` is in the capsule, `host_bytes` are sent in separate PDUs. `dwords`: from CDW10
    on. `nsid`: the command type of a Fabrics command."""
    # An SGL data block: the offset type for data in the capsule, otherwise the transport type (NVMe Base 2.0 section
    # 4.1.2.1).
    sgl = struct.pack("<QI3xB", 0, len(data), 0x01) if data else struct.pack("<QI3xB", 0, host_bytes, 0x5A)
    entry = struct.pack("<BBHI16x", opcode, 0x40, cid, nsid) + sgl + dwords.ljust(24, b"\0")
    return pdu(CAPSULE_CMD, entry, data, digests=digests)


def property_get(cid, offset=CSTS, digests=0):
    return command(FABRICS, cid, PROPERTY_GET, struct.pack("<B3xI", 0, offset), digests=digests)


def property_set(cid, offset, value, digests=0):
    return command(FABRICS, cid, PROPERTY_SET, struct.pack("<B3xIQ", 0, offset, value), digests=digests)


def connect(cid, subnqn, queue_id=0, controller_id=ANY_CONTROLLER, host_id=1, entries=32, digests=0,
            keep_alive_ms=0):
    data = bytearray(1024)
    data[0:16] = host_id.to_bytes(16, "big")
    struct.pack_into("<H", data, 16, controller_id)
    data[256:256 + len(subnqn)] = subnqn.encode()
    data[512:512 + len(HOST_NQN)] = HOST_NQN.encode()
    return command(FABRICS, cid, CONNECT, struct.pack("<HHHBBI", 0, queue_id, entries - 1, 0, 0, keep_alive_ms),
                   bytes(data), digests=digests)


def write(cid, lba, blocks, host_bytes, nsid=1, digests=0):
    """Returns a write whose data the controller requests."""
    return command(WRITE, cid, nsid, struct.pack("<QI", lba, blocks - 1), host_bytes=host_bytes, digests=digests)


def write_in_capsule(cid, lba, blocks, data, nsid=1, digests=0):
    return command(WRITE, cid, nsid, struct.pack("<QI", lba, blocks - 1), data, digests=digests)


def read(cid, lba, blocks, host_bytes, nsid=1, digests=0):
    return command(READ, cid, nsid, struct.pack("<QI", lba, blocks - 1), host_bytes=host_bytes, digests=digests)


def h2c_data(cid, tag, offset, data, last=True, digests=0):
    return pdu(H2C_DATA, struct.pack("<HHII4x", cid, tag, offset, len(data)), data, LAST_PDU if last else 0, digests)


class Pdu:
    """A PDU from the controller."""

    def __init__(self, header, rest):
        self.kind, self.flags, header_size, data_at, _ = struct.unpack("<BBBBI", header)
        raw = header + rest
        self.specific = raw[8:header_size]
        end = len(raw) - (4 if self.flags & DATA_DIGEST_FLAG else 0)
        self.data = raw[data_at:end] if data_at else b""
        if self.flags & HEADER_DIGEST_FLAG and self.kind != IC_RESP:
            assert struct.unpack_from("<I", raw, header_size)[0] == crc32c(raw[:header_size])
        if self.flags & DATA_DIGEST_FLAG:
            assert struct.unpack_from("<I", raw, end)[0] == crc32c(self.data)

    @property
    def status(self):
        """The status code and type of a response capsule, without "do not retry" and "more"."""
        return struct.unpack_from("<H", self.specific, 14)[0] >> 1 & 0x7FF

    @property
    def result(self):
        return struct.unpack_from("<I", self.specific)[0]

    @property
    def cid(self):
        """The command identifier of a response capsule, of data or of an R2T."""
        return struct.unpack_from("<H", self.specific, 12 if self.kind == CAPSULE_RESP else 0)[0]

    @property
    def tag(self):
        return struct.unpack_from("<H", self.specific, 2)[0]

    @property
    def fatal_status(self):
        return struct.unpack_from("<H", self.specific)[0]


class RawConnection:
    """A TCP connection to the target. A context manager that closes it at the end."""

    def __init__(self, port, address="127.0.0.1", source=None, timeout_s=20):
        self.socket = socket.create_connection((address, port), timeout=timeout_s,
                                               source_address=(source, 0) if source else None)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.digests = 0

    def send(self, *pieces):
        """Sends all bytes in one call, and therefore in one segment if there are few enough of them."""
        self.socket.sendall(b"".join(pieces))

    def _receive_exactly(self, size):
        data = b""
        while len(data) < size:
            try:
                part = self.socket.recv(size - len(data))
            except ConnectionError:
                return None
            if not part:
                return None
            data += part
        return data

    def receive(self):
        """Returns the next PDU; None if the target has closed the connection."""
        header = self._receive_exactly(8)
        if header is None:
            return None
        rest = self._receive_exactly(struct.unpack_from("<I", header, 4)[0] - 8)
        return None if rest is None else Pdu(header, rest)

    def receive_all(self):
        """Returns everything that is received until the target closes the connection."""
        received = []
        while (one := self.receive()) is not None:
            received.append(one)
        return received

    def expect(self, kind):
        one = self.receive()
        assert one is not None and one.kind == kind, f"wanted a PDU of type {kind}, got {one and one.kind}"
        return one

    def initialize(self, digests=0):
        self.send(ic_req(digests))
        self.digests = self.expect(IC_RESP).specific[3]
        assert self.digests == digests

    def complete(self, request):
        """Sends one command and waits for its response capsule, which must be a success."""
        self.send(request)
        response = self.expect(CAPSULE_RESP)
        assert response.status == 0, f"status {response.status:#x}"
        return response

    def connect_queue(self, subnqn, **kwargs):
        """Returns the controller's id."""
        return self.complete(connect(0, subnqn, digests=self.digests, **kwargs)).result & 0xFFFF

    def abandon(self):
        """Resets the connection, so that data in transit are not delivered."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class RawHost:
    """An admin queue and one I/O queue of a subsystem. A context manager that closes them at the end."""

    def __init__(self, port, subnqn, digests=0, host_id=1, entries=32, keep_alive_ms=0):
        self.admin = RawConnection(port)
        self.admin.initialize(digests)
        self.controller_id = self.admin.connect_queue(subnqn, host_id=host_id, keep_alive_ms=keep_alive_ms)
        self.admin.complete(property_set(1, CC, ENABLE, digests=digests))
        self.io = RawConnection(port)
        self.io.initialize(digests)
        self.io.connect_queue(subnqn, queue_id=1, controller_id=self.controller_id, host_id=host_id,
                              entries=entries)

    def read(self, lba, blocks, block_size):
        self.io.send(read(7, lba, blocks, blocks * block_size, digests=self.io.digests))
        data = self.io.expect(C2H_DATA)
        if not data.flags & SUCCESS:
            assert self.io.expect(CAPSULE_RESP).status == 0
        return data.data

    def close(self):
        self.io.close()
        self.admin.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
