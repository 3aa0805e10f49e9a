# SPDX-License-Identifier: Apache-2.0
"""Tests that sma-target answers like a real SPDK target whose bdevs are on an iSCSI target: the recordings are replayed
against tgtd with the recorded units."""

import pytest

import recordings
from harness.agent import free_port
from harness.iscsi_target import IscsiTarget
from harness.target import Target

UNITS = "against tgt"


@pytest.fixture
def target(bin_dir, work_dir):
    with Target(bin_dir, work_dir) as running:
        yield running


def with_port(value, port):
    """Returns the call with `port` in place of the recorded target's."""
    if isinstance(value, dict):
        return {key: with_port(inner, port) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_port(inner, port) for inner in value]
    return value.replace("127.0.0.1:3260", f"127.0.0.1:{port}").replace("127.0.0.1/", f"127.0.0.1:{port}/") \
        if isinstance(value, str) else value


def test_answers(target, work_dir):
    calls = recordings.read("iscsi")
    # During the first part of the recording, no target is listening.
    with_units = next(index for index, call in enumerate(calls) if call.note == UNITS)
    check(target, calls[:with_units], free_port())
    with IscsiTarget(work_dir) as portal:
        portal.make_lun(0)
        portal.make_lun(1, chap=("user0", "secretsecret1"))
        check(target, calls[with_units:], portal.port)


def check(target, calls, port):
    with target.connect() as connection:
        for call in calls:
            call.answer = with_port(call.answer, port)
            connection.send(call.method, with_port(call.params, port))
            answer = connection.receive()
            if call.method == "bdev_get_bdevs":
                keep_own_uuid(call.answer["result"][0], answer["result"][0])
            assert not recordings.answer_differences(call, answer), call.place


def keep_own_uuid(recorded, ours):
    """Ignores the UUID, which the recorded target generates at random."""
    assert ours["aliases"] == [ours["uuid"]]
    recorded["uuid"] = ours["uuid"]
    recorded["aliases"] = ours["aliases"]
