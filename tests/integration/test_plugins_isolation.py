# SPDX-License-Identifier: Apache-2.0
"""Tests that Python plugins that are slow or hang do not affect other calls."""

import json
import os
import pathlib
import signal
import subprocess

from harness.agent import free_port
from harness.plugins import code_of, create, device_request, start
from harness.wait import wait_until

NQN = "nqn.2016-06.io.spdk:built-in"
HANGS = 2  # the plugin `unruly` hangs for a device whose physical id ends with this digit


def hanging(agent, count, timeout_s):
    """Makes calls that the plugin `unruly` never answers."""
    requests = [device_request("nvme", HANGS + 100 * i) for i in range(count)]
    return [agent.client.stub.CreateDevice.future(request, timeout=timeout_s) for request in requests]


def test_hanging_calls_time_out_and_are_bounded(bin_dir, work_dir, target):
    with start(bin_dir, work_dir, target, ["unruly"], ["unruly"]) as agent:
        calls = hanging(agent, 24, 1.5)
        assert create(agent, "nvme", 100, timeout=1.4) == "unruly:100"
        assert {call.code().name for call in calls} == {"DEADLINE_EXCEEDED"}
        wait_until(lambda: code_of(lambda: create(agent, "nvme", 200)) == "UNAVAILABLE", 5, "calls are refused")


def test_hanging_calls_leave_workers_for_others(bin_dir, work_dir, target):
    with start(bin_dir, work_dir, target, ["unruly"], ["unruly", "nvmf_tcp"], max_calls=2) as agent:
        calls = hanging(agent, 6, 20)
        wait_until(lambda: agent.process.log().count("CreateDevice ") >= 6, 5, "they have arrived")
        handle = agent.client.create_nvmf_tcp(NQN, free_port(), timeout=10)
        agent.client.delete_device(handle, timeout=10)
        # The plugin is not called for a handle of one of the agent's own device types.
        agent.client.delete_device(handle, timeout=10)
        assert not any(call.done() for call in calls)
        for call in calls:
            call.cancel()


def test_a_hanging_type_does_not_delay_recreation(bin_dir, work_dir, target):
    with start(bin_dir, work_dir, target, ["hangs_again"], ["hangs_again", "nvmf_tcp"]) as agent:
        create(agent, "nvme", 1)
        agent.client.create_nvmf_tcp(NQN, free_port())
        target.kill()
        target.start()
        wait_until(lambda: target.subsystem(NQN), 8, "the device of the other type is recreated")


def test_threads_of_plugins_yield(bin_dir, work_dir, target):
    with start(bin_dir, work_dir, target, ["unruly"], ["unruly"]) as agent:
        create(agent, "nvme", 100)
        threads = [int(path.name) for path in pathlib.Path(f"/proc/{agent.process.pid}/task").iterdir()]
        own, policy = os.getpriority(os.PRIO_PROCESS, agent.process.pid), os.sched_getscheduler(agent.process.pid)
        seen = set()
        for thread in threads:
            is_plugins = pathlib.Path(f"/proc/{agent.process.pid}/task/{thread}/comm").read_text() == "sma-python\n"
            seen.add((is_plugins, os.getpriority(os.PRIO_PROCESS, thread) - own, os.sched_getscheduler(thread)))
    assert seen == {(False, 0, policy), (True, min(10, 19 - own), os.SCHED_BATCH)}


class Callers:
    """64 callers that continuously call the Python device type of an agent while they are enabled. A context
    manager."""

    def __init__(self, bin_dir, agent):
        command = [bin_dir / "agent_load", "--address", agent.address, "--method", "create_nvme", "--callers", "64",
                   "--count", "64", "--seconds", "600"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr.readline() == "calling\n"
        self.let(False)

    def let(self, go_on):
        self._process.send_signal(signal.SIGCONT if go_on else signal.SIGSTOP)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.communicate()


def test_a_built_in_type_is_not_slowed_down(bin_dir, work_dir, target):
    """Measures a call of a built-in type alone, beside 64 callers of a Python type of the same agent and, as the
    baseline for the load on the processors, beside 64 callers of another agent. The measurements alternate. Other load
    on the host only increases the times, so the best round of each counts, and there are more rounds on a loaded
    host."""
    port = str(free_port())

    def turn_ms(agent, seconds=0.2):
        """Returns the median and 99th percentile of the calls of one caller for an existing device."""
        command = [bin_dir / "agent_load", "--address", agent.address, "--method", "create", "--trsvcid", port,
                   "--seconds", str(seconds), "--pause-ms", "0.5"]
        result = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)
        assert result["errors"] == 0, result["first_error"]
        return result["median_ms"], result["p99_ms"]

    config = {"plugins": ["unhurried"], "devices": ["nvmf_tcp", "unhurried"], "env": {"SMA_LOGLEVEL": "info"}}
    turns = {"alone": [], "beside another agent's": [], "beside its own": []}

    def best():
        return [min(results)[0] for results in turns.values()]

    def is_slowed():
        alone, elsewhere, beside = best()
        return beside > 1.1 * max(alone, elsewhere)

    with start(bin_dir, work_dir, target, **config) as agent, \
            start(bin_dir, work_dir, target, name="other", **config) as other:
        turns["alone"] += [turn_ms(agent) for _ in range(6)]
        with Callers(bin_dir, other) as of_other, Callers(bin_dir, agent) as of_agent:
            while len(turns["beside its own"]) < 8 or (is_slowed() and len(turns["beside its own"]) < 32):
                of_other.let(True)
                turns["beside another agent's"].append(turn_ms(agent))
                of_other.let(False)
                of_agent.let(True)
                turns["beside its own"].append(turn_ms(agent))
                of_agent.let(False)
        # The agent logs a limited number of calls each second.
        calls = agent.process.log().count("CreateDevice nvme ")
    for name, results in turns.items():
        print(f"{name:24} median {min(results)[0]:.3f} ms, p99 {min(p99 for _, p99 in results):.3f} ms")
    assert calls > 64, "the callers were there"
    assert not is_slowed(), best()
