# SPDX-License-Identifier: Apache-2.0
"""A JSON-RPC client for the target's Unix socket: one connection, calls one at a time or pipelined."""

import json
import socket


class RpcError(Exception):
    """An error returned by the target."""

    def __init__(self, method, error):
        super().__init__(f"{method}: {error.get('message')} ({error.get('code')})")
        self.code = error.get("code")
        self.message = error.get("message")


class JsonRpcClient:
    """Not thread-safe. A context manager that closes the connection at the end."""

    def __init__(self, path, timeout_s=30.0):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout_s)
        self._socket.connect(str(path))
        self._buffer = ""
        self._decoder = json.JSONDecoder()
        self._next_id = 1

    def send_raw(self, data):
        self._socket.sendall(data)

    def receive(self):
        """Returns the next JSON value from the target. Raises ConnectionError if it closes the connection instead."""
        while True:
            text = self._buffer.lstrip()
            try:
                value, end = self._decoder.raw_decode(text)
            except json.JSONDecodeError:
                chunk = self._socket.recv(1 << 16)
                if not chunk:
                    raise ConnectionError("the target closed the connection") from None
                self._buffer += chunk.decode()
                continue
            self._buffer = text[end:]
            return value

    def send(self, method, params=None):
        """Sends a call without waiting; returns its id."""
        request = {"jsonrpc": "2.0", "id": self._next_id, "method": method}
        if params is not None:
            request["params"] = params
        self._next_id += 1
        self.send_raw(json.dumps(request).encode())
        return request["id"]

    def call(self, method, **params):
        """Returns the result. Raises RpcError if the target answers with an error."""
        sent = self.send(method, params or None)
        answer = self.receive()
        if answer.get("id") != sent:
            raise AssertionError(f"{method}: answer to another call: {answer}")
        if "error" in answer:
            raise RpcError(method, answer["error"])
        return answer["result"]

    def close(self):
        self._socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
