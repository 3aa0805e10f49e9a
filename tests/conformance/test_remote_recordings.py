"""sma-target as the remote side of a recording: the calls that were made to the target with the volumes."""

import pytest

import recordings
from harness.target import Target

REMOTE = "on the remote target"


@pytest.fixture(scope="module")
def connection(bin_dir, module_work_dir):
    with Target(bin_dir, module_work_dir, name="remote") as running, running.connect() as client:
        yield client


@pytest.mark.parametrize("call", [call for call in recordings.read("nvme_discovery") if call.note == REMOTE],
                         ids=lambda call: f"{call.place}-{call.method}")
def test_answer(connection, call):
    connection.send(call.method, call.params)
    assert not recordings.answer_differences(call, connection.receive())
