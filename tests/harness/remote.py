# SPDX-License-Identifier: Apache-2.0
"""An sma-target whose volumes are used by other targets, and sma-nvme as a host."""

import json
import subprocess
import uuid

from harness import wire
from harness.agent import free_port
from harness.target import Target

DISCOVERY_NQN = "nqn.2014-08.org.nvmexpress.discovery"


class ExportingTarget(Target):
    """A target that exports volumes over NVMe/TCP on 127.0.0.1. After a restart it exports the same ones."""

    def __init__(self, bin_dir, work_dir, arguments=(), name="remote", **transport):
        """`transport` has further parameters of nvmf_create_transport."""
        self._exports = []
        super().__init__(bin_dir, work_dir, arguments, name)
        self.export_call("nvmf_create_transport", trtype="tcp", **transport)

    def export_call(self, method, **params):
        """Makes a call that is repeated after a restart."""
        self._exports.append((method, params))
        return self.call(method, **params)

    def export_file(self, volume=None, size_mib=64):
        """Creates a volume whose contents survive the target; returns its UUID."""
        volume = self.make_file_volume(size_mib, volume=volume)
        self._exports.append(("bdev_aio_create", {"name": f"file-{volume.hex[:8]}", "block_size": 4096,
                                                  "filename": str(self.volume_file(volume)), "uuid": str(volume)}))
        return volume

    def make_subsystem(self, nqn, *bdevs, port=None):
        """Creates a subsystem with these bdevs as namespaces, open to every host; returns its port."""
        port = port or free_port()
        self.export_call("nvmf_create_subsystem", nqn=nqn, allow_any_host=True)
        for bdev in bdevs:
            self.export_call("nvmf_subsystem_add_ns", nqn=nqn, namespace={"bdev_name": str(bdev)})
        self.listen(nqn, port)
        return port

    def listen(self, nqn, port, host="127.0.0.1"):
        self.export_call("nvmf_subsystem_add_listener", nqn=nqn, listen_address=address(port, host))

    def restart(self):
        """After kill(): starts the target with the same exports."""
        self.start()
        for method, params in self._exports:
            self.call(method, **params)


def address(port, host="127.0.0.1"):
    return {"trtype": "tcp", "adrfam": "ipv6" if ":" in host else "ipv4", "traddr": host, "trsvcid": str(port)}


def attach_request(handle, volume):
    message = wire.sma.AttachVolumeRequest(device_handle=handle)
    message.volume.volume_id = volume.bytes
    return message


def discovery_request(handle, volume, *ports, trtype="TCP", host="127.0.0.1", hostnqn=None):
    """Returns a request like the spdk-csi node agent's: upper case, no subnqn, a host NQN for each volume."""
    message = attach_request(handle, volume)
    message.volume.nvmf.hostnqn = hostnqn or f"nqn.2014-08.org.nvmexpress:uuid:{volume}"
    for port in ports:
        message.volume.nvmf.discovery.discovery_endpoints.add(trtype=trtype, traddr=host, trsvcid=str(port))
    return message


def volume_states(agent):
    """Returns {UUID: state} as the agent lists its volumes: READY, DEGRADED ..."""
    admin = wire.admin_grpc.AdminStub(agent.client.channel)
    volumes = admin.ListVolumes(wire.admin.ListVolumesRequest(), timeout=10).volumes
    return {uuid.UUID(bytes=v.volume_id): wire.admin.State.Name(v.state).removeprefix("STATE_") for v in volumes}


def connections(target):
    """Returns the remote connections and all bdevs of a target."""
    return (target.call("bdev_nvme_get_discovery_info"), target.call("bdev_nvme_get_controllers"),
            target.call("bdev_get_bdevs"))


class NvmeTool:
    """The program sma-nvme."""

    def __init__(self, bin_dir):
        self._program = bin_dir / "sma-nvme"

    def start(self, command, port, nqn, *options):
        return subprocess.Popen([self._program, command, "-s", str(port), "-n", nqn, *options], text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def run(self, command, port, nqn, *options):
        """Returns the output. Raises AssertionError if the program fails."""
        return finish(self.start(command, port, nqn, *options))

    def start_load(self, port, nqn, seconds, *options):
        """Starts a load of half reads and half writes. finish_load() checks its result."""
        return self.start("perf", port, nqn, "--sleep", "--warm-up", "0.1", "--seconds", str(seconds),
                          "--read-percent", "50", "--json", *options)


def finish(process, timeout_s=120):
    try:
        output, errors = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == 0, output + errors
    return output


def finish_load(process):
    """Returns the number of I/Os."""
    return json.loads(finish(process))["ios"]
