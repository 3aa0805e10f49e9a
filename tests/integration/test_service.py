"""The agent as a service: many callers at once, deadlines, keep-alive, health, reflection and an orderly stop."""

import concurrent.futures
import contextlib
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


@contextlib.contextmanager
def standing_still(process):
    """The program does not run for a while, and answers nothing."""
    process.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.signal(signal.SIGCONT)


def health(agent):
    stub = health_pb2_grpc.HealthStub(agent.client.channel)
    return stub.Check(health_pb2.HealthCheckRequest(), timeout=10).status


def test_64_callers_at_once(sma, target):
    """Each makes, uses and removes devices of its own behind one listener."""
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


def test_64_callers_want_the_same(sma, target):
    """One device and one volume: every call succeeds, and there is one of each."""
    port, volume = free_port(), target.make_malloc_volume()

    def work(_):
        handle = sma.client.create_nvmf_tcp(nqn(0), port, allow_any_host=True)
        sma.client.attach_volume(handle, volume)
        return handle

    with concurrent.futures.ThreadPoolExecutor(CALLERS) as pool:
        assert len(set(pool.map(work, range(CALLERS)))) == 1
    assert len(target.subsystem(nqn(0))["namespaces"]) == 1
    assert len(target.subsystem(nqn(0))["listen_addresses"]) == 1


def test_one_of_many_devices_gets_a_volume_that_all_want(sma, target):
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


def test_a_passed_deadline_leaves_nothing(proxied_sma, proxy, target):
    client, port = proxied_sma.client, free_port()
    client.create_nvmf_tcp(nqn(0), port)
    deletions = proxy.calls_of["nvmf_delete_subsystem"]
    proxy.hold("nvmf_create_subsystem", answers=True)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.create_nvmf_tcp, nqn(1), port, timeout=2)
        # The target has done it, but the answer will come too late.
        proxy.wait_held()
        assert target.subsystem(nqn(1)) is not None
        assert call.exception().code() == grpc.StatusCode.DEADLINE_EXCEEDED
    # The agent learns it a moment later; an answer that came before that would be a success too late to be told.
    wait_until(lambda: proxy.calls_of["nvmf_delete_subsystem"] > deletions, what="the agent has given up")
    proxy.release()
    wait_until(lambda: target.subsystem(nqn(1)) is None, 20, "the device is gone")
    assert target.subsystem(nqn(0)) is not None
    client.create_nvmf_tcp(nqn(1), port)


def test_a_call_that_hangs_does_not_hold_up_calls_about_other_things(proxied_sma, proxy, target):
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


def test_a_target_that_is_away_is_unavailable_until_it_is_back(sma, target):
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


def test_keep_alive_pings_without_calls_are_no_offence(sma):
    """As the spdk-csi node agent's transport sends them; gRPC's own defaults end such a connection at the third."""
    with Http2Connection(sma.address) as connection:
        for number in range(50):
            connection.ping(number.to_bytes(8, "big"))


def test_reflection_tells_the_services(sma):
    database = ProtoReflectionDescriptorDatabase(sma.client.channel)
    services = set(database.get_services())
    assert {"sma.StorageManagementAgent", "grpc.health.v1.Health"} <= services
    methods = {m.name for m in database.FindFileContainingSymbol("sma.StorageManagementAgent").service[0].method}
    assert methods == {"CreateDevice", "DeleteDevice", "AttachVolume", "DetachVolume", "SetQos", "GetQosCapabilities"}


def test_a_stop_finishes_what_was_begun(proxied_sma, proxy, target):
    """A call that is being worked on when the agent is told to stop is still answered."""
    proxy.hold("nvmf_create_subsystem", answers=True)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(proxied_sma.client.create_nvmf_tcp, nqn(0), free_port())
        proxy.wait_held()
        proxied_sma.process.signal(signal.SIGTERM)
        proxy.release()
        assert call.result(20) == f"nvmf-tcp:{nqn(0)}"
    assert proxied_sma.process.wait() == 0
    assert target.subsystem(nqn(0)) is not None


def test_a_port_in_use_is_told_and_the_agent_does_not_start(sma, bin_dir, work_dir):
    second = Process("second", [bin_dir / "sma", "-c", work_dir / "sma.yaml", "--state-dir", work_dir / "second"],
                     work_dir)
    assert second.wait() != 0
    assert sma.address.rpartition(":")[2] in second.log()
