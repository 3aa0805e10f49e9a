"""Both agents: ours, and the reference's, which the package `spdk` brings. One client class drives both."""

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
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class AgentClient:
    """Calls of the service. Errors come as grpc.RpcError. Usable from several threads."""

    def __init__(self, address):
        # Its own connection: one that another channel shares may be waiting after a refused attempt.
        self.channel = grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        self.stub = wire.sma_grpc.StorageManagementAgentStub(self.channel)

    def create_nvmf_tcp(self, nqn, port, traddr="127.0.0.1", adrfam="ipv4", volume=None, hosts=(),
                        allow_any_host=False, timeout=CALL_TIMEOUT_S):
        """The handle."""
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
    """A running agent with a client. A context manager: stopped at the end."""

    def __init__(self, name, command, work_dir, config, env=None):
        """`config`: the agent's configuration; address and port are filled in. `command` gets `-c FILE` added."""
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
        """Starts it and waits until it listens. ChildProcessError: it ended before."""
        self.process = self._start()
        # Before the channel, which would wait a second after an attempt that was refused.
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
    """Our agent, with a state folder of its own."""
    config.setdefault("state_dir", str(pathlib.Path(work_dir) / f"{name}.state"))
    return Agent(name, [pathlib.Path(bin_dir) / "sma", *arguments], work_dir, config, env)


def start_reference(work_dir, name="spdk-sma", env=None, **config):
    """The reference agent, on the same wire."""
    return Agent(name, [sys.executable, HARNESS / "reference_agent.py", wire.FOLDER], work_dir, config, env)
