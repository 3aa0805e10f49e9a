# SPDX-License-Identifier: Apache-2.0
"""The part of HTTP/2 (RFC 9113) that is needed to behave like the transport of a gRPC client library."""

import socket
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 1, 3, 4, 6, 7
ACK = 1
END_HEADERS = 4
CANCEL = 8


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def call_headers(path):
    """Returns the header block that starts a call (RFC 7541 section 6.2.2: literals without indexing)."""
    fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "test",
              "content-type": "application/grpc", "te": "trailers"}
    return b"".join(b"\0" + b"".join(bytes([len(text)]) + text.encode() for text in field) for field in fields.items())


class Http2Connection:
    """A connection without streams. A context manager that closes it at the end."""

    def __init__(self, address, timeout_s=10.0):
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout_s)
        self._stream = self._socket.makefile("rb")
        self._socket.sendall(PREFACE)
        self._send(SETTINGS, 0, b"")

    def _send(self, kind, flags, payload):
        self._socket.sendall(struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + bytes(4) + payload)

    def receive(self):
        """Returns (type, flags, payload) of the next frame. Raises ConnectionError at the end of the connection."""
        header = self._stream.read(9)
        if len(header) < 9:
            raise ConnectionError("the server closed the connection")
        length = int.from_bytes(header[:3], "big")
        return header[3], header[4], self._stream.read(length)

    def open_and_reset(self, path, count):
        """Starts `count` calls and resets each of them immediately. Does not read what the server sends."""
        headers, batch = call_headers(path), 100
        for first in range(0, count, batch):
            self._socket.sendall(b"".join(
                frame(HEADERS, END_HEADERS, stream, headers) + frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL))
                for stream in range(2 * first + 1, 2 * (first + batch), 2)))

    def ping(self, data):
        """Sends a ping and waits for its answer. Raises ConnectionError if the server closes the connection instead."""
        self._send(PING, 0, data)
        while True:
            kind, flags, payload = self.receive()
            if kind == GOAWAY:
                raise ConnectionError(f"the server said GOAWAY: {payload[8:].decode(errors='replace')}")
            if kind == PING and flags & ACK and payload == data:
                return

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stream.close()
        self._socket.close()
