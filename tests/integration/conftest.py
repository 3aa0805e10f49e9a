# SPDX-License-Identifier: Apache-2.0
"""Fixtures of several integration tests."""

import pytest

from harness.remote import ExportingTarget
from harness.target import Target


@pytest.fixture
def remote(bin_dir, work_dir):
    """A target that exports volumes, as a storage node."""
    with ExportingTarget(bin_dir, work_dir) as running:
        yield running


@pytest.fixture
def local(bin_dir, work_dir):
    """The target that uses the volumes of `remote`."""
    with Target(bin_dir, work_dir, name="local") as running:
        yield running
