# SPDX-License-Identifier: Apache-2.0
"""Tests the change from the reference agent to sma: its devices are adopted while a host uses them, without any effect
on the host."""

import subprocess
import uuid

import grpc
import pytest

from harness import wire
from harness.agent import free_port, start_sma
from harness.io_stream import IoStream
from harness.wait import wait_until

NQNS = [f"nqn.2016-06.io.spdk:taken-{number}" for number in range(3)]
OPERATORS_NQN = "nqn.2019-01.com.example:operators"
HOST = "nqn.2014-08.org.example:host"
IO_SECONDS = 4


def make_reference_devices(reference, target, port):
    """Creates devices with two volumes each; returns {nqn: volumes}. The reference agent then ends, but its devices
    remain."""
    made = {}
    for nqn in NQNS:
        made[nqn] = [target.make_malloc_volume(size_mib=8) for _ in range(2)]
        handle = reference.client.create_nvmf_tcp(nqn, port, hosts=[HOST], volume=made[nqn][0])
        reference.client.attach_volume(handle, made[nqn][1])
    reference.stop()
    target.call("nvmf_create_subsystem", nqn=OPERATORS_NQN, serial_number="OPERATOR", allow_any_host=True)
    return made


def smactl(bin_dir, sma, *arguments):
    return subprocess.run([bin_dir / "smactl", "--address", sma.address, *arguments], capture_output=True, text=True,
                          timeout=30, input="")


def record(sma):
    admin = wire.admin_grpc.AdminStub(sma.client.channel)
    devices = admin.ListDevices(wire.admin.ListDevicesRequest(), timeout=10).devices
    return {d.nvmf_tcp.subnqn: {uuid.UUID(bytes=v) for v in d.volume_ids} for d in devices}


def test_repeated_calls_adopt_during_io(bin_dir, work_dir, target, reference):
    port = free_port()
    made = make_reference_devices(reference, target, port)
    before = target.call("nvmf_get_subsystems")
    nqn, (first, second) = NQNS[0], made[NQNS[0]]
    with IoStream(bin_dir, work_dir, nqn, port, first, hostnqn=HOST, seconds=IO_SECONDS) as io:
        wait_until(lambda: target.call("nvmf_subsystem_get_controllers", nqn=nqn), 10, "the host is connected")
        with start_sma(bin_dir, work_dir, socket=str(target.socket)) as sma:
            assert record(sma) == {}
            for other in ({"hosts": [HOST, HOST + "2"]}, {"hosts": []}, {"hosts": [HOST], "allow_any_host": True}):
                with pytest.raises(grpc.RpcError) as raised:
                    sma.client.create_nvmf_tcp(nqn, port, **other)
                assert raised.value.code() == grpc.StatusCode.ALREADY_EXISTS
            with pytest.raises(grpc.RpcError) as raised:
                sma.client.create_nvmf_tcp(nqn, port + 1, hosts=[HOST])
            assert raised.value.code() == grpc.StatusCode.ALREADY_EXISTS
            assert target.call("nvmf_get_subsystems") == before
            assert record(sma) == {}

            handle = sma.client.create_nvmf_tcp(nqn, port, hosts=[HOST], volume=first)
            sma.client.attach_volume(handle, second)
            assert record(sma) == {nqn: {first, second}}
            assert target.call("nvmf_get_subsystems") == before
            assert io.wait_finished(60) > 0
            sma.client.delete_device(handle)
            assert target.subsystem(nqn) is None
            assert target.subsystem(NQNS[1]) is not None


def test_smactl_adopts_during_io(bin_dir, work_dir, target, reference):
    port = free_port()
    made = make_reference_devices(reference, target, port)
    before = target.call("nvmf_get_subsystems")
    with IoStream(bin_dir, work_dir, NQNS[0], port, made[NQNS[0]][1], hostnqn=HOST, seconds=IO_SECONDS) as io:
        wait_until(lambda: target.call("nvmf_subsystem_get_controllers", nqn=NQNS[0]), 10, "the host is connected")
        with start_sma(bin_dir, work_dir, socket=str(target.socket)) as sma:
            listed = smactl(bin_dir, sma, "device", "adopt").stdout
            assert all(f"nvmf-tcp:{nqn} " in listed for nqn in NQNS)
            refused = smactl(bin_dir, sma, "device", "adopt", f"nvmf-tcp:{NQNS[0]}")
            assert refused.returncode == grpc.StatusCode.ABORTED.value[0]
            assert record(sma) == {}
            for nqn in NQNS:
                adopted = smactl(bin_dir, sma, "device", "adopt", "--yes", f"nvmf-tcp:{nqn}")
                assert adopted.returncode == 0, adopted.stderr
            again = smactl(bin_dir, sma, "device", "adopt", "--yes", f"nvmf-tcp:{NQNS[0]}")
            assert again.returncode == 0, again.stderr
            assert record(sma) == {nqn: set(volumes) for nqn, volumes in made.items()}
            assert target.call("nvmf_get_subsystems") == before
            # The adopted devices now behave like sma's own in every respect.
            assert sma.client.create_nvmf_tcp(NQNS[1], port, hosts=[HOST]) == f"nvmf-tcp:{NQNS[1]}"
            sma.client.detach_volume(f"nvmf-tcp:{NQNS[1]}", made[NQNS[1]][0])
            assert [n["uuid"] for n in target.subsystem(NQNS[1])["namespaces"]] == [str(made[NQNS[1]][1])]
            assert io.wait_finished(60) > 0


def test_an_adopted_device_is_recreated_when_the_target_restarts(bin_dir, work_dir, target, reference):
    port, volume = free_port(), target.make_file_volume(size_mib=8)
    handle = reference.client.create_nvmf_tcp(NQNS[0], port, hosts=[HOST], volume=volume)
    reference.stop()
    with start_sma(bin_dir, work_dir, socket=str(target.socket)) as sma:
        assert smactl(bin_dir, sma, "device", "adopt", "--all", "--yes").stdout == f"{handle} adopted\n"
        target.kill()
        target.start()
        target.make_file_volume(volume=volume)

        def restored():
            subsystem = target.subsystem(NQNS[0])
            return subsystem and [n["uuid"] for n in subsystem["namespaces"]] == [str(volume)]
        wait_until(restored, 20, "the device with its volume")
        assert [h["nqn"] for h in target.subsystem(NQNS[0])["hosts"]] == [HOST]
