"""The agent as a program: its target, its stops and restarts, what keeps it from starting."""

import concurrent.futures
import subprocess
import threading

import grpc
import pytest
from harness.agent import free_port, start_sma
from harness.target import Target
from harness.wait import wait_until

NQN = "nqn.2016-06.io.spdk:program"
SERVING = b"\x08\x01"
NOT_SERVING = b"\x08\x02"


def health(agent):
    """The answer of the standard health service, as bytes."""
    check = agent.client.channel.unary_unary("/grpc.health.v1.Health/Check")
    return check(b"", timeout=5)


def start_embedded(bin_dir, work_dir, *arguments):
    return start_sma(bin_dir, work_dir, socket=str(work_dir / "target.sock"), arguments=["--embedded", *arguments])


def embedded_pid(agent):
    """The process that the agent named last in its log."""
    lines = [line.split() for line in agent.process.log().splitlines() if "target: " in line and "process" in line]
    return int(lines[-1][lines[-1].index("process") + 1])


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_embedded_target_outlives_the_agent_and_is_adopted(bin_dir, work_dir):
    port = free_port()
    with start_embedded(bin_dir, work_dir) as agent:
        wait_until(lambda: health(agent) == SERVING)
        handle = agent.client.create_nvmf_tcp(NQN, port)
        target = embedded_pid(agent)
        agent.kill()
    assert is_running(target)
    with start_embedded(bin_dir, work_dir, "--embedded-stop") as agent:
        assert embedded_pid(agent) == target
        wait_until(lambda: health(agent) == SERVING)
        assert agent.client.create_nvmf_tcp(NQN, port) == handle
    assert not is_running(target)


def test_embedded_target_is_started_again_with_its_devices(bin_dir, work_dir):
    port = free_port()
    with start_embedded(bin_dir, work_dir, "--embedded-stop") as agent:
        wait_until(lambda: health(agent) == SERVING)
        agent.client.create_nvmf_tcp(NQN, port)
        first = embedded_pid(agent)
        subprocess.run(["kill", "-KILL", str(first)], check=True)
        wait_until(lambda: embedded_pid(agent) != first and health(agent) == SERVING, 20)
        names = [line for line in agent.process.log().splitlines() if "restored" in line]
        assert any(NQN in line for line in names)


def test_health_follows_the_target(bin_dir, work_dir):
    port = free_port()
    with Target(bin_dir, work_dir) as target:
        with start_sma(bin_dir, work_dir, socket=str(target.socket)) as agent:
            wait_until(lambda: health(agent) == SERVING)
            target.process.kill()
            wait_until(lambda: health(agent) == NOT_SERVING)
            with pytest.raises(grpc.RpcError) as error:
                agent.client.create_nvmf_tcp(NQN, port)
            assert error.value.code() == grpc.StatusCode.UNAVAILABLE
            target.start()
            wait_until(lambda: health(agent) == SERVING)
            agent.client.create_nvmf_tcp(NQN, port)


def test_a_stop_under_load_loses_no_answer(bin_dir, work_dir, target):
    port = free_port()
    """What was answered with success is in the record of the next agent, and on the target."""
    callers = 64
    created, refused = [], []
    stop = threading.Event()
    agent = start_sma(bin_dir, work_dir, socket=str(target.socket))
    wait_until(lambda: health(agent) == SERVING)

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
        wait_until(lambda: health(again) == SERVING)
        for handle in created:
            again.client.delete_device(handle)
    on_target = {f"nvmf-tcp:{s['nqn']}" for s in target.call("nvmf_get_subsystems")}
    assert not set(created) & on_target


def run_sma(bin_dir, *arguments):
    return subprocess.run([bin_dir / "sma", *arguments], capture_output=True, text=True, timeout=20)


def test_a_second_agent_is_kept_away(bin_dir, work_dir, sma):
    port = free_port()
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
    file.write_text("plugins: [mine]\n")
    unsupported = run_sma(bin_dir, "-c", file, "--check-config")
    assert unsupported.returncode == 1
    assert unsupported.stderr.startswith(f"{file}:1: ")
