# SPDX-License-Identifier: Apache-2.0
"""Bad neighbours of an agent: storage nodes, a QEMU, a plugin. Each receives calls that it answers late or never."""

import contextlib
import json
import pathlib
import socket
import threading
import uuid

from harness import wire
from harness.plugins import ENVIRONMENT, device_request
from harness.wait import wait_until

HOST_NQN = "nqn.2016-06.io.spdk:host0"
NODE_NQN = "nqn.2016-06.io.spdk:neighbour"
# ICResp (NVMe/TCP Transport Specification 1.0 §3.6.2.3): type 1, a header of 128 bytes, no digests.
ICRESP = bytes([1, 0, 128, 0]) + (128).to_bytes(4, "little") + bytes(8) + (1 << 17).to_bytes(4, "little") + bytes(108)


class _Listener:
    """Accepts connections and keeps them open."""

    def __init__(self, listener):
        self._listener = listener
        self._lock = threading.Lock()
        self._taken = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._taken.append(connection)
            self.on_connection(connection)

    def on_connection(self, connection):
        pass

    def was_called(self):
        with self._lock:
            return bool(self._taken)

    def close(self):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._taken:
                connection.close()


class SilentNode(_Listener):
    """A storage node that accepts connections on a port of 127.0.0.1 and never answers."""

    title = "node that never answers"
    config = {}
    env = {}

    def __init__(self, work_dir=None, port=0):
        super().__init__(socket.create_server(("127.0.0.1", port)))
        self.port = self._listener.getsockname()[1]

    def call(self, agent, number, handle, timeout):
        """Returns a future of a call for the device `handle` that the neighbour does not answer."""
        request = wire.sma.AttachVolumeRequest(device_handle=handle)
        request.volume.volume_id = uuid.UUID(int=(0xbad << 96) + number).bytes
        request.volume.nvmf.subnqn, request.volume.nvmf.hostnqn = NODE_NQN, HOST_NQN
        request.volume.nvmf.direct.addresses.add(trtype="tcp", traddr="127.0.0.1", trsvcid=str(self.port))
        return agent.client.stub.AttachVolume.future(request, timeout=timeout)


class SlowNode(SilentNode):
    """A storage node that answers the first PDU after 30 s."""

    title = "node that answers after 30 s"
    ANSWER_TIME_S = 30

    def __init__(self, work_dir=None, port=0):
        self._closed = threading.Event()
        super().__init__(work_dir, port)

    def on_connection(self, connection):
        def answer():
            if not self._closed.wait(self.ANSWER_TIME_S):
                with contextlib.suppress(OSError):
                    connection.sendall(ICRESP)
        threading.Thread(target=answer, daemon=True).start()

    def close(self):
        self._closed.set()
        super().close()


class MuteQemu(_Listener):
    """A QEMU that sends its greeting and nothing else."""

    title = "QEMU that is mute after its greeting"
    env = {}
    GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}, "capabilities": []}}

    def __init__(self, work_dir):
        path = pathlib.Path(work_dir) / "mute.qmp"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen(64)
        super().__init__(listener)
        params = {"sock_path": str(work_dir), "qmp_addr": f"unix:{path}", "buses": [{"name": "bus0"}]}
        self.config = {"devices": [{"name": "nvmf_tcp"}, {"name": "vfiouser", "params": params}]}

    def on_connection(self, connection):
        with contextlib.suppress(OSError):
            connection.sendall(json.dumps(self.GREETING).encode() + b"\r\n")

    def call(self, agent, number, handle, timeout):
        return agent.client.stub.CreateDevice.future(device_request("nvme", number), timeout=timeout)


class HangingPlugin:
    """A device type in Python that hangs when a device is created."""

    title = "plugin that hangs"
    config = {"plugins": ["unruly"], "devices": [{"name": "nvmf_tcp"}, {"name": "unruly"}]}
    env = ENVIRONMENT
    HANGS = 2  # the plugin hangs for a device whose physical id ends with this digit

    def __init__(self, work_dir=None):
        self._called = False

    def call(self, agent, number, handle, timeout):
        self._called = True
        return agent.client.stub.CreateDevice.future(device_request("nvme", self.HANGS + 100 * number), timeout=timeout)

    def was_called(self):
        return self._called

    def close(self):
        pass


class RefusedType:
    """A device type that the target refuses: the folder of its sockets cannot be created."""

    title = "device type that is refused"
    env = {}

    def __init__(self, work_dir):
        blocked = pathlib.Path(work_dir) / "blocked"
        blocked.write_text("a file, no folder")
        params = {"sock_path": str(blocked / "sockets")}
        self.config = {"devices": [{"name": "nvmf_tcp"}, {"name": "vfiouser", "params": params}]}
        self._called = False

    def call(self, agent, number, handle, timeout):
        self._called = True
        return agent.client.stub.CreateDevice.future(device_request("nvme", number), timeout=timeout)

    def was_called(self):
        return self._called

    def close(self):
        pass


class BadCalls:
    """Keeps calls to the neighbour outstanding. A context manager."""

    COUNT = 8
    TIMEOUT_S = 60

    def __init__(self, neighbour, agent, handle):
        """`handle`: the device, for neighbours that need one."""
        self._stop = threading.Event()
        self._neighbour, self._agent, self._handle = neighbour, agent, handle
        self.answered_ok = 0
        self._threads = [threading.Thread(target=self._run, args=(i,)) for i in range(self.COUNT)]
        for thread in self._threads:
            thread.start()

    def _run(self, first):
        number = first
        while not self._stop.is_set():
            try:
                call = self._neighbour.call(self._agent, number, self._handle, timeout=self.TIMEOUT_S)
            except ValueError:
                self._stop.wait(0.02)  # the agent is being restarted, and this client is closed
                continue
            while not self._stop.wait(0.05) and not call.done():
                pass
            if call.done() and call.code().name == "OK":
                self.answered_ok += 1
            call.cancel()
            number += self.COUNT

    def __enter__(self):
        wait_until(self._neighbour.was_called, self.TIMEOUT_S, "the neighbour was called")
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()


KINDS = {"silent_node": SilentNode, "slow_node": SlowNode, "mute_qemu": MuteQemu, "refused_type": RefusedType,
         "hanging_plugin": HangingPlugin}
