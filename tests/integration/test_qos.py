# SPDX-License-Identifier: Apache-2.0
"""Limits of volumes as seen by a host. bench/qos measures longer and prints a table."""

import json
import subprocess

import pytest

from harness import wire
from harness.agent import free_port, start_sma
from harness.target import MIB

NQN = "nqn.2016-06.io.spdk:limited"
KEEP = 2**64 - 1
SECONDS = 1.5
# How far a measurement as short as this one may exceed a limit.
TOLERANCE = 0.06


def assert_limited(bytes_per_second, limit, what=None):
    """Asserts that a limit holds and bounds the rate. How close a host comes to it depends on the load of the test
    system; bench/qos measures that."""
    assert limit / 3 < bytes_per_second < limit * (1 + TOLERANCE), what


class Device:
    """A device with one volume, and a host that requests as much as possible."""

    def __init__(self, bin_dir, agent):
        self.perf, self.agent, self.port = bin_dir / "sma-nvme", agent, free_port()
        self.handle = agent.client.create_nvmf_tcp(NQN, self.port, allow_any_host=True)

    def limit(self, volume, **limits):
        """Sets fields of QosLimit: thousands of I/Os, MiB; others remain unchanged."""
        maximum = dict.fromkeys(("rd_iops", "wr_iops", "rw_iops", "rd_bandwidth", "wr_bandwidth", "rw_bandwidth"), KEEP)
        self.agent.client.stub.SetQos(wire.sma.SetQosRequest(
            device_handle=self.handle, volume_id=volume.bytes, maximum=wire.sma.QosLimit(**{**maximum, **limits})))

    def bytes_per_second(self, read_percent, io_bytes=4096):
        output = subprocess.run(
            [self.perf, "perf", "-s", str(self.port), "-n", NQN, "--json", "--sleep", "--seconds", str(SECONDS),
             "--warm-up", "0.3", "--io-size", str(io_bytes), "--read-percent", str(read_percent)],
            check=True, capture_output=True, text=True, timeout=60).stdout
        return json.loads(output)["bytes_per_second"]


@pytest.fixture
def device(bin_dir, work_dir, target):
    with start_sma(bin_dir, work_dir, socket=str(target.socket), crypto={"name": "bdev_crypto"}) as agent:
        yield Device(bin_dir, agent)


def test_each_limit_and_all_combined(device, target):
    volume = target.make_malloc_volume()
    device.agent.client.attach_volume(device.handle, volume)
    for limits, read_percent, expected in [
            ({"rw_iops": 4}, 50, 4000 * 4096),
            ({"rw_iops": 0, "rd_bandwidth": 20}, 100, 20 * MIB),
            ({"rd_bandwidth": 0, "wr_bandwidth": 15}, 0, 15 * MIB),
            ({"wr_bandwidth": 0, "rw_bandwidth": 30}, 50, 30 * MIB),
            ({"rw_iops": 3, "rd_bandwidth": 50, "wr_bandwidth": 50}, 50, 3000 * 4096)]:
        device.limit(volume, **limits)
        assert_limited(device.bytes_per_second(read_percent), expected, limits)
    device.limit(volume, rw_iops=0, rd_bandwidth=0, wr_bandwidth=0, rw_bandwidth=0)
    assert device.bytes_per_second(50) > 40 * MIB


def test_an_encrypted_volume_has_one_limiter_which_follows_it(device, target):
    volume = target.make_malloc_volume(block_size=4096)
    crypto = wire.sma.VolumeCryptoParameters(key=b"12" * 16, key2=b"34" * 16, cipher="AES_XTS")
    client = device.agent.client
    client.attach_volume(device.handle, volume, crypto=crypto)
    device.limit(volume, rw_bandwidth=10)
    assert_limited(device.bytes_per_second(0), 10 * MIB)
    limited = [bdev["name"] for bdev in target.call("bdev_get_bdevs") if any(bdev["assigned_rate_limits"].values())]
    assert limited == [f"sma-crypto-{volume}"], "what the host sees, and nothing below"
    client.detach_volume(device.handle, volume)
    client.attach_volume(device.handle, volume, crypto=crypto)
    assert_limited(device.bytes_per_second(100), 10 * MIB)
