# SPDX-License-Identifier: Apache-2.0
"""Fixtures for the tests. Each test works in its own folder, with its own ports and sockets."""

import pathlib
import shutil
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from harness.agent import start_reference, start_sma  # noqa: E402
from harness.rpc_proxy import RpcProxy  # noqa: E402
from harness.target import Target  # noqa: E402
from harness.vm import VirtualMachine  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--build-dir", required=True, help="the build whose programs are tested")
    parser.addoption("--random-seconds", type=float, default=60, help="how long random tests run")
    parser.addoption("--kill-share", type=float, default=0.25, help="of the steps at which somebody is killed; 1: all")
    parser.addoption("--linearizability-seconds", type=int, default=20, help="how long blocks are used under faults")
    parser.addoption("--random-seed", type=int, default=0, help="of random tests; 0: another one each time")


@pytest.fixture(scope="session")
def build_dir(pytestconfig):
    return pathlib.Path(pytestconfig.getoption("--build-dir")).resolve()


@pytest.fixture(scope="session")
def bin_dir(build_dir):
    return build_dir / "bin"


def make_work_dir():
    """Creates a folder with a short path, because the path of a Unix socket has at most 107 characters."""
    return pathlib.Path(tempfile.mkdtemp(prefix="sma-test-"))


def finish_work_dir(request, path):
    """Removes the folder, or keeps it and prints its path after a failure."""
    if request.session.testsfailed:
        print(f"logs: {path}")
    else:
        shutil.rmtree(path)


@pytest.fixture
def work_dir(request):
    path = make_work_dir()
    yield path
    finish_work_dir(request, path)


@pytest.fixture(scope="module")
def module_work_dir(request):
    path = make_work_dir()
    yield path
    finish_work_dir(request, path)


@pytest.fixture
def target(bin_dir, work_dir):
    with Target(bin_dir, work_dir) as running:
        yield running


@pytest.fixture
def sma(bin_dir, work_dir, target):
    with start_sma(bin_dir, work_dir, socket=str(target.socket)) as agent:
        yield agent


@pytest.fixture
def proxy(work_dir, target):
    """The proxy between the agent of `proxied_sma` and the target."""
    with RpcProxy(target.socket, work_dir / "proxy.sock") as running:
        yield running


@pytest.fixture
def proxied_sma(bin_dir, work_dir, proxy):
    with start_sma(bin_dir, work_dir, name="proxied-sma", socket=str(proxy.path)) as agent:
        yield agent


@pytest.fixture
def reference(work_dir, target):
    with start_reference(work_dir, socket=str(target.socket)) as agent:
        yield agent


@pytest.fixture(scope="module")
def machine(build_dir, module_work_dir):
    """A booted VM, shared by all tests of a module. Each test must remove what it creates in it."""
    with VirtualMachine(module_work_dir, build_dir.parent / "vm") as running:
        yield running
        running.check_kernel()
