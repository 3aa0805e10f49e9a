"""Just enough of HTTP/2 (RFC 9113) to behave towards a gRPC server as a client library's transport does."""

import socket
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, PING, GOAWAY = 4, 6, 7
ACK = 1


class Http2Connection:
    """A connection without streams. A context manager: closed at the end."""

    def __init__(self, address, timeout_s=10.0):
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout_s)
        self._stream = self._socket.makefile("rb")
        self._socket.sendall(PREFACE)
        self._send(SETTINGS, 0, b"")

    def _send(self, kind, flags, payload):
        self._socket.sendall(struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + bytes(4) + payload)

    def receive(self):
        """(type, flags, payload) of the next frame; ConnectionError at the end of the connection."""
        header = self._stream.read(9)
        if len(header) < 9:
            raise ConnectionError("the server closed the connection")
        length = int.from_bytes(header[:3], "big")
        return header[3], header[4], self._stream.read(length)

    def ping(self, data):
        """Sends a ping and waits for its answer; ConnectionError when the server ends the connection instead."""
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
