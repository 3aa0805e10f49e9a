# SPDX-License-Identifier: Apache-2.0
"""Both agents: sma and the reference agent from the package `spdk`. One client class drives both."""

import pathlib
import socket
import sys

import grpc
import yaml

from harness import wire
from harness.process import Process

HARNESS = pathlib.Path(__file__).resolve().parent
CALL_TIMEOUT_S = 30.0


def free_port():
    """Returns a free TCP port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class AgentClient:
    """Calls of the service. Errors are raised as grpc.RpcError. Thread-safe."""

    def __init__(self, address):
        # Uses its own connection: one shared with another channel might be in back-off after a refused attempt.
        self.channel = grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        self.stub = wire.sma_grpc.StorageManagementAgentStub(self.channel)

    def create_nvmf_tcp(self, nqn, port, traddr="127.0.0.1", adrfam="ipv4", volume=None, hosts=(),
                        allow_any_host=False, timeout=CALL_TIMEOUT_S):
        """Returns the handle."""
        request = wire.sma.CreateDeviceRequest()
        request.nvmf_tcp.subnqn = nqn
        request.nvmf_tcp.adrfam = adrfam
        request.nvmf_tcp.traddr = traddr
        request.nvmf_tcp.trsvcid = str(port)
        request.nvmf_tcp.hosts.extend(hosts)
        request.nvmf_tcp.allow_any_host = allow_any_host
        if volume is not None:
            request.volume.volume_id = volume.bytes
        return self.stub.CreateDevice(request, timeout=timeout).handle

    def delete_device(self, handle, timeout=CALL_TIMEOUT_S):
        self.stub.DeleteDevice(wire.sma.DeleteDeviceRequest(handle=handle), timeout=timeout)

    def attach_volume(self, handle, volume, timeout=CALL_TIMEOUT_S, crypto=None):
        """`crypto`: a VolumeCryptoParameters."""
        request = wire.sma.AttachVolumeRequest(device_handle=handle)
        request.volume.volume_id = volume.bytes
        if crypto is not None:
            request.volume.crypto.CopyFrom(crypto)
        self.stub.AttachVolume(request, timeout=timeout)

    def detach_volume(self, handle, volume, timeout=CALL_TIMEOUT_S):
        request = wire.sma.DetachVolumeRequest(device_handle=handle, volume_id=volume.bytes)
        self.stub.DetachVolume(request, timeout=timeout)

    def close(self):
        self.channel.close()


class Agent:
    """A running agent with a client. A context manager that stops it at the end."""

    def __init__(self, name, command, work_dir, config, env=None):
        """`config` is the agent's configuration, into which address and port are filled. `-c FILE` is added to
        `command`."""
        self.address = f"127.0.0.1:{free_port()}"
        self.config = {"address": "127.0.0.1", "port": int(self.address.rpartition(":")[2]),
                       "devices": [{"name": "nvmf_tcp"}], **config}
        config_path = pathlib.Path(work_dir) / f"{name}.yaml"
        config_path.write_text(yaml.safe_dump(self.config))
        self._start = lambda: Process(name, [*command, "-c", config_path], work_dir, env)
        self.process = None
        self.client = None
        self.start()

    def start(self):
        self.start_process()
        grpc.channel_ready_future(self.client.channel).result(timeout=30)

    def start_process(self):
        """Starts the agent and waits until it listens. Raises ChildProcessError if it ends before."""
        self.process = self._start()
        # This is done before the channel is created, since a channel would wait a second after a refused attempt.
        self.process.wait_until(self._listens, 30, "listens")
        self.client = AgentClient(self.address)

    def _listens(self):
        host, _, port = self.address.rpartition(":")
        with socket.create_connection((host, int(port)), 1):
            return True

    def stop(self):
        self.client.close()
        self.process.stop()

    def kill(self):
        self.client.close()
        self.process.kill()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def start_sma(bin_dir, work_dir, name="sma", arguments=(), env=None, **config):
    """Returns sma with its own state folder."""
    config.setdefault("state_dir", str(pathlib.Path(work_dir) / f"{name}.state"))
    return Agent(name, [pathlib.Path(bin_dir) / "sma", *arguments], work_dir, config, env)


def start_reference(work_dir, name="spdk-sma", env=None, **config):
    """Returns the reference agent with the same protocol."""
    return Agent(name, [sys.executable, HARNESS / "reference_agent.py", wire.FOLDER], work_dir, config, env)
