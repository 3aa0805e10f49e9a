# SPDX-License-Identifier: Apache-2.0
"""Tests that sma-target answers like a real SPDK target that is the host of remote volumes: the recordings are replayed
on two targets, a local one and the remote one to which some of the calls were made."""

import json
import socket

import pytest

import recordings
from harness.target import Target
from harness.wait import wait_until

# Each recording is replayed on new targets; within one, the state is kept.
FILES = [["nvme_discovery", "nvme_controller"], ["nvme_discovery_hosts"]]
ON_REMOTE = "on the remote target"

# Values of the remote target, which is sma-target in this test.
OWN_VALUES = {"firmware_revision", "vendor_id", "nvme_version", "preferred_write_alignment",
              "preferred_write_granularity", "optimal_write_size", "preferred_unmap_alignment",
              "preferred_unmap_granularity", "memory_domains"}
# Answers that contain everything that was recorded earlier.
OWN_HISTORY = {"notify_get_notifications"}
# By FILE:LINE: states that sma-target shows only briefly after a service has failed.
PASSING = {"nvme_discovery_hosts:9": []}


class Ports:
    """Free ports that replace the recorded ones, so that tests can run concurrently."""

    def __init__(self):
        self._ports = {}

    def of(self, recorded):
        if recorded not in self._ports:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self._ports[recorded] = str(free.getsockname()[1])
        return self._ports[recorded]

    def replace(self, value):
        """Returns the call with the ports of this test in every "trsvcid"."""
        if isinstance(value, dict):
            return {key: self.of(inner) if key == "trsvcid" else self.replace(inner)
                    for key, inner in value.items()}
        return [self.replace(inner) for inner in value] if isinstance(value, list) else value


@pytest.fixture(scope="module", params=FILES, ids="+".join)
def replay(request, bin_dir, module_work_dir):
    names = request.param
    with Target(bin_dir, module_work_dir, name=f"{names[0]}-remote") as remote, \
            Target(bin_dir, module_work_dir, name=f"{names[0]}-local") as local:
        yield names, remote, local


def answer_of(target, method, params):
    with target.connect() as client:
        client.send(method, params)
        answer = client.receive()
    return {key: answer[key] for key in ("result", "error") if key in answer}


def normalised(value, field=None):
    """Sorts lists of addresses, whose order is not defined."""
    if isinstance(value, dict):
        return {key: normalised(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        items = [normalised(inner) for inner in value]
        ordered = field not in ("listen_addresses", "referrals")
        return items if ordered else sorted(items, key=lambda item: json.dumps(item, sort_keys=True))
    return value


def check(call, target, ports):
    """Asserts that the target soon answers as recorded: the effects of another target take a moment to become
    visible."""
    expected = recordings.Call(call.place, call.method, None, normalised(ports.replace(call.answer)))
    params = ports.replace(call.params)

    def same():
        answer = answer_of(target, call.method, params)
        if answer.get("result", ...) == PASSING.get(call.place):
            return True
        differences = recordings.answer_differences(expected, normalised(answer))
        assert not differences, f"{call.place} {call.method}: {differences}"
        return True

    if call.method == "bdev_get_bdevs":
        wait_until(same, 10, call.place)
    else:
        same()


def test_answers(replay, monkeypatch):
    monkeypatch.setattr(recordings, "OWN_VALUES", recordings.OWN_VALUES | OWN_VALUES)
    names, remote, local = replay
    ports = Ports()
    for name in names:
        for call in recordings.read(name):
            if call.method in OWN_HISTORY:
                assert recordings.type_name(answer_of(local, call.method, call.params)["result"]) == "list"
            else:
                check(call, remote if call.note.startswith(ON_REMOTE) else local, ports)
