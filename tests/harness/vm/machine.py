# SPDX-License-Identifier: Apache-2.0
"""Boots the VM and runs scripts in it."""

import json
import os
import pathlib
import re
import socket

from harness.process import Process
from harness.vm import image, newer_qemu
from harness.wait import wait_until

# The address of this host's loopback in QEMU's user-mode network.
HOST_IPV4 = "10.0.2.2"
HOST_IPV6 = "fec0::2"
SCRIPT_PORT = 7  # port on which init.sh listens
KERNEL_COMPLAINTS = re.compile(r"kernel BUG|BUG:|Oops|Kernel panic|Call Trace|blocked for more than|soft lockup")


class GuestError(AssertionError):
    """Raised if a script in the guest ended with an exit status other than 0."""


class Job:
    """A running script in the guest."""

    def __init__(self, connection, script):
        self.script = script
        self._connection = connection
        data = script.encode()
        connection.sendall(b"%d\n" % len(data) + data)

    def wait(self, timeout_s=120.0):
        """Returns (exit status, output including errors). Raises TimeoutError after `timeout_s`."""
        self._connection.settimeout(timeout_s)
        chunks = []
        try:
            while chunk := self._connection.recv(65536):
                chunks.append(chunk)
        except TimeoutError:
            output = b"".join(chunks).decode(errors="replace")
            raise TimeoutError(f"in the guest, after {timeout_s} s: {self.script}\n{output}") from None
        finally:
            self._connection.close()
        output = b"".join(chunks).decode(errors="replace")
        body, mark, status = output.rpartition("\nexit status ")
        if not mark:
            raise GuestError(f"in the guest: {self.script}\ncut off:\n{output}")
        return int(status), body

    def check(self, timeout_s=120.0):
        """Returns the output. Raises GuestError if the exit status is not 0."""
        status, output = self.wait(timeout_s)
        if status != 0:
            raise GuestError(f"in the guest: {self.script}\nexit status {status}\n{output}")
        return output


class VirtualMachine:
    """A booted guest. A context manager that shuts it down at the end."""

    def __init__(self, work_dir, cache_dir, cpus=2, memory_mib=768, guest_ports=(), extra_arguments=(), qemu=None):
        """`guest_ports`: TCP ports of the guest to forward, see port(). `qemu`: a newer_qemu.Qemu; None: the installed
        one."""
        kernel, initramfs = image.build(pathlib.Path(cache_dir))
        self._qmp_path = pathlib.Path(work_dir) / "guest.qmp"
        self._console_path = pathlib.Path(work_dir) / "console.log"
        # With port 0 on this side the system chooses a free one.
        forwards = "".join(f",hostfwd=tcp:127.0.0.1:0-:{port}" for port in (SCRIPT_PORT, *guest_ports))
        command, environment = (qemu.command, qemu.env) if qemu else ([newer_qemu.PROGRAM], {})
        self.process = Process("qemu", [
            *command, "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", cpus, "-m", memory_mib,
            "-display", "none", "-nodefaults", "-no-reboot", "-kernel", kernel, "-initrd", initramfs,
            # On a loaded host, the emulated timer may be too late for the check that the kernel makes.
            "-append", "console=ttyS0 panic=1 quiet loglevel=4 mitigations=off no_timer_check",
            "-chardev", f"file,id=console,path={self._console_path}", "-serial", "chardev:console",
            "-qmp", f"unix:{self._qmp_path},server=on,wait=off",
            "-netdev", f"user,id=net0{forwards}", "-device", "virtio-net-pci,netdev=net0,romfile=",
            *extra_arguments], work_dir,
            env={"PATH": f"{os.environ['PATH']}:{image.SEARCH_PATH}", **environment})
        self._boots = 0
        try:
            self._wait_booted()
        except BaseException:
            self.process.kill()
            raise

    def _wait_booted(self):
        self._boots += 1
        self.process.wait_until(lambda: self.console().count("guest: ready") == self._boots, 120, "guest booted")
        self._script_port = self.port(SCRIPT_PORT)
        wait_until(lambda: self.run("true") == "", 30, "the guest runs scripts")

    def reboot(self):
        """Resets the VM without shutting down the guest: its memory is lost, its disks and forwarded ports are kept.
        Waits until the guest has booted."""
        self._execute("set-action", reboot="reset")
        self._execute("system_reset")
        self._wait_booted()

    def add_disk(self, path):
        """Adds a virtio-blk disk with the raw contents of a file, also after a reboot; returns its name in the
        guest."""
        known = self.run("ls /sys/block").split()
        self.monitor(f"drive_add 0 if=none,id=disk{len(known)},format=raw,cache=writethrough,file={path}")
        self.monitor(f"device_add virtio-blk-pci,drive=disk{len(known)}")
        added = wait_until(lambda: [d for d in self.run("ls /sys/block").split() if d not in known], 30, "the disk")
        return f"/dev/{added[0]}"

    def console(self):
        return self._console_path.read_text(errors="replace")

    def start(self, script):
        """Starts a shell script in the guest; returns a Job."""
        return Job(socket.create_connection(("127.0.0.1", self._script_port), timeout=10), script)

    def run(self, script, timeout_s=120.0):
        """Runs a shell script in the guest; returns its output. Raises GuestError if its exit status is not 0."""
        return self.start(script).check(timeout_s)

    def wait_until(self, script, timeout_s=30.0):
        """Runs the script until its exit status is 0; returns its output."""
        def succeeded():
            status, output = self.start(script).wait(timeout_s)
            if status != 0:
                raise AssertionError(f"exit status {status}: {output[-500:]}")
            return (output,)
        return wait_until(succeeded, timeout_s, f"in the guest: {script}")[0]

    def monitor(self, command):
        """Runs a command of QEMU's monitor; returns its output."""
        return self._execute("human-monitor-command", **{"command-line": command})

    def _execute(self, command, **command_arguments):
        """Runs a QMP command; returns its result."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(self._qmp_path))
            stream = connection.makefile("rw")
            stream.readline()  # the greeting

            def call(name, **arguments):
                stream.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
                stream.flush()
                while "event" in (answer := json.loads(stream.readline())):
                    pass
                if "error" in answer:
                    raise RuntimeError(f"QEMU: {name}: {answer['error']['desc']}")
                return answer["return"]

            call("qmp_capabilities")
            return call(command, **command_arguments)

    def port(self, guest_port):
        """Returns the port on 127.0.0.1 that is forwarded to `guest_port`."""
        for found, guest in re.findall(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s+\S+\s+(\d+)",
                                       self.monitor("info usernet")):
            if int(guest) == guest_port:
                return int(found)
        raise KeyError(f"port {guest_port} of the guest was not asked for")

    def check_kernel(self):
        """Raises AssertionError if the guest's kernel logged a serious error."""
        if complaint := KERNEL_COMPLAINTS.search(self.console()):
            raise AssertionError(f"the guest's kernel: {complaint.group(0)}\n{self.console()[-4000:]}")

    def stop(self):
        """Ends QEMU without shutting down the guest, which has no state to keep."""
        self.process.stop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


