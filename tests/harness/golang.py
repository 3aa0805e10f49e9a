# SPDX-License-Identifier: Apache-2.0
"""Programs in Go, below tests. They are built with Debian's compiler, regardless of PATH, from the versions in their
go.mod and go.sum."""

import os
import subprocess

import pytest

BUILD_TIMEOUT_S = 600
GO = "/usr/bin/go"


class GoModule:
    """A folder with a go.mod. The output is below `build_dir`."""

    def __init__(self, folder, build_dir):
        self._folder, self._output = folder, build_dir / "go"
        dropped = ("GOROOT", "GOTOOLDIR", "GOFLAGS", "GOOS", "GOARCH")
        self._environment = {name: value for name, value in os.environ.items() if name not in dropped}
        self._environment |= {"PATH": "/usr/bin:/bin", "GOCACHE": str(self._output / "cache"),
                              "GOFLAGS": "-mod=readonly -buildvcs=false"}
        self._environment.setdefault("HOME", str(self._output))
        self._fetch_modules()

    def go(self, *arguments, **environment):
        return subprocess.run([GO, *arguments], cwd=self._folder, env=self._environment | environment, text=True,
                              capture_output=True, timeout=BUILD_TIMEOUT_S)

    def _fetch_modules(self):
        """Skips the test if the modules are not available and cannot be downloaded."""
        if self.go("mod", "download", GOPROXY="off").returncode == 0:
            return
        fetched = self.go("mod", "download")
        if fetched.returncode != 0:
            pytest.skip(f"the modules of {self._folder.name} cannot be fetched: {fetched.stderr[-300:]}")

    def build(self):
        """Returns the program, which has the name of the folder."""
        program = self._output / self._folder.name
        built = self.go("build", "-o", program, ".")
        assert built.returncode == 0, built.stderr
        return program
