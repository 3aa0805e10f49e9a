# SPDX-License-Identifier: Apache-2.0
"""Defects of earlier agents, by their numbers in the contract, that are tested best with the complete program. The
others are tested beside the sources, by tests named DefectNN_...; the first test here checks that each has one."""

import contextlib
import os
import pathlib
import re
import socket
import subprocess
import time
import uuid

import grpc
import pytest
import yaml

from harness import wire
from harness.agent import free_port, start_sma
from harness.process import Process

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEFECTS = set(range(1, 68))
NQN = "nqn.2016-06.io.spdk:defect"


def test_each_defect_has_a_test_with_its_number():
    name = re.compile(r"(?:Defect|test_defect_)0*(\d+)_")
    files = [*ROOT.glob("src/**/*_test.cc"), *ROOT.glob("tests/**/*.py"), *ROOT.glob("tests/**/*_test.cc")]
    named = {int(number) for file in files for number in name.findall(file.read_text())}
    assert DEFECTS - named == set()


@pytest.fixture
def sockets(work_dir):
    folder = work_dir / "sockets"
    folder.mkdir()
    return folder


@pytest.fixture
def vfio_sma(bin_dir, work_dir, target, sockets):
    """An agent for NVMe controllers in VMs, with physical ids 0 to 31."""
    devices = [{"name": "nvmf_tcp"},
               {"name": "vfiouser", "params": {"sock_path": str(sockets), "bus": "bus0"}}]
    with start_sma(bin_dir, work_dir, socket=str(target.socket), devices=devices) as agent:
        yield agent


def create_nvme(agent, physical_id):
    request = wire.sma.CreateDeviceRequest()
    request.nvme.physical_id = physical_id
    return agent.client.stub.CreateDevice(request, timeout=30).handle


def code_of(call):
    try:
        call()
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def test_defect_01_no_folder_is_removed_through_a_handle(vfio_sma, sockets, work_dir):
    kept = work_dir / "x"
    (kept / "inner").mkdir(parents=True)
    (sockets / "vfiouser-7").mkdir()
    prefix = "nvme:nqn.2016-06.io.spdk:"
    for bad in (f"{prefix}../x", f"{prefix}vfiouser-../../x", f"{prefix}vfiouser-7/../../x", f"{prefix}{kept}",
                f"nvme:{kept}", f"{prefix}vfiouser-", f"{prefix}vfiouser--1", f"{prefix}vfiouser-07", str(kept)):
        assert code_of(lambda: vfio_sma.client.delete_device(bad)) == grpc.StatusCode.NOT_FOUND, bad
    assert (kept / "inner").is_dir()
    # The handle is valid but unknown: success without removing anything, because the record has no such device.
    vfio_sma.client.delete_device(f"{prefix}vfiouser-7")
    assert (sockets / "vfiouser-7").is_dir()


def test_defect_09_a_repeated_create_keeps_the_live_socket(vfio_sma, sockets):
    handle = create_nvme(vfio_sma, 3)
    path = sockets / "vfiouser-3" / "cntrl"
    before = path.stat().st_ino
    assert create_nvme(vfio_sma, 3) == handle
    assert path.stat().st_ino == before
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as client:
        client.connect(str(path))


def test_defect_13_nobody_without_a_certificate_is_served(bin_dir, work_dir, target):
    def run(*arguments):
        subprocess.run(["openssl", *arguments], cwd=work_dir, check=True, capture_output=True)
    run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1", "-subj",
        "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem")
    port = free_port()
    config = {"address": "127.0.0.1", "port": port, "socket": str(target.socket), "devices": [{"name": "nvmf_tcp"}],
              "state_dir": str(work_dir / "state"),
              "tls": {"cert": str(work_dir / "cert.pem"), "key": str(work_dir / "key.pem"),
                      "client_ca": str(work_dir / "cert.pem")}}
    (work_dir / "tls.yaml").write_text(yaml.safe_dump(config))

    def health(*arguments):
        return subprocess.run([bin_dir / "smactl", "-a", f"127.0.0.1:{port}", "--timeout", "5s", *arguments, "health"],
                              capture_output=True).returncode
    certificate = ["--ca", work_dir / "cert.pem", "--cert", work_dir / "cert.pem", "--key", work_dir / "key.pem"]
    with Process("sma", [bin_dir / "sma", "-c", work_dir / "tls.yaml"], work_dir) as agent:
        agent.wait_until(lambda: health(*certificate) == 0, 20, "serves clients with a certificate")
        assert health("--ca", work_dir / "cert.pem") == grpc.StatusCode.UNAVAILABLE.value[0]
        assert health() == grpc.StatusCode.UNAVAILABLE.value[0]


def test_defect_16_bad_arguments_leave_nothing(vfio_sma, target, sockets):
    before = target.call("nvmf_get_subsystems")
    request = wire.sma.CreateDeviceRequest()
    request.nvme.physical_id, request.nvme.virtual_id = 1, 1
    for bad in (lambda: vfio_sma.client.stub.CreateDevice(request, timeout=30), lambda: create_nvme(vfio_sma, 1 << 31)):
        assert code_of(bad) == grpc.StatusCode.INVALID_ARGUMENT
    for bad in (("no-nqn", "127.0.0.1"), (NQN, "127.0.0.256"), (NQN, "example.org")):
        assert code_of(lambda: vfio_sma.client.create_nvmf_tcp(bad[0], free_port(), traddr=bad[1])) == \
            grpc.StatusCode.INVALID_ARGUMENT
    assert target.call("nvmf_get_subsystems") == before
    assert list(sockets.iterdir()) == []


def test_defect_17_detaching_what_is_not_attached_is_a_success(vfio_sma):
    handle = create_nvme(vfio_sma, 0)
    vfio_sma.client.detach_volume(handle, uuid.uuid4())


def test_defect_28_empty_params_ipv6_and_a_port_in_use(bin_dir, work_dir, target):
    port = free_port()
    config = f"address: '::1'\nport: {port}\nsocket: {target.socket}\nstate_dir: {work_dir / 'state'}\n" \
             "devices:\n- name: nvmf_tcp\n  params:\n"
    (work_dir / "agent.yaml").write_text(config)
    command = [bin_dir / "sma", "-c", work_dir / "agent.yaml"]
    with Process("sma", command, work_dir) as agent:
        health = [bin_dir / "smactl", "-a", f"[::1]:{port}", "health"]
        agent.wait_until(lambda: subprocess.run(health, capture_output=True).returncode == 0, 20, "serves on IPv6")
        second = subprocess.run([*command, "--state-dir", work_dir / "other"], capture_output=True, text=True,
                                timeout=20)
        assert second.returncode == 1
        assert str(port) in second.stderr


def open_files(agent):
    return len(os.listdir(f"/proc/{agent.process.pid}/fd"))


def test_defect_31_one_connection_for_all_calls(sma, target):
    port = free_port()
    before = open_files(sma)
    for number in range(50):
        handle = sma.client.create_nvmf_tcp(f"{NQN}-{number}", port)
        sma.client.delete_device(handle)
    assert open_files(sma) <= before + 1
    assert sma.process.log().count("JSON-RPC: connected") == 1


def test_defect_33_time_outs_are_of_time_not_of_processor_time(proxied_sma, proxy):
    """The agent sleeps while it waits, and the deadline of its caller passes nevertheless."""
    port = free_port()
    proxy.hold("nvmf_create_subsystem")
    cpu, start = proxied_sma.process.cpu_seconds(), time.monotonic()
    code = code_of(lambda: proxied_sma.client.create_nvmf_tcp(NQN, port, timeout=1.0))
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert 0.9 < time.monotonic() - start < 3
    assert proxied_sma.process.cpu_seconds() - cpu < 0.5
    proxy.release()
