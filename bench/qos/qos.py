#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures how exactly limits are kept: sma-target with one null bdev, and the load generator (sma-nvme perf)
requesting more than the limits allow. Prints a table of limits and measured rates.

usage: .venv/bin/python bench/qos/qos.py [--seconds S] [--build-dir DIR]
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from harness.agent import free_port  # noqa: E402
from harness.target import MIB, Target  # noqa: E402

NQN = "nqn.2016-06.io.spdk:qos"
UNLIMITED = {"rw_ios_per_sec": 0, "rw_mbytes_per_sec": 0, "r_mbytes_per_sec": 0, "w_mbytes_per_sec": 0}
# Limits, percentage of reads, size of an I/O in bytes, number of I/O queues.
CASES = [
    ({"rw_ios_per_sec": 5000}, 100, 4096, 1),
    ({"rw_ios_per_sec": 20000}, 70, 4096, 1),
    ({"rw_ios_per_sec": 20000}, 0, 512, 4),
    ({"rw_mbytes_per_sec": 50}, 50, 4096, 1),
    ({"rw_mbytes_per_sec": 200}, 50, 131072, 1),
    ({"rw_mbytes_per_sec": 50}, 50, 4096, 4),
    ({"r_mbytes_per_sec": 60}, 100, 4096, 1),
    ({"w_mbytes_per_sec": 40}, 0, 4096, 1),
    ({"w_mbytes_per_sec": 40}, 0, 131072, 4),
    ({"r_mbytes_per_sec": 60, "w_mbytes_per_sec": 30}, 50, 4096, 1),
    ({"rw_ios_per_sec": 10000, "rw_mbytes_per_sec": 100}, 50, 4096, 2),
    ({"rw_ios_per_sec": 30000, "rw_mbytes_per_sec": 80, "r_mbytes_per_sec": 60, "w_mbytes_per_sec": 40}, 70, 4096, 2),
    ({"rw_ios_per_sec": 50000, "rw_mbytes_per_sec": 100, "r_mbytes_per_sec": 50, "w_mbytes_per_sec": 10}, 50, 4096, 2),
]


def expected_ios_per_second(limits, read_percent, io_bytes):
    """Returns the rate at which the first of the limits is reached, for this mix of reads and writes."""
    read = read_percent / 100
    shares = {"rw_ios_per_sec": 1, "rw_mbytes_per_sec": io_bytes / MIB, "r_mbytes_per_sec": read * io_bytes / MIB,
              "w_mbytes_per_sec": (1 - read) * io_bytes / MIB}
    return min(limit / shares[name] for name, limit in limits.items() if shares[name])


class Bench:
    def __init__(self, build_dir, target):
        self.perf, self.target, self.port = build_dir / "bin" / "sma-nvme", target, str(free_port())
        target.call("nvmf_create_transport", trtype="tcp")
        target.call("bdev_null_create", name="disk", block_size=512, num_blocks=1 << 20)
        target.call("nvmf_create_subsystem", nqn=NQN, allow_any_host=True)
        target.call("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": "disk"})
        target.call("nvmf_subsystem_add_listener", nqn=NQN, listen_address={
            "trtype": "tcp", "adrfam": "ipv4", "traddr": "127.0.0.1", "trsvcid": self.port})

    def measure(self, limits, read_percent, io_bytes, queues, seconds):
        """Returns the rate, and the target's CPU time during the measurement in percent of a core."""
        self.target.call("bdev_set_qos_limit", name="disk", **{**UNLIMITED, **limits})
        before_s, started = self.target.process.cpu_seconds(), time.monotonic()
        output = subprocess.run(
            [self.perf, "perf", "-s", self.port, "-n", NQN, "--json", "--sleep", "--seconds", str(seconds),
             "--warm-up", "0.5", "--io-size", str(io_bytes), "--read-percent", str(read_percent), "--depth", "32",
             "--connections", str(queues)], check=True, capture_output=True, text=True, timeout=120).stdout
        busy = (self.target.process.cpu_seconds() - before_s) / (time.monotonic() - started)
        return json.loads(output)["ios_per_second"], busy * 100


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--build-dir", type=lambda text: pathlib.Path(text).resolve(),
                        default=ROOT / "build" / "release")
    options = parser.parse_args()
    print(f"{'limits (I/Os or MiB per second)':52} {'load':>16} {'queues':>6} {'asked':>8} {'got':>9} {'ratio':>6} "
          f"{'cpu %':>6}")
    worst = 0.0
    with tempfile.TemporaryDirectory(prefix="sma-qos-") as work_dir, \
            Target(options.build_dir / "bin", work_dir, ["--log-level", "warning"]) as target:
        bench = Bench(options.build_dir, target)
        for limits, read_percent, io_bytes, queues in CASES:
            asked = expected_ios_per_second(limits, read_percent, io_bytes)
            got, busy = bench.measure(limits, read_percent, io_bytes, queues, options.seconds)
            worst = max(worst, abs(got / asked - 1))
            text = " ".join(f"{name.replace('_per_sec', '').replace('mbytes', 'MiB')}={value}"
                            for name, value in limits.items())
            load = f"{read_percent}% of {io_bytes}"
            print(f"{text:52} {load:>16} {queues:6} {asked:8.0f} {got:9.1f} {got / asked:6.3f} {busy:6.1f}", flush=True)
    print(f"worst: {worst * 100:.1f} % off")


if __name__ == "__main__":
    main()
