#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures healthy devices of the agent in the presence of one bad neighbour of each kind, and without any: the
duration of their calls, how soon they are restored after the target was killed, and how soon the agent serves calls
after its restart. Prints a table.

usage: .venv/bin/python bench/control_plane/neighbours.py [--devices 200] [--callers 16] [--rounds 3]
"""

import argparse
import contextlib
import pathlib
import sys
import tempfile

from scale import ROOT, World, nqn

sys.path.insert(0, str(ROOT / "tests"))

from control_plane import Side  # noqa: E402
from harness.agent import start_sma  # noqa: E402
from harness.neighbours import KINDS, BadCalls  # noqa: E402


class Healthy:
    """No bad neighbour."""

    title = "none"
    config = {}
    env = {}

    def __init__(self, work_dir):
        pass

    def close(self):
        pass


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
        return str(self._port)


def measure(options, kind):
    figures = {"calls_per_second": [], "median_ms": [], "back_s": [], "serving_s": []}
    with contextlib.ExitStack() as stack:
        work_dir = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sma-bench-")))
        neighbour = kind(work_dir)
        stack.callback(neighbour.close)
        world = stack.enter_context(NeighbourWorld(options, work_dir, neighbour))
        world.make_devices()
        world.agent.client.create_nvmf_tcp(nqn(options.devices), world.port)
        for _ in range(options.rounds):
            with contextlib.ExitStack() as calls:
                if kind is not Healthy:
                    calls.enter_context(BadCalls(neighbour, world.agent, f"nvmf-tcp:{nqn(options.devices)}"))
                for method in ("detach", "attach"):
                    summary = world.run(method, 0, options.devices, options.callers)
                    figures["calls_per_second"].append(summary["calls"] / summary["seconds"])
                    figures["median_ms"].append(summary["median_ms"])
                figures["back_s"].append(world.restart_target_until_listed())
            figures["serving_s"].append(world.restart_agent_until_serving())
    return {name: sorted(values)[len(values) // 2] for name, values in figures.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--build-dir", type=pathlib.Path, default=ROOT / "build" / "release")
    parser.add_argument("--devices", type=int, default=200)
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rpc-delay-ms", type=int, default=8, help="what a call costs on the target; 0: nothing")
    options = parser.parse_args()
    print(f"{'bad neighbour':38} {'calls/s':>9} {'median ms':>10} {'back s':>8} {'serving s':>10}")
    for kind in [Healthy, *KINDS.values()]:
        figures = measure(options, kind)
        print(f"{kind.title:38} {figures['calls_per_second']:9.0f} {figures['median_ms']:10.2f} "
              f"{figures['back_s']:8.2f} {figures['serving_s']:10.2f}", flush=True)


if __name__ == "__main__":
    main()
