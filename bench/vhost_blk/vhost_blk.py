#!/usr/bin/env python3
"""Measures virtio-blk over vhost-user: one vring, 4 KiB random reads, the device on one core and the load generator
spinning on another. sma-target and QEMU's storage daemon in turn, each with a disk in memory and with a file in a file
system in memory, or with --folder on a disk, where both go past the page cache by io_uring; the daemon's disk in memory
is `null-co`, which fills buffers with zeros. Prints a table: I/Os per second, the best of the rounds because noise only
slows down, and per second of the device's own processor time.

usage: .venv/bin/python bench/vhost_blk/vhost_blk.py [--seconds S] [--rounds N] [--folder FOLDER] [--json FILE]
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
CLOCK_TICK_S = 0.01  # of processor time: less is not seen


def start_target(options, work_dir, stack):
    """sma-target with both disks; its process, and their sockets by name."""
    target = stack.enter_context(Target(options.build_dir / "bin", work_dir, [
        "-S", work_dir, "--cores", f"[{options.target_cpu}]", "--log-level", "warning"]))
    target.call("bdev_malloc_create", name="memory", block_size=BLOCK_SIZE, num_blocks=DISK_MIB * MIB // BLOCK_SIZE)
    target.call("bdev_aio_create", name="file", filename=str(work_dir / "disk.img"),
                block_size=FILE_BLOCK_SIZE)
    for name in ("memory", "file"):
        target.call("vhost_create_blk_controller", ctrlr=f"sma-{name}", dev_name=name)
    return target.process, {name: work_dir / f"sma-{name}" for name in ("memory", "file")}


def start_daemon(options, work_dir, stack):
    """As start_target, of qemu-storage-daemon. It polls for as long as sma-target does by default."""
    sockets = {name: work_dir / f"qemu-{name}" for name in ("memory", "file")}
    exports = [f"type=vhost-user-blk,id={name},node-name={name},addr.type=unix,addr.path={path},writable=on,iothread=io"
               for name, path in sockets.items()]
    how = "" if options.folder == MEMORY_FOLDER else ",cache.direct=on,aio=io_uring"
    daemon = Process("qemu-storage-daemon", [
        "taskset", "-c", options.target_cpu, "qemu-storage-daemon", "--object", "iothread,id=io,poll-max-ns=50000",
        "--blockdev", f"driver=null-co,node-name=memory,size={DISK_MIB * MIB},read-zeroes=on",
        "--blockdev", f"driver=file,node-name=file,filename={work_dir / 'disk.img'}{how}",
        *(argument for export in exports for argument in ("--export", export))], work_dir)
    stack.callback(daemon.kill)
    daemon.wait_until(lambda: all(path.exists() for path in sockets.values()), 10, "listens")
    return daemon, sockets


def load(options, device, disk, depth):
    """(I/Os per second, I/Os per second of the device's processor time)."""
    process, sockets = device
    before_s, started = process.cpu_seconds(), time.monotonic()
    output = subprocess.run(
        [options.build_dir / "bin" / "vhost_blk_load", "--socket", sockets[disk], "--depth", str(depth), "--cpu",
         str(options.client_cpu), "--seconds", str(options.seconds), "--disk-bytes", str(DISK_MIB * MIB)],
        check=True, capture_output=True, text=True, timeout=60).stdout
    busy = (process.cpu_seconds() - before_s) / (time.monotonic() - started)
    rate = json.loads(output)["ios_per_second"]
    return rate, rate / max(busy, CLOCK_TICK_S)


def measure(options, devices, disk, depth):
    """One line of the table, as printed and as a dictionary."""
    rounds = [[load(options, device, disk, depth) for device in devices] for _ in range(options.rounds)]
    (mine, mine_cpu), (other, other_cpu) = ([max(part) for part in zip(*of_one)] for of_one in zip(*rounds))
    print(f"{disk:8} {depth:5} {mine:14,.0f} {other:14,.0f} {mine / other:7.2f} {mine_cpu:16,.0f} {other_cpu:16,.0f} "
          f"{mine_cpu / other_cpu:7.2f}", flush=True)
    return {"disk": disk, "depth": depth, "sma_target": mine, "qemu_storage_daemon": other,
            "sma_target_per_cpu_second": mine_cpu, "qemu_storage_daemon_per_cpu_second": other_cpu}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=pathlib.Path, default=MEMORY_FOLDER, help="where the file is made")
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
        (work_dir / "disk.img").write_bytes(b"\x5a" * (DISK_MIB * MIB))
        devices = start_target(options, work_dir, stack), start_daemon(options, work_dir, stack)
        print(f"{'disk':8} {'depth':>5} {'sma-target/s':>14} {'qemu daemon/s':>14} {'ratio':>7} {'sma/cpu s':>16} "
              f"{'qemu/cpu s':>16} {'ratio':>7}")
        lines = [measure(options, devices, disk, depth) for disk in ("memory", "file") for depth in DEPTHS]
    if options.json:
        options.json.write_text(json.dumps(lines, indent=1))


if __name__ == "__main__":
    main()
