# SPDX-License-Identifier: Apache-2.0
"""Programs under test, which are started, monitored and stopped by process id, and whose output is kept in a file."""

import contextlib
import os
import pathlib
import signal
import subprocess

from harness.wait import wait_until


class Process:
    """A running program. A context manager that stops it at the end."""

    def __init__(self, name, command, work_dir, env=None):
        """`work_dir`: the folder of NAME.log, to which output is appended, also after a restart."""
        self.name = name
        self.command = [str(part) for part in command]
        self.log_path = pathlib.Path(work_dir) / f"{name}.log"
        self._killed = False
        with open(self.log_path, "ab") as log:
            self._popen = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log,
                                           stderr=subprocess.STDOUT, env={**os.environ, **(env or {})},
                                           cwd=work_dir)

    @property
    def pid(self):
        return self._popen.pid

    @property
    def exit_status(self):
        """None while it runs; negative: the signal that ended it."""
        return self._popen.poll()

    def log(self):
        return self.log_path.read_text(errors="replace")

    def check_running(self):
        status = self.exit_status
        if status is not None:
            raise ChildProcessError(f"{self.name} ended with {status}:\n{self.log()[-4000:]}")

    def wait_until(self, condition, timeout_s=20.0, what="ready"):
        """Like wait_until(), but fails immediately if the program ends."""
        def checked():
            self.check_running()
            return condition()
        try:
            return wait_until(checked, timeout_s, f"{self.name}: {what}")
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.log()[-4000:]}") from None

    def wait(self, timeout_s=20.0):
        """Waits for the end of the program; returns its exit status."""
        return self._popen.wait(timeout_s)

    def signal(self, number):
        self._popen.send_signal(number)

    def pause(self):
        """Stops all threads with SIGSTOP, and returns when they no longer run."""
        self.signal(signal.SIGSTOP)

        def is_paused():
            states = [stat.read_text().rpartition(")")[2].split()[0]
                      for stat in pathlib.Path(f"/proc/{self.pid}/task").glob("*/stat")]
            return set(states) == {"T"}
        wait_until(is_paused, 10, f"{self.name} is stopped")

    def resume(self):
        self.signal(signal.SIGCONT)

    @contextlib.contextmanager
    def paused(self):
        """Stops all threads for the time of a `with` statement."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def stop(self, timeout_s=20.0):
        """Stops the program with SIGTERM. Raises an error if it does not end in time, or has ended with a status other
        than 0, as after a crash or a sanitizer's report."""
        if self._killed:
            return
        if self.exit_status is None:
            self.signal(signal.SIGTERM)
            try:
                self._popen.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.kill()
                raise TimeoutError(f"{self.name} did not end in {timeout_s} s after SIGTERM:\n"
                                   f"{self.log()[-4000:]}") from None
        if self.exit_status != 0:
            raise ChildProcessError(f"{self.name} ended with {self.exit_status}:\n{self.log()[-8000:]}")

    def kill(self):
        """Kills the program with SIGKILL and waits for its end."""
        self._killed = True
        if self.exit_status is None:
            self._popen.kill()
            self._popen.wait()

    def resident_kib(self):
        """Returns the resident memory in KiB."""
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise ChildProcessError(f"{self.name} has no memory any more")

    def cpu_seconds(self):
        """Returns the CPU time of all threads so far."""
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
