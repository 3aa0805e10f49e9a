# SPDX-License-Identifier: Apache-2.0
"""Tests, with the agent, storage nodes that are shared, hang or die: which connections are kept, which calls wait, and
what a detach does."""

import threading
import time
import uuid

import grpc
import pytest

from harness import wire
from harness.agent import free_port, start_sma
from harness.neighbours import SilentNode
from harness.remote import ExportingTarget, NvmeTool, attach_request, connections, discovery_request
from harness.wait import wait_until

HOST_NQN = "nqn.2016-06.io.spdk:host0"
NQN = "nqn.2016-06.io.spdk:remote"


@pytest.fixture
def agent(bin_dir, work_dir, local):
    with start_sma(bin_dir, work_dir, socket=str(local.socket), discovery_timeout=5.0) as running:
        yield running


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
    """The volumes are in separate subsystems, and both addresses list both; each volume is detached while the other is
    used."""
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
    """After a restart of the target, and of the agent, local volumes are available and calls are served without
    delay."""
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
    node = SilentNode(port=port)
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
def test_defect53_detach_of_a_volume_whose_remote_died_during_io(remote, local, agent, bin_dir, by, deletes):
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
    # The host's I/O has failed instead of waiting for the remote.
    load.communicate(timeout=20)
    assert load.returncode != 0
    wait_until(lambda: connections(local) == ([], [], []), 10, "no object is left")


def test_defect53_other_volumes_of_the_controller_continue(remote, local, agent):
    """The connection is kept, although it is down, for the volume that still uses it."""
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
    # The second call may be refused immediately, because the first one has found the node down.
    dead = free_port()
    for request in (discovery_request(handle(0), volume, dead), direct_request(0, volume, NQN, dead)):
        reason = why(request)
        assert f"port {dead}" in reason and "the connection was refused" in reason
    assert f"no namespace with this UUID in the 1 subsystems that are connected: {NQN}" in why(
        discovery_request(handle(0), missing, port))
    assert f"it has no subsystem {NQN}x" in why(direct_request(0, volume, NQN + "x", port))
    assert connections(local) == ([], [], [])


@pytest.mark.parametrize("by", ["discovery", "direct"])
@pytest.mark.parametrize("in_turn", [False, True])
def test_defect53_volumes_that_are_all_detached_do_not_wait_for_each_other(remote, local, agent, bin_dir, by, in_turn):
    volumes = [remote.export_file(), remote.export_file()]
    port = remote.make_subsystem(NQN, *volumes)
    device_port = free_port()
    agent.client.create_nvmf_tcp(device_nqn(0), device_port, allow_any_host=True)
    for volume in volumes:
        attach(agent, direct_request(0, volume, NQN, port) if by == "direct" else
               discovery_request(handle(0), volume, port, hostnqn=HOST_NQN))
    loads = [NvmeTool(bin_dir).start_load(device_port, device_nqn(0), 60, "--namespace", str(nsid)) for nsid in (1, 2)]
    try:
        wait_until(lambda: all(b["num_write_ops"] > 50 for b in remote.call("bdev_get_iostat")["bdevs"]), 20, "I/O")
        remote.kill()
        calls = [threading.Thread(target=agent.client.detach_volume, args=(handle(0), volume)) for volume in volumes]
        for call in calls:
            call.start()
            if in_turn:
                call.join()
        for call in calls:
            call.join()
        wait_until(lambda: connections(local) == ([], [], []), 10, "no object is left")
    finally:
        for load in loads:
            load.kill()
            load.communicate()


def test_defect53_a_detach_is_answered_in_time_although_the_connection_is_kept(remote, local, agent, bin_dir):
    """Another device's volume is in the same subsystem."""
    volumes = [remote.export_file(), remote.export_file()]
    port = remote.make_subsystem(NQN, *volumes)
    device_port = free_port()
    agent.client.create_nvmf_tcp(device_nqn(0), device_port, allow_any_host=True)
    agent.client.create_nvmf_tcp(device_nqn(1), free_port(), allow_any_host=True)
    for number, volume in enumerate(volumes):
        attach(agent, direct_request(number, volume, NQN, port))
    load = NvmeTool(bin_dir).start_load(device_port, device_nqn(0), 60)
    try:
        wait_until(lambda: any(b["num_write_ops"] > 50 for b in remote.call("bdev_get_iostat")["bdevs"]), 20, "I/O")
        remote.kill()
        start = time.monotonic()
        agent.client.detach_volume(handle(0), volumes[0])
        assert time.monotonic() - start < 5
    finally:
        load.kill()
        load.communicate()


def iscsi_request(device, volume, port):
    message = attach_request(handle(device), volume)
    message.volume.iscsi.portal, message.volume.iscsi.lun = f"127.0.0.1:{port}", 1
    message.volume.iscsi.target_iqn = "iqn.2016-06.io.spdk:disks"
    message.volume.iscsi.initiator_iqn = "iqn.2016-06.io.spdk:agent"
    return message


@pytest.mark.parametrize("by", ["direct", "iscsi"])
def test_a_node_that_never_answers_is_unavailable(local, agent, by):
    """The target ends the attempt itself, with an error that does not say so. Further calls are refused at once."""
    node = SilentNode()
    agent.client.create_nvmf_tcp(device_nqn(0), free_port(), allow_any_host=True)
    try:
        for limit in (10, 1):
            request = (direct_request(0, uuid.uuid4(), NQN, node.port) if by == "direct" else
                       iscsi_request(0, uuid.uuid4(), node.port))
            start = time.monotonic()
            with pytest.raises(grpc.RpcError) as error:
                attach(agent, request)
            assert error.value.code() == grpc.StatusCode.UNAVAILABLE, error.value.details()
            assert "answer" in error.value.details()
            assert time.monotonic() - start < limit
    finally:
        node.close()
    assert connections(local) == ([], [], [])


def test_cloned_nodes_with_one_nqn(bin_dir, work_dir, local, agent):
    """Each volume is connected to its own node; a call that fails leaves no path."""
    with ExportingTarget(bin_dir, work_dir, name="n1") as first, \
            ExportingTarget(bin_dir, work_dir, name="n2") as second:
        volumes = [first.export_file(size_mib=8), second.export_file(size_mib=8)]
        ports = [first.make_subsystem(NQN, volumes[0]), second.make_subsystem(NQN, volumes[1])]
        device_ports = [free_port(), free_port()]
        for number in range(2):
            agent.client.create_nvmf_tcp(device_nqn(number), device_ports[number], allow_any_host=True)
        attach(agent, direct_request(0, volumes[0], NQN, ports[0]))
        with pytest.raises(grpc.RpcError):
            attach(agent, direct_request(1, uuid.uuid4(), NQN, ports[1]))
        attach(agent, direct_request(1, volumes[1], NQN, ports[1]))
        for number in range(2):
            NvmeTool(bin_dir).run("verify", device_ports[number], device_nqn(number), "--size", "1M")
        assert sorted(len(c["ctrlrs"]) for c in local.call("bdev_nvme_get_controllers")) == [1, 1]
        for number in range(2):
            agent.client.detach_volume(handle(number), volumes[number])
        assert connections(local) == ([], [], [])


def test_an_attach_that_fails_leaves_the_path_of_a_discovered_volume(remote, local, agent):
    """The target does not connect a path twice: the volume that is found by discovery meanwhile depends on the
    controller of the call that fails."""
    volume, missing = remote.make_malloc_volume(), uuid.uuid4()
    port = remote.make_subsystem(NQN, volume)
    device_port = free_port()
    for number in range(2):
        agent.client.create_nvmf_tcp(device_nqn(number), device_port)
    errors = []

    def attach_missing():
        try:
            attach(agent, direct_request(1, missing, NQN, port))
        except grpc.RpcError as error:
            errors.append(error.code())
    failing = threading.Thread(target=attach_missing)
    failing.start()
    wait_until(lambda: local.call("bdev_nvme_get_controllers"), 10, "the direct connection is up")
    attach(agent, discovery_request(handle(0), volume, port, hostnqn=HOST_NQN))
    failing.join()
    assert errors == [grpc.StatusCode.NOT_FOUND]
    assert exported(local, 0) == [str(volume)]
