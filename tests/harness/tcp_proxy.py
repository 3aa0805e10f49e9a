"""A TCP proxy whose connections can be made to lead nowhere."""

import contextlib
import socket
import threading


class TcpProxy:
    """Forwards connections to 127.0.0.1:PORT. A context manager."""

    def __init__(self, port):
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._frozen = set()  # numbers of connections, the first is 0
        self._lock = threading.Lock()
        self._pairs = []
        threading.Thread(target=self._accept, daemon=True).start()

    def freeze(self, *numbers):
        """From now on what these connections carry is taken and thrown away, in both directions."""
        with self._lock:
            self._frozen.update(numbers)

    def count(self):
        """Connections taken so far."""
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
            far = socket.create_connection(self._target)
            with self._lock:
                number = len(self._pairs)
                self._pairs.append((near, far))
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._forward, args=(number, source, sink), daemon=True).start()

    def _forward(self, number, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not self._is_frozen(number):
                    sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.close()
        for pair in self._pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.close()
