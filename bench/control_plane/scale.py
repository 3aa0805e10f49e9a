#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures the agent with many devices, each with a volume of the target's own that has limits: how soon it serves
calls after its restart, how soon everything is restored after the target was killed, its memory, and the CPU time that
it needs for comparing the record with the target, with and without a missing volume.

usage: .venv/bin/python bench/control_plane/scale.py [--type nvmf_tcp|vhost_blk] [--devices 1000,10000] [--seconds 65]
                                                    [--json FILE]
"""

import argparse
import concurrent.futures
import contextlib
import json
import pathlib
import sys
import tempfile
import time
import uuid

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import grpc  # noqa: E402
from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: E402
from harness import wire  # noqa: E402
from harness.agent import free_port, start_sma  # noqa: E402
from harness.jsonrpc import RpcError  # noqa: E402
from harness.target import Target  # noqa: E402

CALLERS = 16
PATIENCE_S = 120
MIB = 1024


def volume_id(number):
    return uuid.UUID(int=(0x4000 << 64) + (0x8000 << 48) + number)


def nqn(number):
    return f"nqn.2016-06.io.spdk:bench-{number}"


def bdev_name(number):
    return f"null{number}"


class NvmfTcp:
    """The device type nvmf_tcp: how its devices are made and named."""

    name = "nvmf_tcp"

    def __init__(self):
        self.port = free_port()

    def configuration(self, _work_dir):
        return {"name": self.name}

    def request(self, number):
        request = wire.sma.CreateDeviceRequest()
        request.nvmf_tcp.subnqn = nqn(number)
        request.nvmf_tcp.adrfam = "ipv4"
        request.nvmf_tcp.traddr = "127.0.0.1"
        request.nvmf_tcp.trsvcid = str(self.port)
        request.nvmf_tcp.allow_any_host = True
        return request

    def handle(self, number):
        return f"nvmf-tcp:{nqn(number)}"

    def is_there(self, target, number):
        return bool(target.call("nvmf_get_subsystems", nqn=nqn(number))[0]["listen_addresses"])


class VhostBlk:
    """The device type vhost_blk, without VMs."""

    name = "vhost_blk"

    def configuration(self, work_dir):
        return {"name": self.name, "params": {"sock_path": str(work_dir)}}

    def request(self, number):
        request = wire.sma.CreateDeviceRequest()
        request.virtio_blk.physical_id = number
        return request

    def handle(self, number):
        return f"virtio_blk:sma-{number}"

    def is_there(self, target, number):
        return bool(target.call("vhost_get_controllers", name=f"sma-{number}"))


def wait_until(condition, what, interval_s=0.005):
    """Like harness.wait.wait_until, but the pauses do not grow, because the time is the result."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not so after {PATIENCE_S} s")
        time.sleep(interval_s)


TYPES = {type_.name: type_ for type_ in (NvmfTcp, VhostBlk)}


class World:
    """An agent and a target whose configuration file creates the bdevs. A context manager."""

    def __init__(self, options, devices, work_dir):
        self.devices = devices
        self._bin_dir = options.build_dir / "bin"
        self._work_dir = work_dir
        self._type = TYPES[options.type]()
        bdevs = [{"method": "bdev_null_create",
                  "params": {"name": bdev_name(n), "num_blocks": 2048, "block_size": 512, "uuid": str(volume_id(n))}}
                 for n in range(devices)]
        configuration = work_dir / "target.json"
        configuration.write_text(json.dumps({"subsystems": [{"subsystem": "bdev", "config": bdevs}]}))
        self.target = Target(self._bin_dir, work_dir,
                             ["-c", str(configuration), "-S", str(work_dir),
                              "--rpc-delay-ms", str(options.rpc_delay_ms)])
        self.agent = start_sma(self._bin_dir, work_dir, socket=str(self.target.socket),
                               devices=[self._type.configuration(work_dir)])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.agent.stop()
        self.target.stop()

    def _for_each(self, call):
        with concurrent.futures.ThreadPoolExecutor(CALLERS) as pool:
            list(pool.map(call, range(self.devices)))

    def make_devices(self):
        def make_one(number):
            request = self._type.request(number)
            request.volume.volume_id = volume_id(number).bytes
            self.agent.client.stub.CreateDevice(request, timeout=120)
        self._for_each(make_one)

    def set_limits(self):
        def set_one(number):
            request = wire.sma.SetQosRequest(device_handle=self._type.handle(number),
                                             volume_id=volume_id(number).bytes)
            request.maximum.rw_iops = 10_000
            self.agent.client.stub.SetQos(request, timeout=120)
        self._for_each(set_one)

    def status(self):
        admin = wire.admin_grpc.AdminStub(self.agent.client.channel)
        return admin.GetStatus(wire.admin.GetStatusRequest(), timeout=60)

    def wait(self, condition, what):
        """Waits for a condition of the status, which takes the agent some milliseconds for 10,000 devices."""
        def holds():
            try:
                return condition(self.status())
            except grpc.RpcError:
                return False
        wait_until(holds, what, interval_s=0.05)

    def wait_serving(self):
        stub, request = health_pb2_grpc.HealthStub(self.agent.client.channel), health_pb2.HealthCheckRequest()

        def is_serving():
            try:
                return stub.Check(request, timeout=60).status == health_pb2.HealthCheckResponse.SERVING
            except grpc.RpcError:
                return False
        wait_until(is_serving, "serving")

    def wait_complete(self, degraded=0):
        # Before the comparison begins, `total` is 0.
        self.wait(lambda s: s.serving and not s.restore.active and s.restore.done == s.restore.total
                  and s.restore.total >= self.devices and s.degraded_count == degraded,
                  f"all devices compared, {degraded} objects degraded")

    def _last_is_there(self):
        """Whether the target has the device that is restored last."""
        try:
            return self._type.is_there(self.target, max(range(self.devices), key=self._type.handle))
        except RpcError:
            return False

    def restart_agent(self):
        """Returns (until it serves calls, until all devices have been compared) in seconds after its start."""
        start = time.monotonic()
        serving_s = self.restart_agent_until_serving()
        self.wait_complete()
        return serving_s, time.monotonic() - start

    def restart_target(self):
        """Returns (until the target answers, until everything is restored) in seconds after the target was killed."""
        self.target.kill()
        start = time.monotonic()
        self.target.start()
        answers_s = time.monotonic() - start
        # Until then, the status is that of the comparison before.
        wait_until(self._last_is_there, "the last device is back")
        self.wait_complete()
        return answers_s, time.monotonic() - start

    def restart_target_until_listed(self):
        """Returns the time until the target has all devices again, in seconds after it answers."""
        self.target.kill()
        self.target.start()
        start = time.monotonic()
        wanted = {nqn(number) for number in range(self.devices)}
        wait_until(lambda: wanted <= {s["nqn"] for s in self.target.call("nvmf_get_subsystems")
                                      if s.get("namespaces")}, "all devices are back", interval_s=0.02)
        back_s = time.monotonic() - start
        self.wait_serving()
        return back_s

    def restart_agent_until_serving(self):
        """Returns the time in seconds since its start."""
        self.agent.kill()
        start = time.monotonic()
        self.agent.start_process()
        self.wait_serving()
        return time.monotonic() - start

    def remove_bdev(self, number):
        self.target.call("bdev_null_delete", name=bdev_name(number))
        self.wait_complete(degraded=2)  # the volume, and its device

    def resident_mib(self):
        return self.agent.process.resident_kib() / MIB

    def processor_share(self, seconds):
        """Returns the agent's use of one core, in percent."""
        before = self.agent.process.cpu_seconds()
        start = time.monotonic()
        time.sleep(seconds)
        return 100 * (self.agent.process.cpu_seconds() - before) / (time.monotonic() - start)


def slowdown(seconds=0.3):
    """Returns how many times longer a program runs than its processor time, because others use the cores, too."""
    start, used_s = time.monotonic(), time.process_time()
    while time.process_time() - used_s < seconds:
        pass
    return (time.monotonic() - start) / (time.process_time() - used_s)


def measure(options, devices):
    figures = {"devices": devices}
    slowdowns = []

    def note(**values):
        """Prints figures as soon as they are known, and measures how busy the machine is."""
        figures.update(values)
        slowdowns.append(slowdown())
        print(f"slowdown {slowdowns[-1]:.2f}: " + ", ".join(f"{key} {value:.2f}" for key, value in values.items()),
              file=sys.stderr, flush=True)
    with contextlib.ExitStack() as stack:
        work_dir = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sma-bench-")))
        world = stack.enter_context(World(options, devices, work_dir))
        start = time.monotonic()
        world.make_devices()
        made_s = time.monotonic() - start
        world.set_limits()
        note(made_s=made_s, mib_after_calls=world.resident_mib())
        serving_s, compared_s = world.restart_agent()
        note(serving_s=serving_s, compared_s=compared_s, agent_restart_cpu_s=world.agent.process.cpu_seconds(),
             mib_after_restart=world.resident_mib())
        before = world.agent.process.cpu_seconds()
        answers_s, back_s = world.restart_target()
        note(target_answers_s=answers_s, back_s=back_s,
             target_restart_cpu_s=world.agent.process.cpu_seconds() - before, mib_after_restore=world.resident_mib())
        note(share_complete=world.processor_share(options.seconds), mib_after_comparisons=world.resident_mib())
        world.remove_bdev(devices // 2)
        note(share_one_missing=world.processor_share(options.seconds), mib_one_missing=world.resident_mib())
    figures["slowdown"] = max(slowdowns)
    return figures


ROWS = [("made_s", "made by 16 callers, s"), ("serving_s", "serving after the agent's restart, s"),
        ("compared_s", "all compared after that, s"),
        ("agent_restart_cpu_s", "the agent's processor time until then, s"),
        ("target_answers_s", "target answers after its kill, s"), ("back_s", "everything back after that, s"),
        ("target_restart_cpu_s", "the agent's processor time until then, s"),
        ("mib_after_calls", "resident after the calls, MiB"),
        ("mib_after_restart", "the same after the agent's restart, MiB"),
        ("mib_after_restore", "the same after the target's, MiB"),
        ("mib_after_comparisons", "the same after comparisons, MiB"),
        ("share_complete", "processor time with nothing missing, %"),
        ("share_one_missing", "the same with one volume missing, %"),
        ("mib_one_missing", "resident then, MiB"),
        ("slowdown", "a program's time by its processor time, largest")]


def print_table(all_figures):
    print("\n" + " " * 48 + "".join(f"{f['devices']:>10,}" for f in all_figures))
    for key, title in ROWS:
        print(f"{title:48}" + "".join(f"{f[key]:10.2f}" for f in all_figures))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--build-dir", type=pathlib.Path, default=ROOT / "build" / "release")
    parser.add_argument("--type", choices=sorted(TYPES), default=NvmfTcp.name, help="the devices' type")
    parser.add_argument("--devices", type=lambda text: [int(n) for n in text.split(",")], default=[1000, 10000],
                        help="how many, comma separated")
    parser.add_argument("--rpc-delay-ms", type=int, default=0, help="what a call costs on the target")
    parser.add_argument("--seconds", type=float, default=65,
                        help="how long processor time is measured; a comparison takes place every 30 s")
    parser.add_argument("--json", type=pathlib.Path, help="write the figures to this file, too")
    options = parser.parse_args()
    all_figures = [measure(options, devices) for devices in options.devices]
    print_table(all_figures)
    if options.json:
        options.json.write_text(json.dumps(all_figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
