# SPDX-License-Identifier: Apache-2.0
"""Tests volumes of one sma-target that another one exports again: attached with calls and through discovery, with one
path and two, while the remote restarts and changes."""

import json
import uuid

import pytest

from harness.remote import DISCOVERY_NQN, ExportingTarget, NvmeTool, address, finish_load
from harness.target import RpcError, Target
from harness.wait import wait_until

REMOTE_NQN = "nqn.2016-06.io.spdk:remote0"
LOCAL_NQN = "nqn.2016-06.io.spdk:local0"


@pytest.fixture
def local(bin_dir, work_dir):
    # Two reactors, each with its own connections.
    with ExportingTarget(bin_dir, work_dir, ["--cores", "2"], name="local") as running:
        yield running


@pytest.fixture
def host(bin_dir):
    return NvmeTool(bin_dir)


def attach(local, port, **options):
    return local.call("bdev_nvme_attach_controller", name="nv0", subnqn=REMOTE_NQN, **address(port), **options)


def has_bdev(target, name):
    try:
        return bool(target.call("bdev_get_bdevs", name=str(name)))
    except RpcError:
        return False


def states(local):
    return [path["state"] for path in local.call("bdev_nvme_get_controllers", name="nv0")[0]["ctrlrs"]]


def test_data_are_read_and_written(remote, local, host):
    volume = remote.export_file()
    assert attach(local, remote.make_subsystem(REMOTE_NQN, volume)) == ["nv0n1"]
    port = local.make_subsystem(LOCAL_NQN, volume)
    for options in ([], ["--io-size", "4k", "--size", "8M", "--depth", "64"], ["--io-size", "1M"]):
        assert "every byte is as it was written" in host.run("verify", port, LOCAL_NQN, *options)


@pytest.mark.parametrize("digests", [{"hdgst": True}, {"ddgst": True}, {"hdgst": True, "ddgst": True}])
def test_data_are_read_and_written_with_digests(remote, local, host, digests):
    volume = remote.export_file()
    attach(local, remote.make_subsystem(REMOTE_NQN, volume), **digests)
    host.run("verify", local.make_subsystem(LOCAL_NQN, volume), LOCAL_NQN, "--size", "8M")


def test_io_survives_a_restart_of_the_remote(remote, local, host):
    volume = remote.export_file()
    attach(local, remote.make_subsystem(REMOTE_NQN, volume), ctrlr_loss_timeout_sec=-1, reconnect_delay_sec=1)
    port = local.make_subsystem(LOCAL_NQN, volume)
    load = host.start_load(port, LOCAL_NQN, 4, "--connections", "2")
    for _ in range(2):
        wait_until(lambda: remote.call("bdev_get_iostat")["bdevs"][0]["num_write_ops"] > 100, 20, "I/O")
        remote.kill()
        wait_until(lambda: states(local) != ["enabled"], 20, "seen")
        remote.restart()
        wait_until(lambda: states(local) == ["enabled"], 20, "connected again")
    assert finish_load(load) > 100
    host.run("verify", port, LOCAL_NQN, "--size", "8M")


def test_io_fails_after_the_configured_time(remote, local, host):
    volume = remote.export_file()
    attach(local, remote.make_subsystem(REMOTE_NQN, volume), ctrlr_loss_timeout_sec=-1, reconnect_delay_sec=1,
           fast_io_fail_timeout_sec=1)
    port = local.make_subsystem(LOCAL_NQN, volume)
    load = host.start_load(port, LOCAL_NQN, 30)
    wait_until(lambda: remote.call("bdev_get_iostat")["bdevs"][0]["num_write_ops"] > 100, 20, "I/O")
    remote.kill()
    with pytest.raises(AssertionError, match="ended with status"):
        finish_load(load)
    remote.restart()
    wait_until(lambda: states(local) == ["enabled"], 20, "connected again")
    host.run("verify", port, LOCAL_NQN, "--size", "8M")


def test_one_of_two_paths_is_lost_during_io(remote, local, host):
    volume = remote.export_file()
    first = remote.make_subsystem(REMOTE_NQN, volume)
    second = remote.make_subsystem("nqn.2016-06.io.spdk:other")
    remote.call("nvmf_subsystem_add_listener", nqn=REMOTE_NQN, listen_address=address(second))
    attach(local, first)
    assert attach(local, second, multipath="multipath") == ["nv0n1"]
    port = local.make_subsystem(LOCAL_NQN, volume)
    load = host.start_load(port, LOCAL_NQN, 4)
    for cut in (first, second, first):
        remote.call("nvmf_subsystem_remove_listener", nqn=REMOTE_NQN, listen_address=address(cut))
        wait_until(lambda: states(local).count("enabled") == 1, 20, "one path lost")
        remote.call("nvmf_subsystem_add_listener", nqn=REMOTE_NQN, listen_address=address(cut))
        wait_until(lambda: states(local) == ["enabled", "enabled"], 20, "both paths back")
    assert finish_load(load) > 100
    host.run("verify", port, LOCAL_NQN, "--size", "8M")


def test_namespaces_follow_the_remote(remote, local):
    first, second = remote.make_malloc_volume(8), remote.make_malloc_volume(8)
    attach(local, remote.make_subsystem(REMOTE_NQN, first))
    assert not has_bdev(local, second)
    remote.call("nvmf_subsystem_add_ns", nqn=REMOTE_NQN, namespace={"bdev_name": str(second)})
    wait_until(lambda: has_bdev(local, second), 10, "new namespace")
    remote.call("nvmf_subsystem_remove_ns", nqn=REMOTE_NQN, nsid=1)
    wait_until(lambda: not has_bdev(local, first), 10, "the namespace is removed")
    assert has_bdev(local, second)


def test_a_growing_disk_is_detected_through_both_targets(remote, local, host):
    name = f"null-{uuid.uuid4().hex[:8]}"
    remote.call("bdev_null_create", name=name, block_size=512, num_blocks=16384)
    attach(local, remote.make_subsystem(REMOTE_NQN, name))
    local.make_subsystem(LOCAL_NQN, "nv0n1")
    remote.call("bdev_null_resize", name=name, new_size=16)
    wait_until(lambda: local.call("bdev_get_bdevs", name="nv0n1")[0]["num_blocks"] == 32768, 10, "the new size")


def test_many_volumes_behind_one_discovery_service(remote, local):
    count = 200
    port = None  # the same for all
    nqns = [f"nqn.2016-06.io.spdk:many-{n}" for n in range(count)]
    volumes = []
    for n, nqn in enumerate(nqns):
        volume = uuid.UUID(int=0x40008000000000000000 << 48 | n + 1)
        remote.call("bdev_null_create", name=f"null{n}", block_size=512, num_blocks=2048, uuid=str(volume))
        volumes.append(volume)
        port = remote.make_subsystem(nqn, f"null{n}", port=port)
    remote.call("nvmf_subsystem_add_listener", nqn=DISCOVERY_NQN, listen_address=address(port))
    assert local.call("bdev_nvme_start_discovery", name="d", wait_for_attach=True, attach_timeout_ms=60000,
                      **address(port))
    assert all(has_bdev(local, volume) for volume in volumes)
    remote.call("nvmf_delete_subsystem", nqn=nqns[0])
    wait_until(lambda: not has_bdev(local, volumes[0]), 10, "gone with its log entry")
    assert local.call("bdev_nvme_stop_discovery", name="d")
    assert local.call("bdev_get_bdevs") == []
    assert local.call("bdev_nvme_get_controllers") == []


def test_the_configuration_can_be_saved_and_loaded(remote, bin_dir, work_dir):
    volume = remote.export_file()
    port = remote.make_subsystem(REMOTE_NQN, volume)
    with Target(bin_dir, work_dir, name="first") as first:
        first.call("bdev_nvme_set_options", keep_alive_timeout_ms=5000)
        attach(first, port, hdgst=True)
        saved = {"subsystems": [{"subsystem": "bdev", "config": first.call("framework_get_config", name="bdev")}]}
    path = work_dir / "config.json"
    path.write_text(json.dumps(saved))
    with Target(bin_dir, work_dir, ["-c", path], name="second") as second:
        assert has_bdev(second, volume)
        assert second.call("framework_get_config", name="bdev") == saved["subsystems"][0]["config"]
