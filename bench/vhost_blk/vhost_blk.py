#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures virtio-blk over vhost-user: one vring, 4 KiB random reads and writes, with the device on one core and the
load generator polling on another. Measures sma-target and QEMU's storage daemon in turn, first with a disk in memory
(sma-target's memory disk; for the daemon, which does not have one, a file in an in-memory file system), then both with
a file, either in memory or, with --folder, on a disk, where both bypass the page cache and use io_uring. Every block is
written before the measurements.

Prints a table: the I/Os per second of the best round (because noise only slows a round down), the spread of the rounds
of sma-target, the ratio to the daemon and to plain copies of the same blocks in memory on one core, and I/Os per second
of the device's own CPU time. A ratio that differs from 1 by less than the spread is noise.

usage: .venv/bin/python bench/vhost_blk/vhost_blk.py [--seconds S] [--rounds N] [--folder FOLDER] [--against BIN_DIR]
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

from harness.process import Process  # noqa: E402
from harness.target import MIB, Target  # noqa: E402

DISK_MIB = 64
BLOCK_SIZE = 512
FILE_BLOCK_SIZE = 4096
MEMORY_FOLDER = pathlib.Path("/dev/shm")
DEPTHS = (1, 32, 128)
CLOCK_TICK_S = 0.01  # the resolution of CPU time


def start_target(options, bin_dir, work_dir, stack):
    """Starts sma-target with both disks; returns its process and the sockets by name."""
    work_dir.mkdir()
    (work_dir / "disk.img").write_bytes(b"\x5a" * (DISK_MIB * MIB))
    target = stack.enter_context(Target(bin_dir, work_dir, [
        "-S", work_dir, "--cores", f"[{options.target_cpu}]", "--log-level", "warning"]))
    target.call("bdev_malloc_create", name="memory", block_size=BLOCK_SIZE, num_blocks=DISK_MIB * MIB // BLOCK_SIZE)
    target.call("bdev_aio_create", name="file", filename=str(work_dir / "disk.img"),
                block_size=FILE_BLOCK_SIZE)
    for name in ("memory", "file"):
        target.call("vhost_create_blk_controller", ctrlr=f"sma-{name}", dev_name=name)
    return target.process, {name: work_dir / f"sma-{name}" for name in ("memory", "file")}


def start_daemon(options, work_dir, stack):
    """Like start_target, for qemu-storage-daemon. It polls for as long as sma-target does by default."""
    work_dir.mkdir()
    (work_dir / "disk.img").write_bytes(b"\x5a" * (DISK_MIB * MIB))
    memory = MEMORY_FOLDER / f"vhost_blk_{work_dir.parent.name}.img"
    stack.callback(lambda: memory.unlink(missing_ok=True))
    memory.write_bytes(b"\x5a" * (DISK_MIB * MIB))
    sockets = {name: work_dir / f"qemu-{name}" for name in ("memory", "file")}
    exports = [f"type=vhost-user-blk,id={name},node-name={name},addr.type=unix,addr.path={path},writable=on,iothread=io"
               for name, path in sockets.items()]
    how = "" if options.folder == MEMORY_FOLDER else ",cache.direct=on,aio=io_uring"
    daemon = Process("qemu-storage-daemon", [
        "taskset", "-c", options.target_cpu, "qemu-storage-daemon", "--object", "iothread,id=io,poll-max-ns=50000",
        "--blockdev", f"driver=file,node-name=memory,filename={memory}",
        "--blockdev", f"driver=file,node-name=file,filename={work_dir / 'disk.img'}{how}",
        *(argument for export in exports for argument in ("--export", export))], work_dir)
    stack.callback(daemon.kill)
    daemon.wait_until(lambda: all(path.exists() for path in sockets.values()), 10, "listens")
    return daemon, sockets


def run_load(options, *arguments):
    output = subprocess.run([options.build_dir / "bin" / "vhost_blk_load", "--cpu", str(options.client_cpu),
                             "--disk-bytes", str(DISK_MIB * MIB), *map(str, arguments)],
                            check=True, capture_output=True, text=True, timeout=120).stdout
    rate = json.loads(output)["ios_per_second"]
    if rate == 0:
        sys.exit(f"no I/O completed in {options.seconds} s: the machine is too busy, or --seconds too short")
    return rate


def load(options, device, disk, depth, flags):
    """Returns (I/Os per second, I/Os per second of the device's CPU time)."""
    process, sockets = device
    before_s, started = process.cpu_seconds(), time.monotonic()
    rate = run_load(options, "--socket", sockets[disk], "--depth", depth, "--seconds", options.seconds, *flags)
    busy = (process.cpu_seconds() - before_s) / (time.monotonic() - started)
    return rate, rate / max(busy, CLOCK_TICK_S)


def measure(options, devices, copies, disk, depth, flags):
    """Returns one line of the table, as text and as a dictionary."""
    rounds = [[load(options, device, disk, depth, flags) for device in devices] for _ in range(options.rounds)]
    of_mine = [of_round[0][0] for of_round in rounds]
    (mine, mine_cpu), (other, other_cpu) = ([max(part) for part in zip(*of_one)] for of_one in zip(*rounds))
    spread, kind = (max(of_mine) - min(of_mine)) / max(of_mine), "write" if flags else "read"
    print(f"{disk:7} {kind:6} {depth:5} {mine:13,.0f} {spread:7.0%} {other:13,.0f} {mine / other:7.2f} "
          f"{mine / copies[kind]:8.2f} {mine_cpu:13,.0f} {other_cpu:13,.0f} {mine_cpu / other_cpu:7.2f}", flush=True)
    return {"disk": disk, "kind": kind, "depth": depth, "sma_target": mine, "spread": spread, "other": other,
            "copies": copies[kind], "sma_target_per_cpu_second": mine_cpu, "other_per_cpu_second": other_cpu}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=pathlib.Path, default=MEMORY_FOLDER, help="where the file is made")
    parser.add_argument("--against", type=pathlib.Path, metavar="BIN_DIR",
                        help="compare with the sma-target of another build instead of QEMU's storage daemon")
    parser.add_argument("--json", type=pathlib.Path, help="write the results to this file, too")
    parser.add_argument("--build-dir", type=pathlib.Path, default=ROOT / "build" / "release")
    parser.add_argument("--target-cpu", type=int, default=0)
    parser.add_argument("--client-cpu", type=int, default=1)
    return parser.parse_args()


def main():
    options = parse_arguments()
    with contextlib.ExitStack() as stack:
        folder = tempfile.TemporaryDirectory(prefix="vhost_blk", dir=options.folder)
        work_dir = pathlib.Path(stack.enter_context(folder))
        mine = start_target(options, options.build_dir / "bin", work_dir / "sma", stack)
        if options.against:
            other, name = start_target(options, options.against, work_dir / "other", stack), "other build/s"
        else:
            other, name = start_daemon(options, work_dir / "qemu", stack), "qemu daemon/s"
        for device in (mine, other):
            for disk in ("memory", "file"):
                load(options, device, disk, 32, ["--fill", "--write"])
        copies = {kind: max(run_load(options, "--copy", "--depth", 32, "--seconds", options.seconds, *flags)
                            for _ in range(options.rounds))
                  for kind, flags in (("read", []), ("write", ["--write"]))}
        print(f"{'disk':7} {'':6} {'depth':>5} {'sma-target/s':>13} {'spread':>7} {name:>13} {'ratio':>7} "
              f"{'of copy':>8} {'sma/cpu s':>13} {'other/cpu s':>13} {'ratio':>7}")
        lines = [measure(options, (mine, other), copies, disk, depth, flags)
                 for disk in ("memory", "file") for flags in ([], ["--write"]) for depth in DEPTHS]
        print(f"plain copies of 4 KiB: to buffers {copies['read']:,.0f}/s, to the disk {copies['write']:,.0f}/s")
    if options.json:
        options.json.write_text(json.dumps(lines, indent=1))


if __name__ == "__main__":
    main()
