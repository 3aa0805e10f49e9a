"""sma-target answers as a real SPDK target did when it is the host of remote volumes: the recordings are replayed on
two targets, a local one and the remote one that some of the calls were made to."""

import json
import socket

import pytest

import recordings
from harness.target import Target
from harness.wait import wait_until

# Each on targets of its own; within one, state carries over.
FILES = [["nvme_discovery", "nvme_controller"], ["nvme_discovery_hosts"]]
ON_REMOTE = "on the remote target"

# Values that come from the remote target, which is ours, too, in this test.
OWN_VALUES = {"firmware_revision", "vendor_id", "nvme_version", "preferred_write_alignment",
              "preferred_write_granularity", "optimal_write_size", "preferred_unmap_alignment",
              "preferred_unmap_granularity", "memory_domains"}
# Answers that tell of everything that was recorded before.
OWN_HISTORY = {"notify_get_notifications"}
# By FILE:LINE: what is shown here for a moment only, after a service has given up.
PASSING = {"nvme_discovery_hosts:9": []}


class Ports:
    """Free ports in place of the recorded ones, so that tests may run side by side."""

    def __init__(self):
        self._ports = {}

    def of(self, recorded):
        if recorded not in self._ports:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self._ports[recorded] = str(free.getsockname()[1])
        return self._ports[recorded]

    def replace(self, value):
        """The same with our ports in every "trsvcid"."""
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
    """Lists of addresses have no order."""
    if isinstance(value, dict):
        return {key: normalised(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        items = [normalised(inner) for inner in value]
        ordered = field not in ("listen_addresses", "referrals")
        return items if ordered else sorted(items, key=lambda item: json.dumps(item, sort_keys=True))
    return value


def check(call, target, ports):
    """Asserts that the target answers as recorded, soon: what another target tells takes a moment to be seen."""
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
