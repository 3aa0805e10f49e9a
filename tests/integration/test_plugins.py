# SPDX-License-Identifier: Apache-2.0
"""Tests Python plugins of each kind in an agent."""

import json
import os
import pathlib
import subprocess
import sys
import uuid

import grpc
import pytest

from harness import wire
from harness.agent import free_port, start_reference, start_sma
from harness.plugins import ENVIRONMENT, PLUGINS, code_of, create, set_qos, start
from harness.process import Process

SHAPES = [
    ("two devices in one module", {"plugins": ["shapes"], "devices": ["memory_nvme", "memory_blk"]},
     {"nvme": "memory_nvme:1", "virtio_blk": "memory_blk:1"}),
    ("two modules", {"plugins": ["one_nvme", "one_blk"], "devices": ["memory_nvme", "memory_blk"]},
     {"nvme": "memory_nvme:1", "virtio_blk": "memory_blk:1"}),
    ("one of several is enabled", {"plugins": ["shapes"], "devices": ["memory_blk"]},
     {"nvme": None, "virtio_blk": "memory_blk:1"}),
    ("by the environment", {"env": {"SMA_PLUGINS": "one_nvme:one_blk"}, "devices": ["memory_nvme"]},
     {"nvme": "memory_nvme:1", "virtio_blk": None}),
    ("by both", {"plugins": ["one_nvme"], "env": {"SMA_PLUGINS": "one_blk:one_nvme"},
                 "devices": ["memory_nvme", "memory_blk"]},
     {"nvme": "memory_nvme:1", "virtio_blk": "memory_blk:1"}),
    ("parameters", {"plugins": ["one_nvme"], "devices": [{"name": "memory_nvme", "params": {"prefix": "pre"}}]},
     {"nvme": "pre:1"}),
    ("beside a built-in type", {"plugins": ["one_nvme"], "devices": ["nvmf_tcp", "memory_nvme"]},
     {"nvme": "memory_nvme:1"}),
    ("old signatures", {"plugins": ["shapes"], "devices": ["bare"]}, {"nvme": "bare:1"}),
    ("an engine alone", {"plugins": ["one_engine"], "devices": ["nvmf_tcp"]}, {"nvme": None}),
    ("slow import", {"plugins": ["slow_import"], "devices": ["memory_nvme"]}, {"nvme": "memory_nvme:1"}),
]


@pytest.mark.parametrize("config, handles", [pytest.param(c, h, id=n) for n, c, h in SHAPES])
def test_shapes(bin_dir, work_dir, target, config, handles):
    with start(bin_dir, work_dir, target, **config) as agent:
        for protocol, handle in handles.items():
            if handle is None:
                assert code_of(lambda p=protocol: create(agent, p, 1)) == "INVALID_ARGUMENT"
            else:
                assert create(agent, protocol, 1) == handle
                assert create(agent, protocol, 1) == handle


REFUSED = [
    ("no such module", {"plugins": ["no_such_plugin"]}, "no_such_plugin: ModuleNotFoundError"),
    ("raises", {"plugins": ["broken"]}, "broken: RuntimeError: it cannot be imported"),
    ("brings nothing", {"plugins": ["nothing"]}, "nothing: the module has neither"),
    ("device not known", {"plugins": ["one_nvme"], "devices": ["other"]}, "device other: is not known (known: "),
    ("two of one protocol", {"plugins": ["shapes"], "devices": ["memory_nvme", "bare"]},
     "device bare: serves protocol nvme, as does memory_nvme"),
    ("the same name twice", {"plugins": ["one_nvme", "shapes"]},
     "device type 'memory_nvme' is already defined by one_nvme"),
]


@pytest.mark.parametrize("config, message", [pytest.param(c, m, id=n) for n, c, m in REFUSED])
def test_refused_at_start(bin_dir, work_dir, target, config, message):
    path = work_dir / "sma.yaml"
    devices = [{"name": name} for name in config.get("devices", [])]
    path.write_text(repr({"address": "127.0.0.1", "port": 0, "socket": str(target.socket),
                          "state_dir": str(work_dir / "state"), "plugins": config["plugins"], "devices": devices}))
    process = Process("sma", [bin_dir / "sma", "-c", path], work_dir, ENVIRONMENT)
    assert process.wait() == 1
    assert message in process.log()


@pytest.fixture
def unruly(bin_dir, work_dir, target):
    with start(bin_dir, work_dir, target, ["unruly"], ["unruly"]) as agent:
        yield agent


MISTAKES = [(1, "INTERNAL", "KeyError"), (3, "INTERNAL", "gave NoneType"), (4, "INTERNAL", "gave str"),
            (5, "INTERNAL", "SystemExit"), (6, "RESOURCE_EXHAUSTED", "no more of these"),
            (7, "INTERNAL", "no handle"), (8, "INTERNAL", "JSONRPCException"), (9, "UNKNOWN", "a code that is none")]


def test_errors_of_a_plugin_fail_only_their_call(unruly):
    for physical_id, code, message in MISTAKES:
        with pytest.raises(grpc.RpcError) as error:
            create(unruly, "nvme", physical_id)
        assert (physical_id, error.value.code().name) == (physical_id, code)
        assert message in error.value.details()
        assert create(unruly, "nvme", 100) == "unruly:100"
    assert "Traceback" in unruly.process.log()
    assert code_of(lambda: unruly.client.attach_volume("unruly:100", uuid.uuid4())) == "NOT_FOUND"
    assert code_of(lambda: unruly.client.delete_device("unruly:100")) == "UNIMPLEMENTED"


def test_an_error_of_the_target_names_the_reason_first_and_no_secret():
    package = pathlib.Path(__file__).resolve().parents[2] / "python"
    program = ("from spdk.rpc.client import error_text\n"
               "print(error_text('accel_crypto_key_create', {'name': 'k', 'key': 'S1', 'keys': [{'key2': 'S2'}]}, 1,"
               " {'code': -32602, 'message': 'Invalid parameters'}))")
    text = subprocess.run([sys.executable, "-B", "-c", program], env={"PYTHONPATH": str(package)}, check=True,
                          capture_output=True, text=True, timeout=60).stdout
    assert text.startswith("accel_crypto_key_create: Invalid parameters (-32602)\nrequest:\n")
    assert '"name": "k"' in text and "S1" not in text and "S2" not in text


def play(agent, volumes):
    """Makes the same calls to any agent; returns the results."""
    stub = agent.client.stub
    one, two = volumes
    attach, detach, delete = agent.client.attach_volume, agent.client.detach_volume, agent.client.delete_device

    def qos(handle, volume, **limits):
        request = wire.sma.SetQosRequest(device_handle=handle, volume_id=volume.bytes)
        for name, value in limits.items():
            setattr(request.maximum, name, value)
        stub.SetQos(request)

    def capabilities(device_type):
        return stub.GetQosCapabilities(wire.sma.GetQosCapabilitiesRequest(device_type=device_type))

    steps = [
        ("create", lambda: create(agent, "nvme", 1)),
        ("create again", lambda: create(agent, "nvme", 1)),
        ("create another", lambda: create(agent, "nvme", 2)),
        ("refused by the plugin", lambda: create(agent, "nvme", 3, virtual_id=1)),
        ("attach", lambda: attach("memory_nvme:1", one)),
        ("attach again", lambda: attach("memory_nvme:1", one)),
        ("attach elsewhere", lambda: attach("memory_nvme:2", one)),
        ("attach a missing volume", lambda: attach("memory_nvme:1", uuid.UUID(int=7))),
        ("attach to a missing device", lambda: attach("memory_nvme:77", two)),
        ("attach, missing device, its handle nobody's", lambda: attach("other:1", two)),
        ("limits", lambda: qos("memory_nvme:1", one, rw_iops=1)),
        ("limits that there are not", lambda: qos("memory_nvme:1", one, rd_iops=1)),
        ("limits of a missing device", lambda: qos("memory_nvme:77", one, rw_iops=1)),
        ("capabilities", lambda: capabilities(1)),
        ("delete with a volume", lambda: delete("memory_nvme:1")),
        ("detach", lambda: detach("memory_nvme:1", one)),
        ("detach again", lambda: detach("memory_nvme:1", one)),
        ("detach from a missing device", lambda: detach("memory_nvme:77", one)),
        ("delete", lambda: delete("memory_nvme:1")),
        ("delete again", lambda: delete("memory_nvme:1")),
        ("delete a handle of nobody", lambda: delete("other:1")),
        ("a disk with its volume", lambda: create(agent, "virtio_blk", 5, volume=two)),
        ("a disk with a missing volume", lambda: create(agent, "virtio_blk", 6, volume=uuid.UUID(int=7))),
        ("delete it with its volume", lambda: delete("memory_blk:5")),
        ("the volume is free again", lambda: attach("memory_nvme:2", two)),
    ]
    return outcomes_of(steps)


def outcomes_of(steps):
    """Returns the result or status code of each (name, call)."""
    outcomes = []
    for name, call in steps:
        try:
            outcomes.append((name, str(call() or "OK")))
        except grpc.RpcError as error:
            outcomes.append((name, error.code().name))
    return outcomes


def play_extended(agent, volume, port):
    """The same for the plugin that extends the device type for NVMe/TCP."""
    nqn, client = "nqn.2016-06.io.spdk:polite", agent.client
    handle = f"nvmf-tcp:{nqn}"
    return outcomes_of([
        ("a host that is not let in", lambda: client.create_nvmf_tcp(nqn, port, hosts=["nqn.2000-01.com:x"])),
        ("create", lambda: client.create_nvmf_tcp(nqn, port, allow_any_host=True)),
        ("create again", lambda: client.create_nvmf_tcp(nqn, port, allow_any_host=True)),
        ("attach", lambda: client.attach_volume(handle, volume)),
        ("attach again", lambda: client.attach_volume(handle, volume)),
        ("attach a missing volume", lambda: client.attach_volume(handle, uuid.UUID(int=7))),
        ("limits", lambda: set_qos(agent, handle, volume, rw_iops=1)),
        ("limits that there are not", lambda: set_qos(agent, handle, volume, rd_iops=1)),
        ("detach", lambda: client.detach_volume(handle, volume)),
        ("detach again", lambda: client.detach_volume(handle, volume)),
        ("delete", lambda: client.delete_device(handle)),
        ("delete again", lambda: client.delete_device(handle)),
    ])


def test_the_same_plugins_answer_the_same_in_both_agents(bin_dir, work_dir, target):
    volumes = [target.make_malloc_volume(size_mib=1) for _ in range(2)]
    config = {"plugins": ["shapes", "extends_nvmf_tcp"], "socket": str(target.socket), "env": ENVIRONMENT,
              "devices": [{"name": name} for name in ("memory_nvme", "memory_blk", "polite_nvmf_tcp")]}
    with start_reference(work_dir, **config) as reference:
        expected = play(reference, volumes)
        expected_extended = play_extended(reference, volumes[0], free_port())
    with start_sma(bin_dir, work_dir, **config) as agent:
        assert play(agent, volumes) == expected
        assert play_extended(agent, volumes[0], free_port()) == expected_extended
    assert {"OK", "NOT_FOUND", "ALREADY_EXISTS", "INVALID_ARGUMENT", "FAILED_PRECONDITION"} <= {o for _, o in expected}
    assert {"OK", "NOT_FOUND", "PERMISSION_DENIED", "INVALID_ARGUMENT"} <= {o for _, o in expected_extended}


def play_encrypted(agent, target, volumes, port):
    """The same for a crypto engine, with the device's exports after each step."""
    nqn, client, (one, two) = "nqn.2016-06.io.spdk:encrypted", agent.client, volumes
    handle = f"nvmf-tcp:{nqn}"
    key, other, half = (wire.sma.VolumeCryptoParameters(cipher="AES_XTS", key=a * 16, key2=b * 16)
                        for a, b in ((b"12", b"34"), (b"56", b"78"), (b"12", b"")))
    return [(outcome, [n["bdev_name"] for n in (target.subsystem(nqn) or {"namespaces": []})["namespaces"]])
            for step in [
                ("create", lambda: client.create_nvmf_tcp(nqn, port)),
                ("attach", lambda: client.attach_volume(handle, one, crypto=key)),
                ("attach again", lambda: client.attach_volume(handle, one, crypto=key)),
                ("attach with another key", lambda: client.attach_volume(handle, one, crypto=other)),
                ("attach with one key", lambda: client.attach_volume(handle, two, crypto=half)),
                ("attach in clear", lambda: client.attach_volume(handle, two)),
                ("detach", lambda: client.detach_volume(handle, one)),
                ("attach with the other key then", lambda: client.attach_volume(handle, one, crypto=other)),
                ("detach again", lambda: client.detach_volume(handle, one)),
                ("detach the clear one", lambda: client.detach_volume(handle, two)),
                ("delete", lambda: client.delete_device(handle)),
            ] for outcome in outcomes_of([step])]


def test_the_same_engine_encrypts_the_same_in_both_agents(bin_dir, work_dir, target):
    volumes = [target.make_malloc_volume(size_mib=1, block_size=4096) for _ in range(2)]
    config = {"plugins": ["target_engine"], "crypto": {"name": "target_engine", "params": {"prefix": "own"}},
              "socket": str(target.socket), "env": ENVIRONMENT}
    with start_reference(work_dir, **config) as reference:
        expected = play_encrypted(reference, target, volumes, free_port())
    with start_sma(bin_dir, work_dir, **config) as agent:
        assert play_encrypted(agent, target, volumes, free_port()) == expected
    assert [f"own-{volumes[0]}"] in [exported for _, exported in expected]
    assert not any(bdev["name"].startswith("own-") for bdev in target.call("bdev_get_bdevs"))


def test_handles_survive_restarts(bin_dir, work_dir, target):
    volume = target.make_malloc_volume(size_mib=1)
    with start(bin_dir, work_dir, target, ["shapes"], ["memory_nvme"]) as agent:
        handle = create(agent, "nvme", 1, volume=volume)
        agent.kill()
        agent.start()
        # The plugin is stateless: the agent has passed the objects to it again.
        agent.client.attach_volume(handle, volume)
        assert code_of(lambda: agent.client.attach_volume("memory_nvme:2", volume)) == "ALREADY_EXISTS"
        agent.client.detach_volume(handle, volume)
        agent.client.delete_device(handle)


def test_existing_objects_are_listed(bin_dir, work_dir, target):
    with start(bin_dir, work_dir, target, ["shapes"], ["nvmf_tcp", "memory_blk"]) as agent:
        listed = subprocess.run([bin_dir / "smactl", "--address", agent.address, "--json", "plugin", "list"],
                                capture_output=True, text=True, check=True)
    plugins = {p["name"]: p for p in json.loads(listed.stdout)["plugins"]}
    assert plugins["nvmf_tcp"]["enabled"] and plugins["memory_blk"]["enabled"]
    assert not plugins["memory_nvme"].get("enabled")
    assert (plugins["memory_blk"]["kind"], plugins["memory_blk"]["protocol"]) == ("KIND_PYTHON", "virtio_blk")
    assert plugins["old_engine"]["role"] == "ROLE_CRYPTO_ENGINE"
    assert plugins["memory_blk"]["source"] == "shapes"


def system_has(module):
    """Returns true if the system's Python, which the agent embeds, finds this module without a search path."""
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(["/usr/bin/python3", "-c", code], env=environment, check=False).returncode == 0


@pytest.mark.parametrize("with_pypi", [False, True], ids=["the system's packages", "PyPI's protobuf and grpcio"])
def test_other_packages_on_the_search_path(bin_dir, work_dir, target, with_pypi):
    """With the package spdk of PyPI, and other versions of protobuf and grpcio, on the search path. Otherwise grpcio is
    there only if the system's package of it is installed, and plugins find the agent's replacement."""
    path = f"{PLUGINS}:{pathlib.Path(grpc.__file__).parents[1]}" if with_pypi else str(PLUGINS)
    with start(bin_dir, work_dir, target, ["tells_versions"], ["memory_nvme"], env={"PYTHONPATH": path}) as agent:
        assert create(agent, "nvme", 1) == "memory_nvme:1"
        log = agent.process.log()
    assert f"grpc has a server: {with_pypi or system_has('grpc')}" in log
    assert f"spdk of PyPI is there: {with_pypi or system_has('spdk')}" in log


def test_an_engine_encrypts(bin_dir, work_dir, target):
    """An engine from before tweak modes, which stores the parameters that it gets."""
    volume = target.make_malloc_volume(size_mib=1)
    nqn, port = "nqn.2016-06.io.spdk:encrypted", free_port()
    with start(bin_dir, work_dir, target, ["one_engine"], ["nvmf_tcp"], crypto={"name": "old_engine"}) as agent:
        handle = agent.client.create_nvmf_tcp(nqn, port)
        request = wire.sma.AttachVolumeRequest(device_handle=handle)
        request.volume.volume_id = volume.bytes
        request.volume.crypto.key = b"0123456789abcdef0123456789abcdef"
        request.volume.crypto.tweak_mode = wire.sma.VolumeCryptoParameters.TWEAK_MODE_INCR_512_FULL_LBA
        with pytest.raises(grpc.RpcError) as error:
            agent.client.stub.AttachVolume(request)
        assert error.value.code().name == "INVALID_ARGUMENT"
        assert "no tweak modes" in error.value.details()
        request.volume.crypto.tweak_mode = 0
        agent.client.stub.AttachVolume(request)
        agent.client.stub.AttachVolume(request)
        agent.client.detach_volume(handle, volume)
        assert b"0123456789abcdef" not in agent.process.log().encode()


@pytest.mark.parametrize("plugins", [[], ["one_nvme"]], ids=["without", "with"])
def test_the_interpreter_is_loaded_only_with_a_python_plugin(bin_dir, work_dir, target, plugins):
    with start(bin_dir, work_dir, target, plugins, ["nvmf_tcp"]) as agent:
        maps = pathlib.Path(f"/proc/{agent.process.pid}/maps").read_text()
    assert ("libpython" in maps) == bool(plugins)
