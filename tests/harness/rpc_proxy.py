# SPDX-License-Identifier: Apache-2.0
"""A proxy between an agent and the target's JSON-RPC socket: counts and delays calls."""

import collections
import json
import pathlib
import socket
import threading


class RpcProxy:
    """Forwards everything. Counts calls and dependent round trips: requests that were sent only after the answer to an
    earlier one had arrived. A context manager."""

    def __init__(self, target_socket, path):
        self.path = pathlib.Path(path)
        self._target_socket = str(target_socket)
        self._changed = threading.Condition()
        self._answered = True
        self._hold_method = None
        self._hold_answers = False
        self._held = 0
        self.calls = 0
        self.round_trips = 0
        self.calls_of = collections.Counter()  # by method, never reset
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def reset(self):
        """Resets the counters."""
        with self._changed:
            self.calls = 0
            self.round_trips = 0
            self._answered = True

    def hold(self, method, answers=False):
        """From now on holds calls of this method or, with `answers`, their answers. Forwards everything else."""
        with self._changed:
            self._hold_method = method
            self._hold_answers = answers

    def wait_held(self, timeout_s=10.0):
        """Waits until a call or an answer is held."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._held > 0, timeout_s):
                raise TimeoutError(f"no call of {self._hold_method} in {timeout_s} s")

    def release(self):
        """Forwards everything that is held, and holds nothing more."""
        with self._changed:
            self._hold_method = None
            self._changed.notify_all()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            target = socket.socket(socket.AF_UNIX)
            try:
                target.connect(self._target_socket)
            except OSError:
                client.close()
                continue
            methods = {}  # the outstanding calls of this connection, by id
            for source, sink, each in ((client, target, self._on_request), (target, client, self._on_answer)):
                threading.Thread(target=self._pass_on, args=(source, sink, each, methods), daemon=True).start()

    def _pass_on(self, source, sink, each, methods):
        decoder, text, lock = json.JSONDecoder(), "", threading.Lock()
        try:
            while chunk := source.recv(1 << 16):
                text += chunk.decode()
                while text := text.lstrip():
                    try:
                        value, end = decoder.raw_decode(text)
                    except json.JSONDecodeError:
                        break
                    data, text = text[:end].encode() + b"\n", text[end:]
                    if each(value if isinstance(value, list) else [value], methods):
                        threading.Thread(target=self._send_later, args=(sink, lock, data), daemon=True).start()
                    else:
                        with lock:
                            sink.sendall(data)
        except OSError:
            pass
        finally:
            for end in (source, sink):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def _send_later(self, sink, lock, data):
        with self._changed:
            self._held += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._hold_method is None)
            self._held -= 1
        try:
            with lock:
                sink.sendall(data)
        except OSError:
            pass  # the connection was closed

    def _on_request(self, calls, methods):
        """Returns true if the call must be held."""
        with self._changed:
            self.calls += len(calls)
            if self._answered:
                self.round_trips += 1
                self._answered = False
            methods.update((call["id"], call["method"]) for call in calls)
            self.calls_of.update(call["method"] for call in calls)
            return not self._hold_answers and self._hold_method in [call["method"] for call in calls]

    def _on_answer(self, answers, methods):
        """Returns true if the answer must be held."""
        with self._changed:
            self._answered = True
            answered = [methods.pop(answer["id"], None) for answer in answers]
            return self._hold_answers and self._hold_method in answered

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.release()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
