#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares the agent with the reference agent, spdk-sma, in one run: each has its own sma-target that answers as slowly
as a real SPDK target, and they take turns. Prints tables; see docs/performance.md.

usage: .venv/bin/python bench/control_plane/control_plane.py [--devices 50,200,1000] [--callers 1,16,64] [--json FILE]
"""

import argparse
import contextlib
import json
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from harness.agent import free_port, start_reference, start_sma  # noqa: E402
from harness.rpc_proxy import RpcProxy  # noqa: E402
from harness.target import Target  # noqa: E402
from harness.wait import wait_until  # noqa: E402
from harness.wire import sma as sma_pb2  # noqa: E402

# (title, method of agent_load), in the order in which each device is created, used and deleted.
STEPS = [("CreateDevice", "create"), ("CreateDevice again", "create"), ("AttachVolume", "attach"),
         ("AttachVolume again", "attach"), ("SetQos", "set_qos"), ("DetachVolume", "detach"),
         ("DetachVolume again", "detach"), ("DeleteDevice", "delete"), ("DeleteDevice again", "delete")]
OURS, REFERENCE = "sma", "spdk-sma"


class Side:
    """One agent with its target."""

    def __init__(self, name, options, work_dir, stack, through=None):
        """`through` is a function that returns the socket that the agent must use instead of the target's."""
        self.name = name
        self.port = str(free_port())
        self.load = options.build_dir / "bin" / "agent_load"
        self.bdevs = 0
        work_dir = work_dir / name
        work_dir.mkdir()
        self.target = stack.enter_context(Target(options.build_dir / "bin", work_dir,
                                                 ["--rpc-delay-ms", str(options.rpc_delay_ms)]))
        socket = through(self.target.socket) if through else self.target.socket
        started = time.monotonic()
        if name == OURS:
            self.agent = start_sma(options.build_dir / "bin", work_dir, socket=str(socket))
        else:
            self.agent = start_reference(work_dir, socket=str(socket))
        stack.callback(self.agent.stop)
        request = sma_pb2.GetQosCapabilitiesRequest(device_type=sma_pb2.DEVICE_TYPE_NVMF_TCP)
        self.agent.client.stub.GetQosCapabilities(request, timeout=10)
        self.ready_ms = (time.monotonic() - started) * 1000

    def need_bdevs(self, count):
        """Creates those of bdevs 0 to count-1 that do not exist, with the UUIDs that agent_load uses."""
        with self.target.connect() as client:
            todo = range(self.bdevs, count)
            for chunk in (todo[i:i + 100] for i in range(0, len(todo), 100)):
                for n in chunk:
                    client.send("bdev_null_create", {"name": f"null{n}", "num_blocks": 2048, "block_size": 512,
                                                     "uuid": f"00000000-0000-4000-8000-{n:012x}"})
                answers = [client.receive() for _ in chunk]
                if failed := [a for a in answers if "error" in a]:
                    raise RuntimeError(f"bdev_null_create: {failed[0]}")
        self.bdevs = max(self.bdevs, count)

    def run(self, method, first, count, callers):
        """Returns the summary that agent_load prints. Raises RuntimeError if a call failed."""
        output = subprocess.run(
            [self.load, "--address", self.agent.address, "--method", method, "--trsvcid", self.port,
             "--callers", str(callers), "--first", str(first), "--count", str(count)],
            check=True, capture_output=True, text=True, timeout=3600).stdout
        summary = json.loads(output)
        if summary["errors"]:
            raise RuntimeError(f"{self.name}: {method}: {summary['errors']} of {count} calls failed; the first: "
                               f"{summary['first_error']}")
        return summary

    def populate(self, devices):
        """Creates devices 0 to devices-1, each with its volume."""
        self.need_bdevs(devices)
        for method in ("create", "attach"):
            self.run(method, 0, devices, 16)

    def has_qos(self):
        request = sma_pb2.GetQosCapabilitiesRequest(device_type=sma_pb2.DEVICE_TYPE_NVMF_TCP)
        answer = self.agent.client.stub.GetQosCapabilities(request, timeout=10)
        return answer.max_volume_caps.rw_iops and "bdev_set_qos_limit" in self.target.call("rpc_get_methods")


def merge(summaries):
    samples = sorted(s for summary in summaries for s in summary["samples_ms"])
    return {"calls": len(samples),
            "per_second": len(samples) / sum(summary["seconds"] for summary in summaries),
            "median_ms": samples[len(samples) // 2],
            "p99_ms": samples[min(len(samples) - 1, int(len(samples) * 0.99))]}


def measure(sides, devices, callers, options):
    """{title: {side's name: figures}} measured while `devices` devices already exist. Volumes do not keep their limits
    for the next turn, because sma would otherwise set them again when they are attached, in a second round trip."""
    steps = [step for step in STEPS if step[1] != "set_qos" or all(side.has_qos() for side in sides)]
    results = {title: {side.name: [] for side in sides} for title, _ in steps}
    for turn in range(options.rounds):
        for title, method in steps:
            # The sides take turns at being measured first.
            for side in sides if turn % 2 == 0 else reversed(sides):
                count = max(options.samples if side.name == OURS else options.reference_samples,
                            callers * (8 if side.name == OURS else 1))
                side.need_bdevs(devices + count)
                results[title][side.name].append(side.run(method, devices, count, callers))
                if method == "set_qos":
                    side.run("clear_qos", devices, count, callers)
    return {title: {name: merge(summaries) for name, summaries in by_side.items()}
            for title, by_side in results.items()}


def print_table(results, devices, callers):
    print(f"\n{devices} devices, {callers} caller{'s' if callers > 1 else ''}\n")
    print(f"{'':20} {'calls/s':>9} {'median ms':>10} {'p99 ms':>8}   {'calls/s':>9} {'median ms':>10} "
          f"{'p99 ms':>8}   {'ratio':>7}")
    for title, by_side in results.items():
        columns = [f"{f['per_second']:9.1f} {f['median_ms']:10.2f} {f['p99_ms']:8.2f}" for f in by_side.values()]
        ratio = ""
        if REFERENCE in by_side:
            ratio = f"{by_side[OURS]['per_second'] / by_side[REFERENCE]['per_second']:6.1f}x"
        print(f"{title:20} {'   '.join(columns)}   {ratio:>7}", flush=True)


def count_round_trips(names, options):
    """{title: {side's name: (target calls, dependent round trips)}} of one call each, as medians."""
    results = {}
    for name in names:
        with contextlib.ExitStack() as stack:
            work_dir = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sma-bench-")))
            proxy = None

            def through(socket):
                nonlocal proxy
                proxy = stack.enter_context(RpcProxy(socket, work_dir / "proxy.sock"))
                return proxy.path

            side = Side(name, options, work_dir, stack, through)
            side.populate(5)
            side.need_bdevs(5 + options.round_trip_samples)
            steps = [step for step in STEPS if step[1] != "set_qos" or side.has_qos()]
            for title, method in steps:
                figures = []
                for number in range(5, 5 + options.round_trip_samples):
                    proxy.reset()
                    side.run(method, number, 1, 1)
                    figures.append((proxy.calls, proxy.round_trips))
                results.setdefault(title, {})[name] = sorted(figures)[len(figures) // 2]
    return results


def print_round_trips(results, names):
    print("\nOn the target's socket, for one call with one caller\n")
    print(f"{'':20} " + "   ".join(f"{name + ': calls':>16} {'round trips':>11}" for name in names))
    for title, by_side in results.items():
        print(f"{title:20} " + "   ".join(f"{by_side[n][0]:16} {by_side[n][1]:11}" for n in names if n in by_side))


def worker_threads(pid):
    """Returns the number of an agent's threads for calls."""
    return sum(name.read_text() == "sma-worker\n" for name in pathlib.Path(f"/proc/{pid}/task").glob("*/comm"))


def measure_growth(options):
    """[(calls so far, resident MiB)] of sma, with 1,000 devices that exist all the time, 64 callers that create, use
    and delete others, and a target that answers immediately. The last element is measured after a time without
    calls."""
    devices, callers, block = 1000, 64, 1024
    options = argparse.Namespace(**{**vars(options), "rpc_delay_ms": 0})
    methods = list(dict.fromkeys(method for _, method in STEPS))
    figures = []
    with contextlib.ExitStack() as stack:
        work_dir = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sma-bench-")))
        side = Side(OURS, options, work_dir, stack)
        side.populate(devices)
        side.need_bdevs(devices + block)

        def note(calls):
            figures.append((calls, side.agent.process.resident_kib() / 1024))

        note(0)
        calls = 0
        while calls < options.growth:
            for method in methods:
                side.run(method, devices, block, callers)
                calls += block
            if len(figures) <= 10 * calls / options.growth:
                note(calls)
        # The threads end after ten seconds without work, and the memory is returned before.
        wait_until(lambda: not worker_threads(side.agent.process.pid), 30, "the agent's worker threads have ended")
        note(calls)
    return figures


def print_growth(figures):
    print("\nResident memory with 1,000 devices while 64 callers make, use and remove others\n")
    for calls, resident_mib in figures[:-1]:
        print(f"{calls:9,} calls {resident_mib:6.1f} MiB")
    print(f"{'':9} idle  {figures[-1][1]:6.1f} MiB")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    numbers = (lambda text: [int(n) for n in text.split(",")])
    parser.add_argument("--build-dir", type=pathlib.Path, default=ROOT / "build" / "release")
    parser.add_argument("--devices", type=numbers, default=[50, 200, 1000], help="how many exist, comma separated")
    parser.add_argument("--callers", type=numbers, default=[1, 16, 64], help="how many call at once, comma separated")
    parser.add_argument("--rpc-delay-ms", type=int, default=8, help="what a call costs on the target; 0: nothing")
    parser.add_argument("--rounds", type=int, default=2, help="turns that each agent has")
    parser.add_argument("--samples", type=int, default=200, help="calls of each method in a turn, of sma")
    parser.add_argument("--reference-samples", type=int, default=20, help="the same, of spdk-sma")
    parser.add_argument("--round-trip-samples", type=int, default=5)
    parser.add_argument("--no-reference", action="store_true", help="measure sma alone")
    parser.add_argument("--growth", type=int, metavar="CALLS",
                        help="instead: memory of sma over so many calls (100000, say)")
    parser.add_argument("--json", type=pathlib.Path, help="write the figures to this file, too")
    return parser.parse_args()


def main():
    options = parse_arguments()
    if options.growth:
        return print_growth(measure_growth(options))
    names = [OURS] if options.no_reference else [OURS, REFERENCE]
    report = {"rpc_delay_ms": options.rpc_delay_ms, "tables": []}
    print(f"left: {OURS}" + ("" if options.no_reference else f", right: {REFERENCE}; ratio of calls per second")
          + f"; one target call costs {options.rpc_delay_ms} ms")
    for devices in options.devices:
        with contextlib.ExitStack() as stack:
            work_dir = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sma-bench-")))
            sides = [Side(name, options, work_dir, stack) for name in names]
            for side in sides:
                side.populate(devices)
            for callers in options.callers:
                results = measure(sides, devices, callers, options)
                print_table(results, devices, callers)
                report["tables"].append({"devices": devices, "callers": callers, "results": results})
            memory = {side.name: side.agent.process.resident_kib() / 1024 for side in sides}
            ready = {side.name: side.ready_ms for side in sides}
            print("\nready after " + ", ".join(f"{n}: {t:.0f} ms" for n, t in ready.items())
                  + f"; resident with {devices} devices " + ", ".join(f"{n}: {m:.1f} MiB" for n, m in memory.items()))
            report.setdefault("agents", []).append({"devices": devices, "resident_mib": memory, "ready_ms": ready})
    round_trips = count_round_trips(names, options)
    print_round_trips(round_trips, names)
    report["round_trips"] = round_trips
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
