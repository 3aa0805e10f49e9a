"""Storage nodes that share, hang or die, through the agent: which connections stay, who waits, what a detach does."""

import socket
import threading
import time
import uuid

import grpc
import pytest

from harness import wire
from harness.agent import free_port, start_sma
from harness.remote import ExportingTarget, NvmeTool, attach_request, connections, discovery_request
from harness.target import Target
from harness.wait import wait_until

HOST_NQN = "nqn.2016-06.io.spdk:host0"
NQN = "nqn.2016-06.io.spdk:remote"


@pytest.fixture
def remote(bin_dir, work_dir):
    with ExportingTarget(bin_dir, work_dir) as running:
        yield running


@pytest.fixture
def local(bin_dir, work_dir):
    with Target(bin_dir, work_dir, name="local") as running:
        yield running


@pytest.fixture
def agent(bin_dir, work_dir, local):
    with start_sma(bin_dir, work_dir, socket=str(local.socket), discovery_timeout=5.0) as running:
        yield running


class HangingNode:
    """Accepts connections on a port of 127.0.0.1 and never answers."""

    def __init__(self, port):
        self._listener = socket.create_server(("127.0.0.1", port))
        self._accepted = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                self._accepted.append(self._listener.accept()[0])
            except OSError:
                return

    def close(self):
        self._listener.close()
        for connection in self._accepted:
            connection.close()


def device_nqn(number):
    return f"nqn.2016-06.io.spdk:device{number}"


def handle(number):
    return f"nvmf-tcp:{device_nqn(number)}"


def direct_request(device, volume, nqn, *ports):
    message = attach_request(handle(device), volume)
    message.volume.nvmf.subnqn, message.volume.nvmf.hostnqn = nqn, HOST_NQN
    for port in ports:
        message.volume.nvmf.direct.addresses.add(trtype="tcp", traddr="127.0.0.1", trsvcid=str(port))
    return message


def attach(agent, message, timeout=30):
    agent.client.stub.AttachVolume(message, timeout=timeout)


def exported(local, number):
    return [n["uuid"] for n in local.subsystem(device_nqn(number))["namespaces"]]


@pytest.mark.parametrize("first_direct", [False, True])
@pytest.mark.parametrize("second_direct", [False, True])
@pytest.mark.parametrize("second_address", [0, 1])
def test_defect34_two_volumes_of_a_node_with_two_addresses(remote, local, agent, bin_dir, first_direct, second_direct,
                                                           second_address):
    """Both are in subsystems of their own, both addresses list both; each is detached while the other is used."""
    volumes = [remote.make_malloc_volume() for _ in range(2)]
    ports = [free_port(), free_port()]
    for number, volume in enumerate(volumes):
        remote.make_subsystem(f"{NQN}{number}", volume, port=ports[0])
        remote.listen(f"{NQN}{number}", ports[1])
    device_ports = [free_port(), free_port()]
    for number in range(2):
        agent.client.create_nvmf_tcp(device_nqn(number), device_ports[number], allow_any_host=True)

    def way(number, port, is_direct):
        if is_direct:
            return direct_request(number, volumes[number], f"{NQN}{number}", port)
        return discovery_request(handle(number), volumes[number], port, hostnqn=HOST_NQN)

    for first in range(2):
        second = 1 - first
        attach(agent, way(first, ports[0], first_direct))
        attach(agent, way(second, ports[second_address], second_direct))
        agent.client.detach_volume(handle(first), volumes[first])
        assert exported(local, second) == [str(volumes[second])]
        NvmeTool(bin_dir).run("verify", device_ports[second], device_nqn(second), "--size", "1M")
        agent.client.detach_volume(handle(second), volumes[second])
        assert connections(local) == ([], [], [])


def test_defect46_a_node_that_hangs_delays_nobody(remote, local, agent):
    """After a restart of the target, and of the agent: local volumes are back, and calls are served, at once."""
    count = 8
    far = [remote.export_file(size_mib=8) for _ in range(count)]
    port = free_port()
    for number, volume in enumerate(far):
        remote.make_subsystem(f"{NQN}{number}", volume, port=port)
    for number in range(2):
        agent.client.create_nvmf_tcp(device_nqn(number), free_port(), allow_any_host=True)
    for number, volume in enumerate(far):
        attach(agent, direct_request(number % 2, volume, f"{NQN}{number}", port))
    remote.kill()
    node = HangingNode(port)
    try:
        local.kill()
        start = time.monotonic()
        local.start()
        near = local.make_malloc_volume()
        wait_until(lambda: local.subsystem(device_nqn(0)) is not None, 10, "the device is back")

        def attached():
            try:
                agent.client.attach_volume(handle(0), near)
            except grpc.RpcError as error:
                assert error.code() == grpc.StatusCode.UNAVAILABLE
                return False
            return True
        wait_until(attached, 10, "calls are served")
        assert time.monotonic() - start < 5
        agent.kill()
        start = time.monotonic()
        agent.start()
        wait_until(attached, 10, "calls are served")
        assert time.monotonic() - start < 5
        start = time.monotonic()
        agent.client.detach_volume(handle(0), far[0])
        assert time.monotonic() - start < 5
        assert str(port) in error_of(agent, far[1])
    finally:
        node.close()
    remote.restart()
    wanted = sorted(str(volume) for volume in [near, *far[1:]])
    wait_until(lambda: sorted(exported(local, 0) + exported(local, 1)) == wanted, 60, "all are back")


def error_of(agent, volume):
    admin = wire.admin_grpc.AdminStub(agent.client.channel)
    request = wire.admin.GetVolumeRequest(volume_id=volume.bytes)
    return wait_until(lambda: admin.GetVolume(request, timeout=10).last_error.message, 20, "an error of the volume")


@pytest.mark.parametrize("by", ["discovery", "direct"])
@pytest.mark.parametrize("deletes", [False, True])
def test_defect53_detach_of_a_volume_whose_remote_died_under_io(remote, local, agent, bin_dir, by, deletes):
    volume = remote.export_file()
    port = remote.make_subsystem(NQN, volume)
    device_port = free_port()
    agent.client.create_nvmf_tcp(device_nqn(0), device_port, allow_any_host=True)
    attach(agent, direct_request(0, volume, NQN, port) if by == "direct" else
           discovery_request(handle(0), volume, port, hostnqn=HOST_NQN))
    load = NvmeTool(bin_dir).start_load(device_port, device_nqn(0), 30)
    wait_until(lambda: remote.call("bdev_get_iostat")["bdevs"][0]["num_write_ops"] > 50, 20, "I/O")
    remote.kill()
    start = time.monotonic()
    if deletes:
        agent.client.delete_device(handle(0))
    else:
        agent.client.detach_volume(handle(0), volume)
    assert time.monotonic() - start < 5
    # The host's I/O has failed: it does not wait for the remote.
    load.communicate(timeout=20)
    assert load.returncode != 0
    wait_until(lambda: connections(local) == ([], [], []), 10, "nothing left")


def test_defect53_others_of_the_same_controller_go_on(remote, local, agent):
    """The connection stays for the volume that still hangs on it, though it is down."""
    volumes = [remote.export_file(), remote.export_file()]
    port = remote.make_subsystem(NQN, *volumes)
    for number in range(2):
        agent.client.create_nvmf_tcp(device_nqn(number), free_port(), allow_any_host=True)
        attach(agent, direct_request(number, volumes[number], NQN, port))
    remote.kill()
    agent.client.detach_volume(handle(0), volumes[0])
    remote.restart()
    wait_until(lambda: local.call("bdev_nvme_get_controllers")[0]["ctrlrs"][0]["state"] == "enabled", 20, "connected")
    assert exported(local, 1) == [str(volumes[1])]
    assert exported(local, 0) == []


def test_defect67_the_answer_says_why(remote, local, agent):
    volume, missing, port = remote.make_malloc_volume(), uuid.uuid4(), free_port()
    remote.make_subsystem(NQN, volume, port=port)
    agent.client.create_nvmf_tcp(device_nqn(0), free_port(), allow_any_host=True)

    def why(message):
        with pytest.raises(grpc.RpcError) as error:
            attach(agent, message)
        return error.value.details()
    dead = free_port()
    assert f"port {dead}: the connection was refused" in why(discovery_request(handle(0), volume, dead))
    assert f"port {dead}: the connection was refused" in why(direct_request(0, volume, NQN, dead))
    assert f"no namespace with this UUID in the 1 subsystems that are connected: {NQN}" in why(
        discovery_request(handle(0), missing, port))
    assert f"not to subsystem {NQN}x" in why(direct_request(0, volume, NQN + "x", port))
    assert connections(local) == ([], [], [])
