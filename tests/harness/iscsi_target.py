# SPDX-License-Identifier: Apache-2.0
"""tgtd, an iSCSI target in user space, as the remote system."""

import os
import pathlib
import subprocess

from harness.agent import free_port
from harness.process import Process
from harness.target import MIB


class IscsiTarget:
    """A running tgtd on 127.0.0.1, with the same logical units after a restart. A context manager."""

    def __init__(self, work_dir, port=None):
        self._work_dir = pathlib.Path(work_dir)
        self.port = port or free_port()
        # Distinguishes this tgtd's control socket from others on the machine; it has 15 bits, and free ports have the
        # 16th set.
        self._control = self.port % 32768
        self._calls = []
        self._process = None
        self.start()

    def start(self):
        self._process = Process("tgtd", ["tgtd", "-f", "-C", self._control, "--iscsi",
                                         f"portal=127.0.0.1:{self.port}"], self._work_dir)
        self._process.wait_until(lambda: self._admin("target", "show") is not None, 20, "answers")
        for call in self._calls:
            self._admin(*call)

    def _admin(self, mode, operation, *arguments):
        done = subprocess.run(["tgtadm", "-C", str(self._control), "--lld", "iscsi", "--mode", mode, "--op", operation,
                               *map(str, arguments)], capture_output=True, text=True, check=False, timeout=20)
        if done.returncode != 0:
            raise ConnectionError(done.stderr)
        return done.stdout

    def _configure(self, *call):
        """Makes a call that is repeated after a restart."""
        self._calls.append(call)
        self._admin(*call)

    def make_lun(self, number, size_mib=64, chap=None, target_chap=None, thin=False):
        """Creates a target, diskNUMBER, with one unit over a file, LUN 1. `chap`: (name, secret) that the initiator
        must present; `target_chap`: those of the target."""
        with open(self.file(number), "ab") as file:
            os.truncate(file.fileno(), size_mib * MIB)
        self._configure("target", "new", "--tid", number + 1, "-T", f"iqn.2016-06.io.tgt:disk{number}")
        self._configure("logicalunit", "new", "--tid", number + 1, "--lun", 1, "-b", self.file(number),
                        "--bstype", "rdwr")
        if thin:
            self._configure("logicalunit", "update", "--tid", number + 1, "--lun", 1, "--params",
                            "thin_provisioning=1")
        for account, options in ((chap, []), (target_chap, ["--outgoing"])):
            if account:
                self._configure("account", "new", "--user", account[0], "--password", account[1])
                self._configure("account", "bind", "--tid", number + 1, "--user", account[0], *options)
        self._configure("target", "bind", "--tid", number + 1, "-I", "ALL")

    def file(self, number):
        return self._work_dir / f"lun{number}.img"

    def url(self, number, credentials="", lun=1):
        return f"iscsi://{credentials}127.0.0.1:{self.port}/iqn.2016-06.io.tgt:disk{number}/{lun}"

    def resize(self, number, size_mib):
        os.truncate(self.file(number), size_mib * MIB)
        for parameter in ("online=0", f"path={self.file(number)}", "online=1"):
            self._admin("logicalunit", "update", "--tid", number + 1, "--lun", 1, "--params", parameter)

    def rename_unit(self, number, identity):
        """Adds another unit, which exists from the next start on, even at the first login."""
        self._calls.insert(2, ("logicalunit", "update", "--tid", number + 1, "--lun", 1, "--params",
                               f"scsi_id={identity}"))

    @property
    def process(self):
        return self._process

    def kill(self):
        self._process.kill()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # tgtd does not exit on SIGTERM while it has targets.
        self.kill()
