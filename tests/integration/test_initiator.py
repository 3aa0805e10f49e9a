"""sma-nvme, and with it the target's NVMe/TCP initiator, against the Linux kernel's own NVMe/TCP target."""

import subprocess

import pytest

from harness.vm import VirtualMachine

NQN = "nqn.2016-06.io.spdk:kernel"
UUID = "11111111-2222-4333-8444-555555555555"
PORT = 4420


@pytest.fixture(scope="module")
def kernel_target(build_dir, module_work_dir):
    """The kernel's target in a virtual machine, with one namespace in memory; its port here."""
    with VirtualMachine(module_work_dir, build_dir.parent / "vm", guest_ports=[PORT]) as machine:
        machine.run(f"""set -e
            mkdir /sys/kernel/config/nullb/disk && cd /sys/kernel/config/nullb/disk
            echo 64 >size; echo 1 >memory_backed; echo 4096 >blocksize; echo 1 >power
            mkdir /sys/kernel/config/nvmet/subsystems/{NQN} && cd /sys/kernel/config/nvmet/subsystems/{NQN}
            echo 1 >attr_allow_any_host
            mkdir namespaces/3 && cd namespaces/3
            echo /dev/disk >device_path; echo {UUID} >device_uuid; echo 1 >enable
            mkdir /sys/kernel/config/nvmet/ports/1 && cd /sys/kernel/config/nvmet/ports/1
            echo tcp >addr_trtype; echo ipv4 >addr_adrfam; echo 0.0.0.0 >addr_traddr; echo {PORT} >addr_trsvcid
            ln -s /sys/kernel/config/nvmet/subsystems/{NQN} subsystems/{NQN}""")
        yield machine.port(PORT)
        machine.check_kernel()


@pytest.fixture
def sma_nvme(bin_dir, kernel_target):
    def run(command, *options):
        result = subprocess.run([bin_dir / "sma-nvme", command, "--trsvcid", str(kernel_target), *options],
                                capture_output=True, text=True, timeout=120)
        assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
        return result.stdout
    return run


def test_discover(sma_nvme):
    assert NQN in sma_nvme("discover")


def test_list(sma_nvme):
    assert UUID in sma_nvme("list", "--subnqn", NQN)


@pytest.mark.parametrize("digests", [(), ("--hdgst",), ("--ddgst",), ("--hdgst", "--ddgst")])
def test_verify(sma_nvme, digests):
    sma_nvme("verify", "--subnqn", NQN, "--namespace", UUID, "--size", "16M", *digests)


def test_verify_with_large_and_small_io(sma_nvme):
    for io_size, size in (("4k", "2M"), ("1M", "16M")):
        sma_nvme("verify", "--subnqn", NQN, "--namespace", UUID, "--size", size, "--io-size", io_size)


