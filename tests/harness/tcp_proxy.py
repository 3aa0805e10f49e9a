# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy that can silently discard the data of connections, or hold them."""

import contextlib
import socket
import threading


class TcpProxy:
    """Forwards connections to 127.0.0.1:PORT. A context manager."""

    def __init__(self, port):
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._frozen = set()  # connection numbers, starting with 0
        self._holding = set()
        self._flows = threading.Event()
        self._flows.set()
        self._lock = threading.Lock()
        self._pairs = []
        threading.Thread(target=self._accept, daemon=True).start()

    def freeze(self, *numbers):
        """From now on discards the data of these connections in both directions, without closing them."""
        with self._lock:
            self._frozen.update(numbers)

    def hold(self):
        """From now on holds all data and new connections, until release()."""
        self._flows.clear()

    def holding(self):
        """Returns the numbers of the connections whose data have been held."""
        with self._lock:
            return set(self._holding)

    def release(self):
        self._flows.set()

    def count(self):
        """Returns the number of connections accepted so far."""
        with self._lock:
            return len(self._pairs)

    def _is_frozen(self, number):
        with self._lock:
            return number in self._frozen

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self._flows.wait()
            far = socket.create_connection(self._target)
            with self._lock:
                number = len(self._pairs)
                self._pairs.append((near, far))
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._forward, args=(number, source, sink), daemon=True).start()

    def _forward(self, number, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not self._flows.is_set():
                    with self._lock:
                        self._holding.add(number)
                    self._flows.wait()
                if not self._is_frozen(number):
                    sink.sendall(data)
        self._flows.wait()
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._flows.set()
        self._listener.close()
        for pair in self._pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.close()
