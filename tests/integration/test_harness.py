"""The virtual machine itself: boots, runs scripts, tells of their failure."""

import pytest

from harness.vm import GuestError


def test_a_script_gives_its_output_and_failure(machine):
    assert machine.run("echo one; echo two >&2") == "one\ntwo\n"
    with pytest.raises(GuestError, match="exit status 3"):
        machine.run("exit 3")


def test_scripts_run_side_by_side(machine):
    waiting = machine.start("until [ -e /tmp/go ]; do usleep 10000; done; echo went")
    machine.run("touch /tmp/go")
    assert waiting.check() == "went\n"


def test_the_kernel_has_what_a_host_needs(machine):
    machine.run("test -e /dev/nvme-fabrics && nvme version && fio --version && mkfs.ext4 -V")
