# SPDX-License-Identifier: Apache-2.0
"""Tests the agent as a service: concurrent callers, deadlines, keep-alive, health, reflection and an orderly stop."""

import concurrent.futures
import signal
import threading

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from harness.agent import free_port
from harness.http2 import Http2Connection
from harness.process import Process
from harness.wait import wait_until

CALLERS = 64


def nqn(number):
    return f"nqn.2016-06.io.spdk:device-{number}"


def health(agent):
    stub = health_pb2_grpc.HealthStub(agent.client.channel)
    return stub.Check(health_pb2.HealthCheckRequest(), timeout=10).status


def test_64_callers_at_once(sma, target):
    """Each caller creates, uses and deletes its own devices on a shared listener."""
    port = free_port()
    volumes = [target.make_malloc_volume(size_mib=1) for _ in range(CALLERS)]
    start = threading.Barrier(CALLERS)

    def work(number):
        start.wait(30)
        for _ in range(3):
            handle = sma.client.create_nvmf_tcp(nqn(number), port, allow_any_host=True)
            sma.client.attach_volume(handle, volumes[number])
            assert [n["uuid"] for n in target.subsystem(nqn(number))["namespaces"]] == [str(volumes[number])]
            sma.client.detach_volume(handle, volumes[number])
            sma.client.delete_device(handle)

    with concurrent.futures.ThreadPoolExecutor(CALLERS) as pool:
        for done in [pool.submit(work, number) for number in range(CALLERS)]:
            done.result(120)
    assert [s["nqn"] for s in target.call("nvmf_get_subsystems") if s["subtype"] == "NVMe"] == []


def test_64_callers_request_the_same_objects(sma, target):
    """All callers use the same device and volume: every call succeeds, and there is only one of each."""
    port, volume = free_port(), target.make_malloc_volume()

    def work(_):
        handle = sma.client.create_nvmf_tcp(nqn(0), port, allow_any_host=True)
        sma.client.attach_volume(handle, volume)
        return handle

    with concurrent.futures.ThreadPoolExecutor(CALLERS) as pool:
        assert len(set(pool.map(work, range(CALLERS)))) == 1
    assert len(target.subsystem(nqn(0))["namespaces"]) == 1
    assert len(target.subsystem(nqn(0))["listen_addresses"]) == 1


def test_one_of_many_devices_gets_a_contended_volume(sma, target):
    port, volume = free_port(), target.make_malloc_volume()
    handles = [sma.client.create_nvmf_tcp(nqn(number), port, allow_any_host=True) for number in range(8)]

    def work(handle):
        try:
            sma.client.attach_volume(handle, volume)
            return grpc.StatusCode.OK
        except grpc.RpcError as error:
            return error.code()

    with concurrent.futures.ThreadPoolExecutor(len(handles)) as pool:
        codes = sorted(pool.map(work, handles), key=lambda code: code.name)
    assert codes == [grpc.StatusCode.ALREADY_EXISTS] * 7 + [grpc.StatusCode.OK]
    assert sum(len(target.subsystem(nqn(number))["namespaces"]) for number in range(8)) == 1


def test_a_passed_deadline_leaves_no_objects(proxied_sma, proxy, target):
    client, port = proxied_sma.client, free_port()
    client.create_nvmf_tcp(nqn(0), port)
    deletions = proxy.calls_of["nvmf_delete_subsystem"]
    proxy.hold("nvmf_create_subsystem", answers=True)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.create_nvmf_tcp, nqn(1), port, timeout=2)
        # The target has executed the call, but the answer will be too late.
        proxy.wait_held()
        assert target.subsystem(nqn(1)) is not None
        assert call.exception().code() == grpc.StatusCode.DEADLINE_EXCEEDED
    # The agent detects that slightly later; an answer before the deadline would be a success that the client does not
    # receive.
    wait_until(lambda: proxy.calls_of["nvmf_delete_subsystem"] > deletions, what="the agent has given up")
    proxy.release()
    wait_until(lambda: target.subsystem(nqn(1)) is None, 20, "the device is removed")
    assert target.subsystem(nqn(0)) is not None
    client.create_nvmf_tcp(nqn(1), port)


def test_a_hanging_call_does_not_delay_calls_for_other_objects(proxied_sma, proxy, target):
    client, port = proxied_sma.client, free_port()
    handle = client.create_nvmf_tcp(nqn(0), port)
    volume = target.make_malloc_volume()
    proxy.hold("nvmf_create_subsystem", answers=True)
    with concurrent.futures.ThreadPoolExecutor(CALLERS) as pool:
        hanging = [pool.submit(client.create_nvmf_tcp, nqn(number), port) for number in range(1, CALLERS)]
        proxy.wait_held()
        client.attach_volume(handle, volume)
        assert client.create_nvmf_tcp(nqn(0), port) == handle
        client.detach_volume(handle, volume)
        client.delete_device(handle)
        assert not any(call.done() for call in hanging)
        proxy.release()
        assert [call.result() for call in hanging] == [f"nvmf-tcp:{nqn(number)}" for number in range(1, CALLERS)]


def test_calls_are_unavailable_until_the_target_is_back(sma, target):
    port = free_port()
    sma.client.create_nvmf_tcp(nqn(0), port)
    assert health(sma) == health_pb2.HealthCheckResponse.SERVING
    target.kill()
    with pytest.raises(grpc.RpcError) as raised:
        sma.client.create_nvmf_tcp(nqn(1), port, timeout=10)
    assert raised.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    wait_until(lambda: health(sma) == health_pb2.HealthCheckResponse.NOT_SERVING, 20, "not serving")
    target.start()
    wait_until(lambda: health(sma) == health_pb2.HealthCheckResponse.SERVING, 30, "serving again")
    assert target.subsystem(nqn(0)) is not None
    sma.client.create_nvmf_tcp(nqn(1), port)


def test_keep_alive_pings_without_calls_are_accepted(sma):
    """The pings are sent as the spdk-csi node agent's transport does; with gRPC's defaults the third one would end the
    connection."""
    with Http2Connection(sma.address) as connection:
        for number in range(50):
            connection.ping(number.to_bytes(8, "big"))


def test_reflection_lists_the_services(sma):
    database = ProtoReflectionDescriptorDatabase(sma.client.channel)
    services = set(database.get_services())
    assert {"sma.StorageManagementAgent", "grpc.health.v1.Health"} <= services
    methods = {m.name for m in database.FindFileContainingSymbol("sma.StorageManagementAgent").service[0].method}
    assert methods == {"CreateDevice", "DeleteDevice", "AttachVolume", "DetachVolume", "SetQos", "GetQosCapabilities"}


def test_a_stop_finishes_calls_in_progress(proxied_sma, proxy, target):
    """A call in progress when the agent is stopped is still answered."""
    proxy.hold("nvmf_create_subsystem", answers=True)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(proxied_sma.client.create_nvmf_tcp, nqn(0), free_port())
        proxy.wait_held()
        proxied_sma.process.signal(signal.SIGTERM)
        proxy.release()
        assert call.result(20) == f"nvmf-tcp:{nqn(0)}"
    assert proxied_sma.process.wait() == 0
    assert target.subsystem(nqn(0)) is not None


def test_a_port_in_use_is_reported_and_the_agent_does_not_start(sma, bin_dir, work_dir):
    second = Process("second", [bin_dir / "sma", "-c", work_dir / "sma.yaml", "--state-dir", work_dir / "second"],
                     work_dir)
    assert second.wait() != 0
    assert sma.address.rpartition(":")[2] in second.log()
