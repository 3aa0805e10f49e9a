# SPDX-License-Identifier: Apache-2.0
"""A Linux host that uses devices over NVMe/TCP: nvme-cli and the kernel's initiator in the VM."""

import shlex

from harness.vm.machine import HOST_IPV4
from harness.wait import wait_until


class Host:
    """The guest of `machine` as an NVMe/TCP host. Addresses are the guest's names for the loopback addresses of the
    computer that runs the test."""

    def __init__(self, machine):
        self.machine = machine
        self.run = machine.run
        self.wait_until = machine.wait_until

    def connect(self, nqn, port, *options, address=HOST_IPV4, hostnqn=None):
        """Connects to a subsystem and waits until the controller is live."""
        self.run(self.connect_command(nqn, port, *options, address=address, hostnqn=hostnqn))
        wait_until(lambda: self.state(nqn) == "live", 30, f"{nqn} connected")

    def connect_command(self, nqn, port, *options, address=HOST_IPV4, hostnqn=None):
        command = ["nvme", "connect", "-t", "tcp", "-a", address, "-s", str(port), "-n", nqn, *options]
        # nvme-cli reads both from /etc/nvme, which the guest does not have.
        hostnqn = hostnqn or "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-4333-8444-555555555555"
        command += ["-q", hostnqn, "-I", "11111111-2222-4333-8444-555555555555"]
        return shlex.join(command)

    def discover(self, port, address=HOST_IPV4):
        """Returns the discovery log page as printed by nvme-cli."""
        return self.run(f"nvme discover -t tcp -a {address} -s {port}")

    def disconnect(self, nqn):
        self.run(f"nvme disconnect -n {shlex.quote(nqn)}")

    def disconnect_all(self):
        self.run("nvme disconnect-all")

    def attribute(self, nqn, name):
        """Returns a sysfs attribute of the controller that is connected to the subsystem; empty if none is."""
        return self.run('for c in /sys/class/nvme/*; do [ -e "$c/subsysnqn" ] || continue; '
                        f'[ "$(cat "$c/subsysnqn")" = {shlex.quote(nqn)} ] && cat "$c/{name}"; done; true').strip()

    def state(self, nqn):
        return self.attribute(nqn, "state")

    def find_disk(self, volume):
        """Returns the disk whose namespace has the volume's UUID, such as /dev/nvme0n1; None if there is none."""
        # nvme0c1n1 is a path of nvme0n1 and not a disk.
        name = self.run('for b in /sys/block/nvme*; do case $b in */nvme*c*n*) continue;; esac; '
                        '[ -e "$b/uuid" ] || continue; '
                        f'[ "$(cat "$b/uuid")" = {volume} ] && echo "${{b##*/}}"; done; true').strip()
        return f"/dev/{name}" if name else None

    def disk(self, volume, timeout_s=30.0):
        """Like find_disk, but waits for the disk and its device node."""
        name = wait_until(lambda: self.find_disk(volume), timeout_s, f"disk of {volume}")
        self.wait_until(f"test -b {name}")
        return name

    def wait_gone(self, volume, timeout_s=30.0):
        wait_until(lambda: self.find_disk(volume) is None, timeout_s, f"disk of {volume} gone")
