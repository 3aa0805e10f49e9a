"""The agent as a program: its stops and restarts, what keeps it from starting."""

import concurrent.futures
import subprocess
import threading

import grpc
from harness.agent import free_port, start_sma
from harness.wait import wait_until

NQN = "nqn.2016-06.io.spdk:program"


def test_a_stop_under_load_loses_no_answer(bin_dir, work_dir, target):
    """What was answered with success is in the record of the next agent, and on the target."""
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


def run_sma(bin_dir, *arguments):
    return subprocess.run([bin_dir / "sma", *arguments], capture_output=True, text=True, timeout=20)


def test_a_second_agent_is_kept_away(bin_dir, work_dir, sma):
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
