# SPDX-License-Identifier: Apache-2.0
"""Programs in Rust, below tests/peers, that use the target through third-party libraries. They are built with Debian's
compiler, regardless of PATH, from the versions in their Cargo.lock."""

import os
import pathlib
import subprocess

import pytest

PEERS = pathlib.Path(__file__).resolve().parents[1] / "peers"
BUILD_TIMEOUT_S = 600


def _cargo(folder, target_dir, *arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RUST", "CARGO_BUILD"))}
    environment |= {"PATH": "/usr/bin:/bin", "RUSTC": "/usr/bin/rustc", "CARGO_TARGET_DIR": str(target_dir)}
    # Not run in `folder`, because a toolchain file above it would be used.
    return subprocess.run(["/usr/bin/cargo", *arguments, "--locked", "--manifest-path", folder / "Cargo.toml"], cwd="/",
                          env=environment, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S)


def build_peer(name, build_dir):
    """Builds the program of tests/peers/NAME, whose package is called NAME-peer, with dashes. Skips the test if its
    crates are not installed and cannot be downloaded."""
    folder, target_dir = PEERS / name, build_dir / "cargo" / name
    offline = _cargo(folder, target_dir, "fetch", "--offline")
    if offline.returncode != 0:
        fetched = _cargo(folder, target_dir, "fetch")
        assert "--locked was passed" not in fetched.stderr, f"{name}: Cargo.lock is not that of Cargo.toml"
        if fetched.returncode != 0:
            pytest.skip(f"the crates of {name} cannot be fetched: {fetched.stderr[-300:]}")
    built = _cargo(folder, target_dir, "build", "--offline")
    assert built.returncode == 0, built.stderr
    return target_dir / "debug" / f"{name.replace('_', '-')}-peer"
