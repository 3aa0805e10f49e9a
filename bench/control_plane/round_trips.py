"""Counts what goes over the target's JSON-RPC socket."""

import json
import pathlib
import socket
import threading


class CountingProxy:
    """Passes everything on between an agent and the target, and counts calls and dependent round trips: how often
    something was asked only after an answer to what was asked before had come. A context manager."""

    def __init__(self, target_socket, path):
        self.path = pathlib.Path(path)
        self._target_socket = str(target_socket)
        self._lock = threading.Lock()
        self._answered = True
        self.calls = 0
        self.round_trips = 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def reset(self):
        with self._lock:
            self.calls = 0
            self.round_trips = 0
            self._answered = True

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            target = socket.socket(socket.AF_UNIX)
            target.connect(self._target_socket)
            for source, sink, count in ((client, target, self._count_requests), (target, client, self._count_answers)):
                threading.Thread(target=self._pass_on, args=(source, sink, count), daemon=True).start()

    def _pass_on(self, source, sink, count):
        decoder, text = json.JSONDecoder(), ""
        try:
            while chunk := source.recv(1 << 16):
                text += chunk.decode()
                objects = 0
                while text := text.lstrip():
                    try:
                        value, end = decoder.raw_decode(text)
                    except json.JSONDecodeError:
                        break
                    objects += len(value) if isinstance(value, list) else 1
                    text = text[end:]
                # Before it is passed on: what answers it is counted after it.
                count(objects)
                sink.sendall(chunk)
        except OSError:
            pass
        finally:
            for end in (source, sink):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def _count_requests(self, objects):
        with self._lock:
            self.calls += objects
            if objects and self._answered:
                self.round_trips += 1
                self._answered = False

    def _count_answers(self, objects):
        with self._lock:
            if objects:
                self._answered = True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
