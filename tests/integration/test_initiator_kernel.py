"""sma-nvme, and so the initiator, against the Linux kernel's NVMe/TCP target."""

import json
import subprocess

import pytest

from harness.kernel_target import KernelTarget

NQN = "nqn.2016-06.io.spdk:kernel"
PRIVATE_NQN = "nqn.2016-06.io.spdk:private"
FRIEND = "nqn.2016-06.io.spdk:friend"


@pytest.fixture(scope="module")
def remote(machine):
    """(port, {nsid: UUID}) of a kernel target with two subsystems."""
    kernel = KernelTarget(machine)
    kernel.make_subsystem(NQN)
    volumes = {1: kernel.add_namespace(NQN, 1), 7: kernel.add_namespace(NQN, 7)}
    kernel.make_subsystem(PRIVATE_NQN, hosts=[FRIEND])
    kernel.add_namespace(PRIVATE_NQN, 1)
    yield kernel.listen(NQN, PRIVATE_NQN), volumes
    kernel.clear()


@pytest.fixture
def tool(bin_dir, remote):
    def run(subcommand, *arguments, status=0):
        """Standard output, or standard error for another status than 0."""
        result = subprocess.run([bin_dir / "sma-nvme", subcommand, "-s", str(remote[0]), *arguments],
                                capture_output=True, text=True, timeout=120)
        assert result.returncode == status, result.stdout + result.stderr
        return result.stderr if status else result.stdout
    return run


def test_discovery_shows_what_this_host_may_see(tool):
    for arguments, names in [([], {NQN}), (["-q", FRIEND], {NQN, PRIVATE_NQN})]:
        log = json.loads(tool("discover", "--json", *arguments))
        assert {entry["subnqn"] for entry in log if entry["subtype"] == "nvme"} == names


def test_namespaces_are_listed_with_their_uuids(tool, remote):
    controller = json.loads(tool("list", "-n", NQN, "--json"))
    assert controller["model_number"] == "Linux"
    assert {ns["nsid"]: ns["uuid"] for ns in controller["namespaces"]} == \
        {nsid: str(volume) for nsid, volume in remote[1].items()}
    assert controller["namespaces"][0]["block_size"] * controller["namespaces"][0]["block_count"] == 64 << 20


@pytest.mark.parametrize("digests", [[], ["--hdgst"], ["--ddgst"], ["--hdgst", "--ddgst"]])
@pytest.mark.parametrize("io_size, depth", [("4k", 64), ("8k", 3), ("1M", 4)])
def test_data_come_back_as_they_were_written(tool, remote, digests, io_size, depth):
    output = tool("verify", "-n", NQN, "--namespace", str(remote[1][7]), "--size", "4M", "--io-size", io_size,
                  "--depth", str(depth), *digests)
    assert "every byte is as it was written" in output


def test_the_load_generator_measures(tool):
    result = json.loads(tool("perf", "-n", NQN, "--namespace", "1", "--seconds", "0.5", "--warm-up", "0.1", "--sleep",
                             "--read-percent", "50", "--connections", "2", "--depth", "8", "--json"))
    assert result["ios"] > 10
    assert 0 < result["latency_us"]["p50"] <= result["latency_us"]["p99"] <= result["latency_us"]["max"]


def test_refusals_are_explained(tool):
    assert "this host is not allowed" in tool("list", "-n", PRIVATE_NQN, status=1)
    tool("list", "-n", PRIVATE_NQN, "-q", FRIEND)
    assert "no such subsystem" in tool("list", "-n", "nqn.2016-06.io.spdk:none", status=1)
    assert "no namespace 99" in tool("verify", "-n", NQN, "--namespace", "99", status=1)
