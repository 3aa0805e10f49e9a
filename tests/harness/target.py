# SPDX-License-Identifier: Apache-2.0
"""The storage target sma-target, with helpers for tests."""

import os
import pathlib
import uuid

from harness.jsonrpc import JsonRpcClient, RpcError
from harness.process import Process

MIB = 1 << 20


class Target:
    """A running sma-target. A context manager that stops it at the end."""

    def __init__(self, bin_dir, work_dir, arguments=(), name="target", env=None):
        self.socket = pathlib.Path(work_dir) / f"{name}.sock"
        self._start = lambda: Process(name, [pathlib.Path(bin_dir) / "sma-target", "-r", self.socket, *arguments],
                                      work_dir, env)
        self._work_dir = pathlib.Path(work_dir)
        self.process = None
        self.start()

    def start(self):
        self.process = self._start()
        self.process.wait_until(lambda: self.call("spdk_get_version"), 20, "answers calls")

    def connect(self):
        """Opens another connection."""
        return JsonRpcClient(self.socket)

    def call(self, method, **params):
        with self.connect() as client:
            return client.call(method, **params)

    def make_malloc_volume(self, size_mib=64, block_size=512):
        """Creates a bdev in memory; returns its UUID."""
        volume = uuid.uuid4()
        self.call("bdev_malloc_create", name=f"malloc-{volume.hex[:8]}", uuid=str(volume), block_size=block_size,
                  num_blocks=size_mib * MIB // block_size)
        return volume

    def make_file_volume(self, size_mib=64, block_size=4096, volume=None):
        """Creates a bdev over a file, which keeps its contents if it is recreated with the same UUID; returns that
        UUID."""
        volume = volume or uuid.uuid4()
        path = self.volume_file(volume)
        if not path.exists():
            with open(path, "wb") as file:
                os.truncate(file.fileno(), size_mib * MIB)
        self.call("bdev_aio_create", name=f"file-{volume.hex[:8]}", filename=str(path), block_size=block_size,
                  uuid=str(volume))
        return volume

    def volume_file(self, volume):
        return self._work_dir / f"{volume}.img"

    def subsystem(self, nqn):
        """Returns the subsystem as listed by nvmf_get_subsystems; None if there is none."""
        return next((s for s in self.call("nvmf_get_subsystems") if s["nqn"] == nqn), None)

    def stop(self):
        self.process.stop()

    def kill(self):
        self.process.kill()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


__all__ = ["MIB", "RpcError", "Target"]
