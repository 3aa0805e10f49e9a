# SPDX-License-Identifier: Apache-2.0
"""Tests Python plugins that extend the agent's own device types, and the limits that the agent handles for all
plugins."""

import uuid

import pytest

from harness import wire
from harness.agent import free_port
from harness.plugins import code_of, create, set_qos, start
from harness.target import Target
from harness.wait import wait_until

NVME_NQN = "nqn.2016-06.io.spdk:vfiouser-3"


@pytest.fixture
def target(bin_dir, work_dir):
    with Target(bin_dir, work_dir, ["-S", work_dir]) as running:
        yield running


def limits_of(target, bdev):
    return target.call("bdev_get_bdevs", name=str(bdev))[0]["assigned_rate_limits"]


def is_limited(target, bdev, **limits):
    return limits.items() <= limits_of(target, bdev).items()


def test_a_built_in_type_extended(bin_dir, work_dir, target):
    volume = target.make_malloc_volume()
    with start(bin_dir, work_dir, target, ["extends_nvmf_tcp"], ["polite_nvmf_tcp"]) as agent:
        client = agent.client
        nqn = "nqn.2016-06.io.spdk:polite"
        assert code_of(lambda: client.create_nvmf_tcp(nqn, 4420, hosts=["nqn.2000-01.com:x"])) == "PERMISSION_DENIED"
        assert target.subsystem(nqn) is None
        hosts = ["nqn.2014-08.org.example:me"]
        handle = client.create_nvmf_tcp(nqn, free_port(), hosts=hosts)
        assert handle == f"nvmf-tcp:{nqn}"
        client.attach_volume(handle, volume)
        client.attach_volume(handle, volume)
        assert [n["uuid"] for n in target.subsystem(nqn)["namespaces"]] == [str(volume)]
        agent.stop()
        agent.start()
        agent.client.detach_volume(handle, volume)
        assert target.subsystem(nqn)["namespaces"] == []
        agent.client.delete_device(handle)
        assert target.subsystem(nqn) is None


@pytest.fixture
def pci(bin_dir, work_dir, target):
    """An agent with both extended device types for VMs, their sockets in `work_dir`; without a VM."""
    names = (("disk", str(work_dir)), ("controller", str(work_dir / "sockets")))
    devices = [{"name": name, "params": {"sock_path": folder}} for name, folder in names]
    with start(bin_dir, work_dir, target, ["extends_pci_types"], devices,
               crypto={"name": "bdev_crypto"}, sealing_key={"file": str(sealing_key(work_dir))}) as agent:
        yield agent


def sealing_key(work_dir):
    path = work_dir / "sealing.key"
    path.write_bytes(bytes(range(32)))
    path.chmod(0o600)
    return path


def controllers(target):
    return {c["ctrlr"]: c["backend_specific"]["block"]["bdev"] for c in target.call("vhost_get_controllers")}


def test_an_extended_vm_disk(bin_dir, work_dir, target, pci):
    volume, other = target.make_file_volume(16), target.make_malloc_volume(16)
    assert code_of(lambda: create(pci, "virtio_blk", 100, volume)) == "PERMISSION_DENIED"
    assert code_of(lambda: create(pci, "virtio_blk", 3)) == "INVALID_ARGUMENT", "no volume"
    assert code_of(lambda: create(pci, "virtio_blk", 3, volume, virtual_id=1)) == "INVALID_ARGUMENT"
    assert code_of(lambda: create(pci, "virtio_blk", 3, uuid.uuid4())) == "NOT_FOUND"
    assert controllers(target) == {}
    handle = create(pci, "virtio_blk", 3, volume)
    assert handle == "virtio_blk:sma-3"
    assert create(pci, "virtio_blk", 3, volume) == handle
    assert code_of(lambda: create(pci, "virtio_blk", 3, other)) == "ALREADY_EXISTS"
    assert code_of(lambda: create(pci, "virtio_blk", 4, volume)) == "ALREADY_EXISTS"
    assert code_of(lambda: pci.client.detach_volume(handle, volume)) == "UNIMPLEMENTED"
    assert code_of(lambda: pci.client.attach_volume(handle, other)) == "UNIMPLEMENTED"
    made = controllers(target)
    assert list(made) == ["sma-3"] and (work_dir / "sma-3").exists()

    # The limits of the device are those of its volume.
    set_qos(pci, handle, rw_iops=5)
    set_qos(pci, handle, volume, keep=True, rd_bandwidth=7)
    set_qos(pci, handle, keep=True)
    assert code_of(lambda: set_qos(pci, handle, keep=True, rd_iops=1)) == "INVALID_ARGUMENT"
    assert is_limited(target, volume, rw_ios_per_sec=5000, r_mbytes_per_sec=7)
    capabilities = pci.client.stub.GetQosCapabilities(
        wire.sma.GetQosCapabilitiesRequest(device_type=wire.sma.DEVICE_TYPE_VIRTIO_BLK))
    assert capabilities.max_device_caps.rw_iops and not capabilities.max_device_caps.rd_iops

    restart_both(target, pci, volume)
    wait_until(lambda: controllers(target) == made, 20, "the controller is recreated")
    wait_until(lambda: is_limited(target, volume, rw_ios_per_sec=5000, r_mbytes_per_sec=7), 20, "the limits are set")
    assert create(pci, "virtio_blk", 3, volume) == handle
    pci.client.delete_device(handle)
    pci.client.delete_device(handle)
    assert controllers(target) == {}


def restart_both(target, agent, volume):
    agent.kill()
    target.kill()
    target.start()
    target.make_file_volume(16, volume=volume)
    agent.start()


def test_an_extended_vm_controller(bin_dir, work_dir, target, pci):
    volume = target.make_file_volume(16)
    assert code_of(lambda: create(pci, "nvme", 100)) == "PERMISSION_DENIED"
    assert code_of(lambda: create(pci, "nvme", 3, virtual_id=1)) == "INVALID_ARGUMENT"
    handle = create(pci, "nvme", 3)
    assert handle == f"nvme:{NVME_NQN}"
    assert create(pci, "nvme", 3) == handle
    assert (work_dir / "sockets/vfiouser-3/cntrl").exists()
    pci.client.attach_volume(handle, volume)
    pci.client.attach_volume(handle, volume)
    assert code_of(lambda: pci.client.attach_volume(handle, uuid.uuid4())) == "NOT_FOUND"
    set_qos(pci, handle, volume, rw_bandwidth=9)
    assert code_of(lambda: set_qos(pci, handle, rw_bandwidth=9)) == "INVALID_ARGUMENT", "no limits of its own"
    assert code_of(lambda: set_qos(pci, handle, volume, wr_iops=9)) == "INVALID_ARGUMENT"
    assert is_limited(target, volume, rw_mbytes_per_sec=9)

    def exported():
        subsystem = target.subsystem(NVME_NQN)
        return [n["uuid"] for n in subsystem["namespaces"]] if subsystem else None
    restart_both(target, pci, volume)
    wait_until(lambda: exported() == [str(volume)], 20, "the device is recreated")
    wait_until(lambda: is_limited(target, volume, rw_mbytes_per_sec=9), 20, "the limits are set")
    assert (work_dir / "sockets/vfiouser-3/cntrl").exists()
    pci.client.detach_volume(handle, volume)
    assert exported() == []
    pci.client.delete_device(handle)
    assert exported() is None and not (work_dir / "sockets/vfiouser-3").exists()


def test_an_encrypted_disk_of_an_extended_type(target, pci):
    volume = target.make_file_volume(16)
    request = wire.sma.CreateDeviceRequest()
    request.virtio_blk.physical_id = 1
    request.volume.volume_id = volume.bytes
    request.volume.crypto.cipher = wire.sma.VolumeCryptoParameters.AES_XTS
    request.volume.crypto.key, request.volume.crypto.key2 = b"12" * 16, b"34" * 16
    handle = pci.client.stub.CreateDevice(request, timeout=20).handle
    assert pci.client.stub.CreateDevice(request, timeout=20).handle == handle
    layer = f"sma-crypto-{volume}"
    assert controllers(target) == {"sma-1": layer}
    set_qos(pci, handle, rw_iops=2)
    set_qos(pci, handle, volume, keep=True, wr_bandwidth=3)
    assert is_limited(target, layer, rw_ios_per_sec=2000, w_mbytes_per_sec=3)
    assert not any(limits_of(target, volume).values()), "one limiter, on what the host sees"
    restart_both(target, pci, volume)
    wait_until(lambda: controllers(target) == {"sma-1": layer}, 20, "the disk is recreated")
    wait_until(lambda: is_limited(target, layer, rw_ios_per_sec=2000, w_mbytes_per_sec=3), 20, "the limits are set")
    pci.client.delete_device(handle)
    assert [b["uuid"] for b in target.call("bdev_get_bdevs")] == [str(volume)]


def test_limits_of_an_encrypted_volume_of_a_plugin(bin_dir, work_dir, target):
    volume = target.make_malloc_volume(16)
    key = wire.sma.VolumeCryptoParameters(cipher="AES_XTS", key=b"12" * 16, key2=b"34" * 16)
    with start(bin_dir, work_dir, target, ["limited"], ["limited"], crypto={"name": "bdev_crypto"}) as agent:
        handle = create(agent, "nvme", 1)
        agent.client.attach_volume(handle, volume, crypto=key)
        set_qos(agent, handle, volume, rw_iops=5)
        agent.client.detach_volume(handle, volume)
        agent.client.attach_volume(handle, volume, crypto=key)
        assert is_limited(target, f"sma-crypto-{volume}", rw_ios_per_sec=5000)
        assert not any(limits_of(target, volume).values())


def test_limits_follow_volume_and_device(bin_dir, work_dir, target):
    """The device type is stateless: the agent passes the limits to it again."""
    volume = target.make_file_volume(16)
    bdev = str(volume)

    def clear():
        target.call("bdev_set_qos_limit", name=bdev, rw_ios_per_sec=0, r_mbytes_per_sec=0)

    def is_set():
        return is_limited(target, bdev, rw_ios_per_sec=5000, r_mbytes_per_sec=3)

    with start(bin_dir, work_dir, target, ["limited"], ["limited"]) as agent:
        handle = create(agent, "nvme", 1, volume=volume)
        set_qos(agent, handle, volume, rw_iops=5)
        set_qos(agent, handle, volume, keep=True, rd_bandwidth=3)
        assert code_of(lambda: set_qos(agent, handle, volume, rd_iops=1, rw_iops=8)) == "INVALID_ARGUMENT"
        agent.client.stub.SetQos(wire.sma.SetQosRequest(device_handle=handle, volume_id=volume.bytes))
        set_qos(agent, handle, rw_iops=77)
        assert is_set()

        agent.client.detach_volume(handle, volume)
        clear()
        agent.client.attach_volume(handle, volume)
        assert is_set()

        agent.kill()
        clear()
        agent.start()
        wait_until(is_set, 20, "limits are set by the next agent")
        wait_until(lambda: agent.process.log().count(f"{handle} may do 77") == 2, 20, "the limits of the device")

        target.kill()
        target.start()
        target.make_file_volume(16, volume=volume)
        wait_until(is_set, 20, "limits are set on the next target")
        wait_until(lambda: agent.process.log().count(f"{handle} may do 77") >= 3, 20, "the limits of the device")

        # Recreated objects have the limits of the volume, and none of a deleted device.
        set_qos(agent, handle, volume)
        agent.client.detach_volume(handle, volume)
        agent.client.delete_device(handle)
        count = agent.process.log().count("may do")
        assert create(agent, "nvme", 1, volume=volume) == handle
        agent.kill()
        agent.start()
        wait_until(lambda: agent.process.log().count("serving") >= 2, 20, "it serves again")
        assert not any(limits_of(target, bdev).values())
        assert agent.process.log().count("may do") == count
