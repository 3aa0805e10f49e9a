#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures healthy devices of the agent with one bad neighbour of each kind, and in turn, with the same agent, without
calls to it: the latency of their calls and of health checks, how soon they are restored after the target was killed,
and how soon the agent serves calls, and has compared all devices, after its restart. Prints the ratios.

usage: .venv/bin/python bench/control_plane/neighbours.py [--devices 200] [--callers 16] [--rounds 5] [--kinds K,...]
"""

import argparse
import contextlib
import json
import pathlib
import sys
import tempfile
import time

from scale import ROOT, World, nqn, slowdown

sys.path.insert(0, str(ROOT / "tests"))

from control_plane import Side  # noqa: E402
from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: E402
from harness.agent import start_sma  # noqa: E402
from harness.neighbours import KINDS, BadCalls  # noqa: E402

METHODS = ("detach", "delete", "create", "attach")
HEALTH_CALLS = 100


class NoNeighbour:
    """Shows how much the figures of two measurements differ by themselves."""

    title = "none"
    config = {}
    env = {}

    def __init__(self, work_dir):
        pass

    def close(self):
        pass


ALL_KINDS = {"none": NoNeighbour, **KINDS}


class NeighbourWorld(World):
    """A world whose agent has a neighbour, and one more device for the calls to the neighbour."""

    def __init__(self, options, work_dir, neighbour):
        super().__init__(options, options.devices, work_dir)
        self.agent.stop()
        self.agent = start_sma(self._bin_dir, work_dir, socket=str(self.target.socket), env=neighbour.env,
                               **neighbour.config)
        self.load = self._bin_dir / "agent_load"
        self.name = neighbour.title

    run = Side.run

    @property
    def port(self):
        return str(self._type.port)

    def health_ms(self):
        """Returns the durations of health checks."""
        stub, durations = health_pb2_grpc.HealthStub(self.agent.client.channel), []
        for _ in range(HEALTH_CALLS):
            start = time.monotonic()
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=60)
            durations.append(1000 * (time.monotonic() - start))
            if answer.status != health_pb2.HealthCheckResponse.SERVING:
                raise RuntimeError(f"{self.name}: the agent does not serve")
        return durations


def percentile(samples, share):
    return sorted(samples)[min(len(samples) - 1, int(len(samples) * share))]


def measure_once(world, options, samples):
    """Adds the figures of one round to `samples`, {name: list}."""
    for method in METHODS:
        samples.setdefault(method, []).extend(world.run(method, 0, options.devices, options.callers)["samples_ms"])
    samples.setdefault("health", []).extend(world.health_ms())
    samples.setdefault("target_back_s", []).append(world.restart_target_until_listed())
    start = time.monotonic()
    samples.setdefault("serving_s", []).append(world.restart_agent_until_serving())
    # The device whose calls go to the neighbour may take longer.
    world.wait(lambda status: status.restore.done >= options.devices, "the healthy devices have been compared")
    samples.setdefault("compared_s", []).append(time.monotonic() - start)


def summary(samples):
    """Returns {figure: value}: medians, and the 99th percentiles of calls."""
    figures = {}
    for name, values in samples.items():
        if name.endswith("_s"):
            figures[name] = percentile(values, 0.5)
        else:
            figures[f"{name} median_ms"], figures[f"{name} p99_ms"] = percentile(values, 0.5), percentile(values, 0.99)
    return figures


def measure(options, kind):
    """Returns the figures without and with the neighbour."""
    without, with_neighbour = {}, {}
    with contextlib.ExitStack() as stack:
        work_dir = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sma-bench-")))
        neighbour = kind(work_dir)
        stack.callback(neighbour.close)
        world = stack.enter_context(NeighbourWorld(options, work_dir, neighbour))
        world.make_devices()
        world.agent.client.create_nvmf_tcp(nqn(options.devices), world.port)
        for turn in range(options.rounds + 1):
            # One of the two is measured first in turn. The first round only warms up.
            for is_bad in (False, True) if turn % 2 else (True, False):
                with contextlib.ExitStack() as calls:
                    if is_bad and kind is not NoNeighbour:
                        calls.enter_context(BadCalls(neighbour, world.agent, f"nvmf-tcp:{nqn(options.devices)}"))
                    measure_once(world, options, {} if turn == 0 else with_neighbour if is_bad else without)
    return summary(without), summary(with_neighbour)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--build-dir", type=pathlib.Path, default=ROOT / "build" / "release")
    parser.add_argument("--devices", type=int, default=200)
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rpc-delay-ms", type=int, default=8, help="what a call costs on the target; 0: nothing")
    parser.add_argument("--kinds", type=lambda text: text.split(","), default=list(ALL_KINDS),
                        help=f"of {', '.join(ALL_KINDS)}")
    parser.add_argument("--json", type=pathlib.Path, help="write the figures to this file, too")
    options = parser.parse_args()
    options.type = "nvmf_tcp"
    all_figures = {}
    for name in options.kinds:
        without, with_neighbour = measure(options, ALL_KINDS[name])
        busy = slowdown()
        all_figures[name] = {"without": without, "with": with_neighbour, "slowdown": busy}
        print(f"\n{ALL_KINDS[name].title} (a program takes {busy:.1f} times its processor time)")
        print(f"{'':24} {'without':>10} {'with':>10} {'ratio':>7}")
        for figure, value in without.items():
            print(f"{figure:24} {value:10.3f} {with_neighbour[figure]:10.3f} {with_neighbour[figure] / value:7.2f}",
                  flush=True)
    print("\nratios" + " " * 18 + "".join(f"{name:>15}" for name in all_figures))
    for figure in next(iter(all_figures.values()))["without"]:
        print(f"{figure:24}" + "".join(f"{f['with'][figure] / f['without'][figure]:15.2f}"
                                       for f in all_figures.values()))
    if options.json:
        options.json.write_text(json.dumps(all_figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
