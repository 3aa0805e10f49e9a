# SPDX-License-Identifier: Apache-2.0
"""Tests remote volumes with the agent: one sma-target provides them, and the agent's target exports them again."""

import concurrent.futures
import subprocess
import uuid

import grpc
import pytest

from harness.agent import free_port, start_reference, start_sma
from harness.iscsi_target import IscsiTarget
from harness.remote import (DISCOVERY_NQN, NvmeTool, attach_request, connections, discovery_request, finish_load,
                            volume_states)
from harness.wait import wait_until

REMOTE_NQN = "nqn.2016-06.io.spdk:remote0"
DEVICE_NQN = "nqn.2016-06.io.spdk:device0"
HANDLE = f"nvmf-tcp:{DEVICE_NQN}"


@pytest.fixture
def agent(bin_dir, work_dir, local):
    with start_sma(bin_dir, work_dir, socket=str(local.socket), discovery_timeout=3.0) as running:
        yield running


@pytest.fixture
def device(agent):
    """Returns the port of an existing device."""
    port = free_port()
    agent.client.create_nvmf_tcp(DEVICE_NQN, port, allow_any_host=True)
    return port


def discovered(volume, *ports, handle=HANDLE, **options):
    return discovery_request(handle, volume, *ports, **options)


def direct(volume, *ports):
    message = attach_request(HANDLE, volume)
    message.volume.nvmf.subnqn = REMOTE_NQN
    for port in ports:
        message.volume.nvmf.direct.addresses.add(trtype="tcp", traddr="127.0.0.1", trsvcid=str(port))
    return message


def attach(agent, message, timeout=30):
    agent.client.stub.AttachVolume(message, timeout=timeout)


def refused(agent, message):
    """Returns the status code of a failing attach."""
    with pytest.raises(grpc.RpcError) as error:
        attach(agent, message)
    return error.value.code()


def attached(local, nqn=DEVICE_NQN):
    return sorted(n["uuid"] for n in local.subsystem(nqn)["namespaces"])


def services(local):
    return [s["name"] for s in local.call("bdev_nvme_get_discovery_info")]


def test_discovery_at_an_io_listener(remote, local, agent, device, bin_dir):
    one, two = remote.make_malloc_volume(), remote.make_malloc_volume()
    port = remote.make_subsystem(REMOTE_NQN, one, two)
    attach(agent, discovered(one, port))
    attach(agent, discovered(two, port, trtype="tcp"))
    attach(agent, discovered(one, port))
    assert attached(local) == sorted([str(one), str(two)])
    assert len(services(local)) == 1
    NvmeTool(bin_dir).run("verify", device, DEVICE_NQN, "--namespace", "1", "--size", "4M")
    agent.client.detach_volume(HANDLE, one)
    assert attached(local) == [str(two)]
    NvmeTool(bin_dir).run("verify", device, DEVICE_NQN, "--size", "4M")
    agent.client.detach_volume(HANDLE, two)
    assert connections(local) == ([], [], [])


def test_a_failed_attach_leaves_no_objects(remote, local, agent, device):
    volume, missing = remote.make_malloc_volume(), uuid.uuid4()
    port = remote.make_subsystem(REMOTE_NQN, volume)
    assert refused(agent, discovered(missing, port)) == grpc.StatusCode.NOT_FOUND
    assert refused(agent, discovered(volume, free_port())) == grpc.StatusCode.UNAVAILABLE
    assert refused(agent, direct(missing, port)) == grpc.StatusCode.NOT_FOUND
    assert refused(agent, direct(volume, free_port())) == grpc.StatusCode.NOT_FOUND
    wrong = discovered(volume, port)
    wrong.volume.nvmf.subnqn = "nqn.2016-06.io.spdk:other"
    assert refused(agent, wrong) == grpc.StatusCode.INVALID_ARGUMENT
    assert connections(local) == ([], [], [])
    with pytest.raises(grpc.RpcError) as late:
        attach(agent, discovered(missing, port), timeout=1)
    assert late.value.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.NOT_FOUND)
    wait_until(lambda: connections(local) == ([], [], []), 20, "no object is left")


def test_an_operators_service_is_kept(remote, local, agent, device):
    volume = remote.make_malloc_volume()
    port = remote.make_subsystem(REMOTE_NQN, volume)
    local.call("bdev_nvme_start_discovery", name="operators", trtype="tcp", adrfam="ipv4", traddr="127.0.0.1",
               trsvcid=str(port), wait_for_attach=True)
    attach(agent, discovered(volume, port))
    agent.client.detach_volume(HANDLE, volume)
    assert services(local) == ["operators"]


def test_restart_of_the_agent(remote, local, agent, device):
    one, two = remote.make_malloc_volume(), remote.make_malloc_volume()
    port = remote.make_subsystem(REMOTE_NQN, one, two)
    attach(agent, discovered(one, port))
    attach(agent, discovered(two, port))
    agent.kill()
    agent.start()
    agent.client.detach_volume(HANDLE, one)
    assert attached(local) == [str(two)]
    assert len(services(local)) == 1
    agent.client.detach_volume(HANDLE, two)
    assert connections(local) == ([], [], [])


def test_restart_of_the_target(remote, local, agent, device, bin_dir):
    other_nqn = "nqn.2016-06.io.spdk:remote1"
    one, two, three = (remote.make_malloc_volume() for _ in range(3))
    port = remote.make_subsystem(REMOTE_NQN, one, two)
    third = remote.make_subsystem(other_nqn, three)
    attach(agent, discovered(one, port))
    attach(agent, discovered(two, third))
    message = direct(three, third)
    message.volume.nvmf.subnqn = other_nqn
    attach(agent, message)
    local.kill()
    local.start()
    wait_until(lambda: local.subsystem(DEVICE_NQN) and len(attached(local)) == 3, 40, "all volumes are back")
    NvmeTool(bin_dir).run("verify", device, DEVICE_NQN, "--namespace", "1", "--size", "4M")
    for volume in (one, two, three):
        agent.client.detach_volume(HANDLE, volume)
    assert connections(local) == ([], [], [])


def test_a_remote_is_restarted(remote, local, agent, device, bin_dir):
    volume = remote.export_file()
    port = remote.make_subsystem(REMOTE_NQN, volume)
    attach(agent, discovered(volume, port))
    host = NvmeTool(bin_dir)
    load = host.start_load(device, DEVICE_NQN, 6)
    wait_until(lambda: remote.call("bdev_get_iostat")["bdevs"][0]["num_write_ops"] > 50, 20, "I/O")
    remote.kill()
    remote.restart()
    assert finish_load(load) > 50
    host.run("verify", device, DEVICE_NQN, "--size", "4M")


def test_a_removed_volume_is_detected_and_reattached(remote, local, agent, device, bin_dir):
    """The change is detected long before the next comparison of the record with the target, which runs every half
    minute."""
    def listed(state):
        output = subprocess.run([bin_dir / "smactl", "--address", agent.address, "volume", "list"], text=True,
                                capture_output=True, timeout=30, check=True).stdout
        return any(str(gone) in line and state in line for line in output.splitlines())

    gone, other = remote.make_malloc_volume(), remote.make_malloc_volume()
    port = remote.make_subsystem(REMOTE_NQN, gone, other)
    local_one = local.make_malloc_volume()
    for volume in (gone, other):
        attach(agent, discovered(volume, port))
    agent.client.attach_volume(HANDLE, local_one)
    remote.call("nvmf_subsystem_remove_ns", nqn=REMOTE_NQN, nsid=1)
    wait_until(lambda: listed("degraded"), 10, "the volume is reported missing")
    assert volume_states(agent) == {gone: "DEGRADED", other: "READY", local_one: "READY"}
    remote.call("nvmf_subsystem_add_ns", nqn=REMOTE_NQN, namespace={"bdev_name": str(gone)})
    wait_until(lambda: listed("ready"), 10, "reconnected")
    assert str(gone) in attached(local)


def test_a_host_name_as_address(remote, local, agent, device):
    volume = remote.make_malloc_volume()
    port = remote.make_subsystem(REMOTE_NQN, volume)
    attach(agent, discovered(volume, port, host="localhost"))
    assert attached(local) == [str(volume)]
    assert refused(agent, discovered(volume, port, host="no-such-host.invalid")) in (
        grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAVAILABLE)


def test_ipv6_addresses_are_compared_by_value(remote, local, agent, device):
    one, two = remote.make_malloc_volume(), remote.make_malloc_volume()
    port = remote.make_subsystem(REMOTE_NQN, one, two)
    remote.listen(REMOTE_NQN, port, host="::1")
    attach(agent, discovered(one, port, host="0:0:0::1"))
    attach(agent, discovered(two, port, host="::0001"))
    assert len(services(local)) == 1
    assert attached(local) == sorted([str(one), str(two)])


def test_one_service_has_the_host_of_its_first_volume(remote, local, agent, device):
    """The target has one discovery service per address, whatever the host NQN: a volume that the host of this service
    may not access is not found, and the error says so."""
    names = [f"nqn.2016-06.io.spdk:host{number}" for number in range(3)]
    first, second, third = (remote.make_malloc_volume() for _ in range(3))
    port = remote.make_subsystem(REMOTE_NQN, first, second)
    hidden = "nqn.2016-06.io.spdk:hidden"
    remote.call("nvmf_create_subsystem", nqn=hidden)
    remote.call("nvmf_subsystem_add_host", nqn=hidden, host=names[2])
    remote.call("nvmf_subsystem_add_ns", nqn=hidden, namespace={"bdev_name": str(third)})
    remote.listen(hidden, port)
    for number, volume in enumerate((first, second)):
        attach(agent, discovered(volume, port, hostnqn=names[number]))
    assert {path["host"]["nqn"] for c in local.call("bdev_nvme_get_controllers") for path in c["ctrlrs"]} == {names[0]}
    with pytest.raises(grpc.RpcError) as error:
        attach(agent, discovered(third, port, hostnqn=names[2]))
    assert error.value.code() == grpc.StatusCode.NOT_FOUND
    assert names[0] in error.value.details()
    for volume in (first, second):
        agent.client.detach_volume(HANDLE, volume)
    # Without other volumes the service uses the volume's own host NQN.
    attach(agent, discovered(third, port, hostnqn=names[2]))
    assert attached(local) == [str(third)]


def iscsi(volume, portal, number, chap=None):
    message = attach_request(HANDLE, volume)
    message.volume.iscsi.portal = f"localhost:{portal.port}"
    message.volume.iscsi.target_iqn = f"iqn.2016-06.io.tgt:disk{number}"
    message.volume.iscsi.lun = 1
    message.volume.iscsi.initiator_iqn = "iqn.2016-06.io.spdk:agent"
    if chap:
        message.volume.iscsi.chap.user, message.volume.iscsi.chap.secret = chap
    return message


def test_iscsi_while_tgtd_restarts(local, agent, device, bin_dir, work_dir):
    open_one, closed_one = uuid.uuid4(), uuid.uuid4()
    chap = ("user0", "secretsecret1")
    host = NvmeTool(bin_dir)
    with IscsiTarget(work_dir) as portal:
        portal.make_lun(0)
        portal.make_lun(1, chap=chap)
        attach(agent, iscsi(open_one, portal, 0))
        for wrong in (None, ("user0", "wrongwrong123")):
            assert refused(agent, iscsi(closed_one, portal, 1, wrong)) == grpc.StatusCode.NOT_FOUND
        assert attached(local) == [str(open_one)]
        attach(agent, iscsi(closed_one, portal, 1, chap))
        loads = [host.start_load(device, DEVICE_NQN, 5, "--namespace", str(nsid)) for nsid in (1, 2)]
        wait_until(lambda: all(b["num_write_ops"] > 50 for b in local.call("bdev_get_iostat")["bdevs"]), 20, "I/O")
        portal.kill()
        portal.start()
        assert all(finish_load(load) > 50 for load in loads)
        for nsid in (1, 2):
            host.run("verify", device, DEVICE_NQN, "--namespace", str(nsid), "--size", "4M")
        for volume in (open_one, closed_one):
            agent.client.detach_volume(HANDLE, volume)
    assert connections(local) == ([], [], [])
    assert chap[1] not in agent.process.log() + local.process.log()


def test_one_of_two_paths_is_lost_during_io(remote, local, agent, device, bin_dir):
    volume = remote.export_file()
    first, second = remote.make_subsystem(REMOTE_NQN, volume), free_port()
    remote.listen(REMOTE_NQN, second)
    attach(agent, direct(volume, first, second))
    host = NvmeTool(bin_dir)
    load = host.start_load(device, DEVICE_NQN, 5)
    wait_until(lambda: remote.call("bdev_get_iostat")["bdevs"][0]["num_write_ops"] > 50, 20, "I/O")
    remote.call("nvmf_subsystem_remove_listener", nqn=REMOTE_NQN,
                listen_address={"trtype": "tcp", "adrfam": "ipv4", "traddr": "127.0.0.1", "trsvcid": str(first)})
    assert finish_load(load) > 50
    host.run("verify", device, DEVICE_NQN, "--size", "4M")
    agent.client.detach_volume(HANDLE, volume)
    assert connections(local) == ([], [], [])


def test_many_callers_use_one_service(remote, local, agent):
    count, callers, per_subsystem = 200, 32, 25
    volumes = [remote.make_malloc_volume(size_mib=1) for _ in range(count)]
    ports = [remote.make_subsystem(f"{REMOTE_NQN}-{i}", *volumes[i:i + per_subsystem])
             for i in range(0, count, per_subsystem)]
    nqns = [f"{DEVICE_NQN}-{i}" for i in range(count // per_subsystem)]
    port = free_port()
    for nqn in nqns:
        agent.client.create_nvmf_tcp(nqn, port, allow_any_host=True)
    handles = [f"nvmf-tcp:{nqns[i % len(nqns)]}" for i in range(count)]
    with concurrent.futures.ThreadPoolExecutor(callers) as pool:
        list(pool.map(lambda i: attach(agent, discovered(volumes[i], ports[0], handle=handles[i]), 60), range(count)))
        assert len(services(local)) == 1
        assert sum(len(attached(local, nqn)) for nqn in nqns) == count
        list(pool.map(lambda i: agent.client.detach_volume(handles[i], volumes[i]), range(count)))
    assert connections(local) == ([], [], [])


def test_the_reference_agent_does_the_same(remote, local, work_dir, bin_dir):
    """The features that both agents have: discovery of one volume after the other."""
    one, two = remote.make_malloc_volume(), remote.make_malloc_volume()
    port = free_port()
    remote.make_subsystem(REMOTE_NQN, one, two)
    remote.listen(DISCOVERY_NQN, port)
    outcomes = []
    for start in (lambda: start_reference(work_dir, socket=str(local.socket)),
                  lambda: start_sma(bin_dir, work_dir, socket=str(local.socket))):
        with start() as agent:
            seen = []
            agent.client.create_nvmf_tcp(DEVICE_NQN, free_port(), allow_any_host=True)
            for volume in (one, two):
                attach(agent, discovered(volume, port, trtype="tcp"))
                seen.append((attached(local), len(services(local))))
            for volume in (one, two):
                agent.client.detach_volume(HANDLE, volume)
                seen.append((attached(local), len(services(local))))
            agent.client.delete_device(HANDLE)
            outcomes.append(seen)
    assert outcomes[0] == outcomes[1]
