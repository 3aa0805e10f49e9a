# SPDX-License-Identifier: Apache-2.0
"""Tests disks on an iSCSI target (tgtd) that sma-target exports over NVMe/TCP."""

import json
import os

import pytest

from harness.iscsi_target import IscsiTarget
from harness.remote import ExportingTarget, NvmeTool, finish_load
from harness.target import MIB, RpcError
from harness.wait import wait_until

NQN = "nqn.2016-06.io.spdk:iscsi"
INITIATOR = "iqn.2016-06.io.spdk:init"
SECRET = "secretsecret1"


@pytest.fixture
def portal(work_dir):
    with IscsiTarget(work_dir) as running:
        yield running


@pytest.fixture
def target(bin_dir, work_dir):
    with ExportingTarget(bin_dir, work_dir, name="target") as running:
        yield running


@pytest.fixture
def host(bin_dir):
    return NvmeTool(bin_dir)


def create(target, url, name="is0"):
    return target.call("bdev_iscsi_create", name=name, url=url, initiator_iqn=INITIATOR)


def write_count(target):
    return target.call("bdev_get_iostat")["bdevs"][0]["num_write_ops"]


def bdev(target, name="is0"):
    return target.call("bdev_get_bdevs", name=name)[0]


def test_data_are_read_and_written(portal, target, host):
    portal.make_lun(0)
    assert create(target, portal.url(0)) == "is0"
    port = target.make_subsystem(NQN, "is0")
    for options in (["--size", "8M"], ["--io-size", "4k", "--size", "4M", "--depth", "64"],
                    ["--io-size", "2M", "--size", "32M"]):
        assert "every byte is as it was written" in host.run("verify", port, NQN, *options)
    assert os.stat(portal.file(0)).st_blocks > 0


def test_a_portal_with_a_host_name(portal, target, host):
    portal.make_lun(0)
    url = portal.url(0).replace("127.0.0.1", "localhost")
    create(target, url)
    assert bdev(target)["driver_specific"]["iscsi"]["url"] == url
    port = target.make_subsystem(NQN, "is0")
    load = host.start_load(port, NQN, 2)
    wait_until(lambda: write_count(target) > 100, 20, "I/O")
    portal.kill()
    portal.start()
    assert finish_load(load) > 100
    with pytest.raises(RpcError, match="iSCSI error"):
        create(target, portal.url(0).replace("127.0.0.1", "no-such-host.invalid"), "is1")


def test_unmap_and_zeroes(portal, target, host):
    portal.make_lun(0, thin=True)
    create(target, portal.url(0))
    assert bdev(target)["supported_io_types"]["unmap"]
    port = target.make_subsystem(NQN, "is0")
    host.run("verify", port, NQN, "--size", "8M")


def test_chap(portal, target, host, work_dir):
    portal.make_lun(0, chap=("user0", SECRET))
    for credentials in ("", "user0%wrongwrong123@", f"other%{SECRET}@"):
        with pytest.raises(RpcError, match="iSCSI error"):
            create(target, portal.url(0, credentials))
    create(target, portal.url(0, f"user0%{SECRET}@"))
    host.run("verify", target.make_subsystem(NQN, "is0"), NQN, "--size", "4M")
    # The secret is not shown.
    told = json.dumps([bdev(target), target.call("framework_get_config", name="bdev")]) + target.process.log()
    assert SECRET not in told
    assert bdev(target)["driver_specific"]["iscsi"]["url"] == portal.url(0)


def test_mutual_chap(portal, target):
    portal.make_lun(0, chap=("user0", SECRET), target_chap=("tgt0", "sturgeon12345"))
    url = portal.url(0, f"user0%{SECRET}@")
    with pytest.raises(RpcError, match="iSCSI error"):
        create(target, f"{url}?target_user=tgt0&target_password=wrongwrong123")
    create(target, f"{url}?target_user=tgt0&target_password=sturgeon12345")
    assert bdev(target)["driver_specific"]["iscsi"]["url"] == portal.url(0)


def test_the_same_unit_has_the_same_uuid(portal, target):
    portal.make_lun(0)
    portal.make_lun(1)
    create(target, portal.url(0))
    first = bdev(target)["uuid"]
    create(target, portal.url(1), "is1")
    assert bdev(target, "is1")["uuid"] != first
    # A second target has the same unit: two bdevs would overwrite each other's data.
    with pytest.raises(RpcError, match="busy"):
        create(target, portal.url(0), "is2")
    target.call("bdev_iscsi_delete", name="is0")
    create(target, portal.url(0), "again")
    assert bdev(target, "again")["uuid"] == first
    with pytest.raises(RpcError, match="File exists"):
        create(target, portal.url(0), "again")


def test_io_survives_a_restart_of_the_portal(portal, target, host):
    portal.make_lun(0)
    create(target, portal.url(0))
    port = target.make_subsystem(NQN, "is0")
    load = host.start_load(port, NQN, 5, "--connections", "2")

    for _ in range(2):
        before = write_count(target)
        wait_until(lambda seen=before: write_count(target) > seen + 100, 20, "I/O")
        portal.kill()
        portal.start()
    assert finish_load(load) > 100
    host.run("verify", port, NQN, "--size", "8M")


def test_io_does_not_wait_forever(portal, target, host):
    portal.make_lun(0)
    target.call("bdev_iscsi_set_options", timeout_sec=2)
    create(target, portal.url(0))
    port = target.make_subsystem(NQN, "is0")
    load = host.start_load(port, NQN, 20)
    wait_until(lambda: write_count(target) > 100, 20, "I/O")
    portal.kill()
    with pytest.raises(AssertionError):
        finish_load(load)


def test_deleting_while_the_portal_is_down(portal, target, host):
    portal.make_lun(0)
    target.call("bdev_iscsi_set_options", timeout_sec=0)
    create(target, portal.url(0))
    load = host.start_load(target.make_subsystem(NQN, "is0"), NQN, 20)
    wait_until(lambda: write_count(target) > 100, 20, "I/O")
    portal.kill()
    assert target.call("bdev_iscsi_delete", name="is0") is True
    with pytest.raises(AssertionError):
        finish_load(load)


def test_a_new_size_is_detected(portal, target, host):
    portal.make_lun(0, size_mib=64)
    create(target, portal.url(0))
    port = target.make_subsystem(NQN, "is0")
    host.run("verify", port, NQN, "--size", "4M")
    portal.resize(0, 128)
    wait_until(lambda: bdev(target)["num_blocks"] == 128 * MIB // 512, 20, "the new size")
    host.run("verify", port, NQN, "--size", "128M", "--io-size", "1M")


def test_a_replaced_unit_is_not_written_to(portal, target, host):
    portal.make_lun(0)
    target.call("bdev_iscsi_set_options", timeout_sec=2)
    create(target, portal.url(0))
    port = target.make_subsystem(NQN, "is0")
    host.run("verify", port, NQN, "--size", "4M")
    portal.kill()
    portal.rename_unit(0, "another")
    portal.start()
    with pytest.raises(AssertionError):
        host.run("verify", port, NQN, "--size", "4M")
    assert "replaced by another one" in target.process.log()
