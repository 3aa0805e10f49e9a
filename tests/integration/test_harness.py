# SPDX-License-Identifier: Apache-2.0
"""Tests that the VM boots, runs scripts, and reports their failures."""

import pytest

from harness.vm import GuestError


def test_output_and_failure_of_a_script_are_returned(machine):
    assert machine.run("echo one; echo two >&2") == "one\ntwo\n"
    with pytest.raises(GuestError, match="exit status 3"):
        machine.run("exit 3")


def test_scripts_run_concurrently(machine):
    waiting = machine.start("until [ -e /tmp/go ]; do usleep 10000; done; echo went")
    machine.run("touch /tmp/go")
    assert waiting.check() == "went\n"


def test_the_kernel_supports_nvme_hosts(machine):
    machine.run("test -e /dev/nvme-fabrics && nvme version && fio --version && mkfs.ext4 -V")
