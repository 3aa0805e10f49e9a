# SPDX-License-Identifier: Apache-2.0
"""A JSON-RPC client with its own connection, for scripts and for testing a plugin without an agent. In the agent a
plugin's constructor receives another client, which uses the agent's connection and raises the same exception."""

import json
import logging
import os
import socket
import time

_CONNECT_PAUSE_S = 0.2


class JSONRPCException(Exception):
    """Raised when a call has failed. `message` says why; for an error from the target it contains the request and the
    response."""

    def __init__(self, message):
        super().__init__(message)
        self.message = message


# Parameters whose values must not appear in a message, because messages are logged.
_SECRETS = frozenset(["key", "key2", "psk", "secret", "password", "dhchap_key", "dhchap_ctrlr_key", "url"])


def _without_secrets(value):
    if isinstance(value, dict):
        return {k: "..." if k in _SECRETS and isinstance(v, str) else _without_secrets(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_secrets(element) for element in value]
    return value


def error_text(method, params, request_id, error):
    """Returns the message of a JSONRPCException for the target's error response `error`: the reason in one line, then
    the request, without secrets, and the response."""
    reason = f"{method}: {error}"
    if isinstance(error, dict):
        reason = f"{method}: {error.get('message')} ({error.get('code')})"
    request = json.dumps({**_without_secrets(params or {}), "method": method, "req_id": request_id}, indent=2)
    return "\n".join([reason, "request:", request, "Got JSON-RPC error response", "response:",
                      json.dumps(error, indent=2)])


class JSONRPCClient:
    """Not thread-safe. A context manager that closes the connection at the end."""

    def __init__(self, addr, port=None, timeout=60.0, conn_retries=0, log_level=logging.ERROR, **_):
        """`addr` is the path of a Unix socket, or an IP address together with `port`. `timeout` is in seconds."""
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
        """Returns the result. Raises JSONRPCException if the target returns an error, or does not answer in time."""
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
