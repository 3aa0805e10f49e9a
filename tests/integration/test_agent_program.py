# SPDX-License-Identifier: Apache-2.0
"""Tests the agent as a program: how it stops and restarts, and errors during the start."""

import concurrent.futures
import os
import subprocess
import threading

import grpc
from harness.agent import free_port, start_sma
from harness.wait import wait_until

NQN = "nqn.2016-06.io.spdk:program"


def test_a_stop_under_load_loses_no_answer(bin_dir, work_dir, target):
    """Calls that were answered with success are in the record of the next agent, and on the target."""
    callers, port = 64, free_port()
    created, refused = [], []
    stop = threading.Event()
    agent = start_sma(bin_dir, work_dir, socket=str(target.socket))

    def call(caller):
        number = 0
        while not stop.is_set():
            nqn = f"{NQN}-{caller}-{number}"
            try:
                created.append(agent.client.create_nvmf_tcp(nqn, port))
            except grpc.RpcError as error:
                refused.append(error.code())
                return
            number += 1

    with concurrent.futures.ThreadPoolExecutor(callers) as pool:
        calls = [pool.submit(call, caller) for caller in range(callers)]
        wait_until(lambda: len(created) > 4 * callers)
        agent.process.stop()
        stop.set()
        for done in calls:
            done.result()
    assert set(refused) <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    on_target = {f"nvmf-tcp:{s['nqn']}" for s in target.call("nvmf_get_subsystems")}
    assert set(created) <= on_target
    with start_sma(bin_dir, work_dir, socket=str(target.socket)) as again:
        for handle in created:
            again.client.delete_device(handle)
    on_target = {f"nvmf-tcp:{s['nqn']}" for s in target.call("nvmf_get_subsystems")}
    assert not set(created) & on_target


def run_sma(bin_dir, *arguments, **options):
    return subprocess.run([bin_dir / "sma", *arguments], capture_output=True, text=True, timeout=20, **options)


def test_a_second_agent_is_refused(bin_dir, work_dir, sma):
    state_dir = sma.config["state_dir"]
    second = run_sma(bin_dir, "--state-dir", state_dir, "-a", "127.0.0.1", "-p", "0")
    assert second.returncode == 1
    assert state_dir in second.stderr
    port = sma.address.rpartition(":")[2]
    third = run_sma(bin_dir, "--state-dir", work_dir / "other", "-a", "127.0.0.1", "-p", port)
    assert third.returncode == 1
    assert sma.address in third.stderr


def test_check_config(bin_dir, work_dir):
    file = work_dir / "agent.yaml"
    file.write_text("devices:\n- name: nvmf_tcp\n")
    good = run_sma(bin_dir, "-c", file, "--check-config")
    assert (good.returncode, good.stdout, good.stderr) == (0, "OK\n", "")
    file.write_text("port: x\ndevices:\n- name: nvmf\n")
    bad = run_sma(bin_dir, "-c", file, "--check-config")
    assert bad.returncode == 1
    assert [line.split(": ")[0] for line in bad.stderr.splitlines()] == [f"{file}:1", f"{file}:3"]
    file.write_text("crypto: {name: mine}\n")
    unsupported = run_sma(bin_dir, "-c", file, "--check-config")
    assert unsupported.returncode == 1
    assert unsupported.stderr.startswith(f"{file}:1: ")


def test_check_config_checks_what_it_refers_to(bin_dir, work_dir):
    """Missing files, plugins, and what plugins should bring: all of it is reported at once."""
    file = work_dir / "agent.yaml"
    file.write_text("tls: {cert: /nope/cert, key: /nope/key}\nsealing_key: {file: /nope/sealing}\n"
                    "embedded: {enabled: true, binary: /nope/target}\nplugins: [no_such_module]\n")
    bad = run_sma(bin_dir, "-c", file, "--check-config")
    assert bad.returncode == 1
    for path in ("/nope/cert", "/nope/sealing", "/nope/target"):
        assert f"{path}: No such file or directory" in bad.stderr
    assert "plugin no_such_module" in bad.stderr
    (work_dir / "engines.py").write_text("""
from spdk.sma import CryptoEngine
class Engine(CryptoEngine):
    def __init__(self):
        super().__init__("brought")
crypto_engines = [Engine]
""")
    file.write_text("plugins: [engines]\ncrypto: {name: mine}\ndevices:\n- name: other\n")
    unknown = run_sma(bin_dir, "-c", file, "--check-config", env={**os.environ, "PYTHONPATH": str(work_dir)})
    assert unknown.returncode == 1
    assert "crypto engine mine: is not known (known: nop, bdev_crypto, brought)" in unknown.stderr
    assert "device other: is not known" in unknown.stderr
