# SPDX-License-Identifier: Apache-2.0
"""Tests a controller of sma-target with a vfio-user client that shares no code with the target, the crate vfio_user."""

import subprocess

import pytest

from harness.cargo import build_peer
from harness.target import Target

NQN = "nqn.2016-06.io.spdk:peer"
BLOCK_SIZE = 4096
BLOCKS = 100
ROUNDS = 2  # before and after a reset


@pytest.fixture(scope="module")
def peer(build_dir):
    return build_peer("vfio_user", build_dir)


def test_the_crates_client_drives_a_controller(bin_dir, work_dir, peer):
    folder = work_dir / "listener"
    folder.mkdir()
    with Target(bin_dir, work_dir) as target:
        target.call("nvmf_create_transport", trtype="VFIOUSER")
        volume = target.make_file_volume(size_mib=1, block_size=BLOCK_SIZE)
        target.call("nvmf_create_subsystem", nqn=NQN, allow_any_host=True)
        target.call("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": str(volume), "nsid": 1})
        target.call("nvmf_subsystem_add_listener", nqn=NQN,
                    listen_address={"trtype": "VFIOUSER", "traddr": str(folder)})
        done = subprocess.run([peer, folder / "cntrl"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (0, "as it should be\n")
        content = target.volume_file(volume).read_bytes()
        for block in range(BLOCKS):
            expected = bytes((i * 7 + block) % 256 for i in range(BLOCK_SIZE))
            assert content[block * BLOCK_SIZE:(block + 1) * BLOCK_SIZE] == expected, block
        assert not any(content[BLOCKS * BLOCK_SIZE:])
        statistics = target.call("bdev_get_iostat")["bdevs"][0]
        assert (statistics["num_write_ops"], statistics["num_read_ops"]) == (ROUNDS * BLOCKS, ROUNDS * BLOCKS)
        assert target.call("nvmf_subsystem_get_controllers", nqn=NQN) == []
