#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures NVMe controllers over vfio-user: sma-target on one core, a driver in shared memory polling on another, and,
alternating with each case, a controller that only copies the same bytes, which is the upper bound of this machine. The
target has one core, so I/Os per second are I/Os per second and core.

usage: .venv/bin/python bench/vfio_user/vfio_user.py [--quick] [--json FILE]
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from harness.target import MIB, Target  # noqa: E402

BLOCK_SIZE = 4096
BLOCKS = 64 * MIB // BLOCK_SIZE
NQN = "nqn.2016-06.io.spdk:vfiouser-0"
DEPTHS = [1, 32, 128]
QUEUES = [1, 4]


def make_controller(target, folder):
    folder.mkdir()
    target.call("nvmf_create_transport", trtype="vfiouser")
    target.call("bdev_malloc_create", name="malloc0", block_size=BLOCK_SIZE, num_blocks=BLOCKS)
    target.call("nvmf_create_subsystem", nqn=NQN, allow_any_host=True)
    target.call("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": "malloc0"})
    target.call("nvmf_subsystem_add_listener", nqn=NQN, listen_address={"trtype": "vfiouser", "traddr": str(folder)})
    return folder / "cntrl"


def measure(options, *arguments):
    command = [str(options.build_dir / "bin" / "vfio_user_load"), "--blocks", str(BLOCKS), "--seconds",
               str(options.seconds), "--cpu", str(options.driver_cpu), *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["ios_per_s"]


def run_cases(options, socket):
    results = []
    for write in (False, True):
        for queues in QUEUES:
            for depth in DEPTHS:
                case = ["--queues", str(queues), "--depth", str(depth)] + (["--write"] if write else [])
                results.append({
                    "operation": "write" if write else "read", "queues": queues, "depth": depth,
                    "target": measure(options, "--socket", str(socket), *case),
                    "limit": measure(options, "--limit", "--limit-cpu", str(options.target_cpu), *case)})
    return results


def print_table(results):
    print("| 4 KiB random | queues | depth of each | I/Os per second and core | ring that only copies | ratio |")
    print("|---|---|---|---|---|---|")
    for row in results:
        print(f"| {row['operation']} | {row['queues']} | {row['depth']} | {row['target']:,.0f} | {row['limit']:,.0f} "
              f"| {row['target'] / row['limit']:.0%} |")


def main():
    cpus = sorted(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build-dir", type=pathlib.Path, default=ROOT / "build" / "release")
    parser.add_argument("--quick", action="store_true", help="half a second for each measurement instead of two")
    parser.add_argument("--json", type=pathlib.Path, help="write the figures there, too")
    parser.add_argument("--target-cpu", type=int, default=cpus[0])
    parser.add_argument("--driver-cpu", type=int, default=cpus[1 % len(cpus)])
    options = parser.parse_args()
    options.seconds = 0.5 if options.quick else 2
    with tempfile.TemporaryDirectory(prefix="vfio_user_bench_") as name:
        work_dir = pathlib.Path(name)
        arguments = ["--cores", f"[{options.target_cpu}]", "--log-level", "warning"]
        with Target(options.build_dir / "bin", work_dir, arguments) as target:
            socket = make_controller(target, work_dir / "controller")
            # The kernel allocates the disk's memory at the first write.
            measure(options, "--socket", str(socket), "--write", "--depth", "128")
            results = run_cases(options, socket)
    print_table(results)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
