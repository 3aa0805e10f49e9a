# SPDX-License-Identifier: Apache-2.0
"""Tests sma-target with a virtio-blk driver on the front end of the crate `vhost`, which shares no code with the
target."""

import subprocess

import pytest

from harness.cargo import build_peer
from harness.target import Target


@pytest.fixture(scope="module")
def peer(build_dir):
    return build_peer("vhost_user", build_dir)


@pytest.mark.parametrize("rings", ["split", "packed"])
def test_the_disk_is_used(peer, bin_dir, work_dir, rings):
    """The program reports differences from its expectations; `rings`: the maximum that is offered."""
    with Target(bin_dir, work_dir, ["-S", work_dir]) as target:
        volume = target.make_file_volume()
        target.call("vhost_create_blk_controller", ctrlr="disk", dev_name=str(volume), packed_ring=rings == "packed")
        used = subprocess.run([peer, work_dir / "disk", str(volume)[:20], rings], capture_output=True, text=True,
                              timeout=60)
        assert (used.returncode, used.stdout) == (0, "the disk is as it has to be\n"), used.stderr
