# SPDX-License-Identifier: Apache-2.0
"""Continuous I/O: a host without a kernel that stops at any error or lost connection."""

import json

from harness.process import Process


class IoStream:
    """Reads and writes at random through a device until it is stopped. A context manager that raises an error at its
    end if any I/O failed or the connection was lost."""

    def __init__(self, bin_dir, work_dir, nqn, port, volume, hostnqn=None, seconds=600, name="io"):
        command = [bin_dir / "sma-nvme", "perf", "-a", "127.0.0.1", "-s", port, "-n", nqn, "--namespace", volume,
                   "--depth", 4, "--read-percent", 50, "--sleep", "--warm-up", 0, "--seconds", seconds, "--json"]
        self.process = Process(name, command + (["-q", hostnqn] if hostnqn else []), work_dir)

    def wait_finished(self, timeout_s):
        """Waits for the end of the run; returns the I/Os per second."""
        status = self.process.wait(timeout_s)
        if status != 0:
            raise ChildProcessError(f"I/O failed, status {status}:\n{self.process.log()[-4000:]}")
        result = json.loads(self.process.log()[self.process.log().index("{"):])
        return result["ios_per_second"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
