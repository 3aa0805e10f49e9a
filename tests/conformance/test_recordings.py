# SPDX-License-Identifier: Apache-2.0
"""Tests that sma-target answers like a real SPDK target: all recordings are replayed in order on one target."""

import pytest

import recordings
from harness.target import Target

# The recordings in order; the target's state is kept from one file to the next.
FILES = ["app", "bdev", "bdev_qos", "crypto", "nvmf", "vhost", "vfiouser"]

# Methods of the recordings that the target does not have.
MISSING = {"bdev_split_create", "bdev_split_delete"}

LIMITED = {"rw_ios_per_sec": 2000, "rw_mbytes_per_sec": 0, "r_mbytes_per_sec": 8, "w_mbytes_per_sec": 0}
UNLIMITED = {"rw_ios_per_sec": 0, "rw_mbytes_per_sec": 0, "r_mbytes_per_sec": 0, "w_mbytes_per_sec": 0}

# Calls for which sma-target supports more, by FILE:LINE, with the result that replaces the recorded answer. The
# recorded target could not change limits after they were set, and has no AES-CBC.
RESULTS = {"bdev_qos:3": True, "bdev_qos:5": True, "bdev_qos:7": True, "bdev_qos:11": True, "bdev_qos:12": True,
           "crypto:5": True, "crypto:24": "Crypt3", "crypto:25": True}
# The limits after those calls.
LIMITS = {
    "bdev_qos:4": {**LIMITED, "rw_mbytes_per_sec": 6},
    "bdev_qos:6": {**LIMITED, "rw_mbytes_per_sec": 6, "rw_ios_per_sec": 1000},
    "bdev_qos:8": UNLIMITED,
}
# Additional fields of the first element of sma-target's answer.
FIELDS = {"crypto:20": {"tweak_mode": "SIMPLE_LBA"}}
# A call that undoes a change that sma-target, but not the recorded target, has made.
UNDO = {"crypto:5": ("accel_crypto_key_destroy", {"key_name": "k3"})}


def adapted(call):
    """Returns the recording with the known differences applied."""
    if call.place in RESULTS:
        call.answer = {"result": RESULTS[call.place]}
    if call.place in LIMITS:
        call.answer["result"][0]["assigned_rate_limits"] = LIMITS[call.place]
    if call.place in FIELDS:
        call.answer["result"][0].update(FIELDS[call.place])
    return call


def with_local_paths(value, work_dir, field=""):
    """Replaces the recorded target's files and folders by those in a folder of the test."""
    if isinstance(value, dict):
        return {key: with_local_paths(member, work_dir, key) for key, member in value.items()}
    if isinstance(value, list):
        return [with_local_paths(element, work_dir) for element in value]
    if field in ("filename", "traddr") and isinstance(value, str):
        return value.replace("/var/tmp/", f"{work_dir}/")
    return value


def calls():
    for name in FILES:
        yield from (adapted(call) for call in recordings.read(name))


@pytest.fixture(scope="module")
def replayed_target(bin_dir, module_work_dir):
    with open(module_work_dir / "aio0.img", "wb") as image:
        image.truncate(16384 * 4096)
    (module_work_dir / "vfu" / "dev0").mkdir(parents=True)
    with Target(bin_dir, module_work_dir, ["-S", module_work_dir]) as running:
        yield running


@pytest.fixture(scope="module")
def connection(replayed_target):
    with replayed_target.connect() as client:
        yield client


@pytest.mark.parametrize("call", list(calls()), ids=lambda call: f"{call.place}-{call.method}")
def test_answer(connection, module_work_dir, call):
    sent = connection.send(call.method, with_local_paths(call.params, module_work_dir))
    answer = connection.receive()
    assert answer.pop("id") == sent
    assert answer.pop("jsonrpc") == "2.0"
    if call.method in MISSING:
        assert answer["error"]["code"] == -32601
        return
    call.answer = with_local_paths(call.answer, module_work_dir)
    assert not recordings.answer_differences(call, answer)
    if call.place in UNDO:
        method, params = UNDO[call.place]
        connection.call(method, **params)
