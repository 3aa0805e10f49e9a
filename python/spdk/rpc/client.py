"""A JSON-RPC client with a connection of its own. In the agent a plugin gets its client from the constructor, which
uses the agent's connection and raises the same exception; this one is for scripts, and for trying a plugin without an
agent."""

import json
import logging
import os
import socket
import time

_CONNECT_PAUSE_S = 0.2


class JSONRPCException(Exception):
    """A call failed. `message` says how; for an error that the target answered it holds the request and that answer."""

    def __init__(self, message):
        super().__init__(message)
        self.message = message


def error_text(method, params, request_id, error):
    """The message of a JSONRPCException about the target's answer `error`."""
    request = json.dumps({**(params or {}), "method": method, "req_id": request_id}, indent=2)
    return "\n".join(["request:", request, "Got JSON-RPC error response", "response:", json.dumps(error, indent=2)])


class JSONRPCClient:
    """Not for several threads at once. A context manager: closed at the end."""

    def __init__(self, addr, port=None, timeout=60.0, conn_retries=0, log_level=logging.ERROR, **_):
        """`addr`: the path of a Unix socket, or an IP address, then with `port`. `timeout` in seconds."""
        self.sock = None
        self.timeout = timeout
        self._logger = logging.getLogger(f"JSONRPCClient({addr})")
        self._logger.setLevel(log_level)
        self._decoder = json.JSONDecoder()
        self._received = ""
        self._request_id = 0
        for attempt in range(conn_retries + 1):
            try:
                self._connect(addr, port)
                return
            except OSError as error:
                if attempt == conn_retries:
                    raise JSONRPCException(f"Error while connecting to {addr}: {error}") from error
                time.sleep(_CONNECT_PAUSE_S)

    def _connect(self, addr, port):
        if port is None or os.path.exists(addr):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(self.timeout)
            self.sock.connect(addr)
        else:
            self.sock = socket.create_connection((addr, port), self.timeout)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda **params: self.call(name, {k: v for k, v in params.items() if v is not None})

    def get_logger(self):
        return self._logger

    def set_log_level(self, level):
        self._logger.setLevel(level)

    def close(self):
        if self.sock is not None:
            self.sock.close()
            self.sock = None

    def call(self, method, params=None):
        """The result. JSONRPCException: the target answered with an error, not in time, or not at all."""
        self._request_id += 1
        request = {"jsonrpc": "2.0", "method": method, "id": self._request_id}
        if params:
            request["params"] = params
        self._logger.debug("calling %s", method)
        try:
            self.sock.sendall(json.dumps(request).encode())
            answer = self._receive(time.monotonic() + self.timeout)
        except OSError as error:
            raise JSONRPCException(f"{method}: {error or 'no answer in time'}") from error
        if "error" in answer:
            raise JSONRPCException(error_text(method, params, self._request_id, answer["error"]))
        return answer["result"]

    def _receive(self, deadline):
        while True:
            text = self._received.lstrip()
            try:
                answer, end = self._decoder.raw_decode(text)
            except ValueError:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError("no answer in time") from None
                self.sock.settimeout(left)
                data = self.sock.recv(1 << 16)
                if not data:
                    raise ConnectionError("the target closed the connection") from None
                self._received += data.decode()
                continue
            self._received = text[end:]
            return answer
