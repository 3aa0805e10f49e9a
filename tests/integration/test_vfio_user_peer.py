"""A vfio-user client that shares no code with the target, the crate vfio_user, drives a controller of sma-target."""

import os
import pathlib
import subprocess

import pytest

from harness.target import Target

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
MANIFEST = REPOSITORY / "tests" / "peers" / "vfio_user" / "Cargo.toml"
NQN = "nqn.2016-06.io.spdk:peer"
BLOCK_SIZE = 4096
BLOCKS = 100
ROUNDS = 2  # before and after a reset


def cargo(build_dir, *arguments):
    """Debian's own, whatever else is in PATH."""
    return subprocess.run(["/usr/bin/cargo", *arguments, "--locked", "--manifest-path", MANIFEST], text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env={**os.environ, "RUSTC": "/usr/bin/rustc", "CARGO_TARGET_DIR": str(build_dir / "cargo")})


@pytest.fixture(scope="module")
def peer(build_dir):
    """The program, built. The network is asked only for crates that are not here yet."""
    built = cargo(build_dir, "build", "--offline")
    if built.returncode != 0:
        fetched = cargo(build_dir, "fetch")
        if fetched.returncode != 0:
            pytest.skip(f"crates cannot be fetched: {fetched.stdout[-1000:]}")
        built = cargo(build_dir, "build", "--offline")
    assert built.returncode == 0, built.stdout[-4000:]
    return build_dir / "cargo" / "debug" / "vfio-user-peer"


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
