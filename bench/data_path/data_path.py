#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures the target's data path: sma-target on one core, the load generator (sma-nvme perf) polling on another, and,
alternating with each case, a loopback echo of the same message sizes and depth, which is the upper bound of this
machine. Prints tables; see docs/performance.md.

usage: .venv/bin/python bench/data_path/data_path.py [--quick] [--rounds N] [--json FILE] [--only TEXT]
"""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from harness.agent import free_port  # noqa: E402
from harness.target import MIB, Target  # noqa: E402

HOST_NQN = "nqn.2016-06.io.spdk:bench"
SIZE_MIB = 256
BLOCK_SIZE = 512
# The sizes of the PDUs in bytes: CapsuleCmd with its command, and C2HData or CapsuleResp without data.
COMMAND, HEADER = 72, 24
BDEVS = ["malloc", "null", "file", "crypto"]


class Bench:
    """A target with one subsystem for each kind of bdev, and the measurements."""

    def __init__(self, options, work_dir, stack):
        self.options = options
        self.bin = options.build_dir / "bin"
        self.port = str(free_port())
        self.work_dir = work_dir
        self.allocations = work_dir / "allocations"
        env = {"LD_PRELOAD": str(self.bin / "count_allocations.so"), "COUNT_ALLOCATIONS": str(self.allocations)}
        self.target = stack.enter_context(Target(self.bin, work_dir, [
            "--cores", f"[{options.target_cpu}]", "--log-level", "warning"],
            env=env if options.count_allocations else None))
        self.target.call("nvmf_create_transport", trtype="tcp", max_queue_depth=512)
        for kind in BDEVS:
            self._make_subsystem(kind, getattr(self, f"_make_{kind}")())

    def _make_malloc(self):
        return self._make_named_malloc("malloc0")

    def _make_named_malloc(self, name):
        return self.target.call("bdev_malloc_create", name=name, block_size=BLOCK_SIZE,
                                num_blocks=SIZE_MIB * MIB // BLOCK_SIZE)

    def _make_null(self):
        return self.target.call("bdev_null_create", name="null0", block_size=BLOCK_SIZE,
                                num_blocks=SIZE_MIB * MIB // BLOCK_SIZE)

    def _make_file(self):
        path = self.work_dir / "disk.img"
        with open(path, "wb") as file:
            for _ in range(SIZE_MIB):
                file.write(os.urandom(MIB))
        return self.target.call("bdev_aio_create", name="file0", filename=str(path), block_size=BLOCK_SIZE)

    def _make_crypto(self):
        self.target.call("accel_crypto_key_create", name="key0", cipher="AES_XTS", key="00" * 15 + "01",
                         key2="00" * 15 + "02")
        return self.target.call("bdev_crypto_create", base_bdev_name=self._make_named_malloc("malloc1"),
                                name="crypto0", key_name="key0")

    def _make_subsystem(self, kind, bdev):
        nqn = self.nqn(kind)
        self.target.call("nvmf_create_subsystem", nqn=nqn, allow_any_host=True)
        self.target.call("nvmf_subsystem_add_ns", nqn=nqn, namespace={"bdev_name": bdev})
        self.target.call("nvmf_subsystem_add_listener", nqn=nqn, listen_address={
            "trtype": "tcp", "adrfam": "ipv4", "traddr": "127.0.0.1", "trsvcid": self.port})

    @staticmethod
    def nqn(kind):
        return f"nqn.2016-06.io.spdk:bench-{kind}"

    def fill(self, kind):
        """Writes every block, so that reads find allocated memory. A null bdev has no memory."""
        if kind == "null":
            return
        self._run("sma-nvme", "verify", "-s", self.port, "-n", self.nqn(kind), "-q", HOST_NQN, "--size", "0")

    def perf(self, case):
        """Returns the load generator's results, with the target's CPU time for each I/O."""
        before_s, started = self.target.process.cpu_seconds(), time.monotonic()
        result = json.loads(self._run(
            "sma-nvme", "perf", "-s", self.port, "-n", self.nqn(case.bdev), "-q", HOST_NQN, "--json",
            "--cpu", str(self.options.client_cpu), "--seconds", str(self.options.seconds), "--warm-up", "0.3",
            "--io-size", str(case.io_bytes), "--depth", str(case.depth), "--connections", str(case.connections),
            "--read-percent", "100" if case.read else "0", *(["--sequential"] if case.sequential else []),
            *(["--hdgst", "--ddgst"] if case.digests else []), yielding=case.bdev == "file"))
        busy = (self.target.process.cpu_seconds() - before_s) / (time.monotonic() - started)
        result["target_cpu_us_per_io"] = busy / result["ios_per_second"] * 1e6
        return result

    def allocation_count(self):
        return int.from_bytes(self.allocations.read_bytes(), sys.byteorder)

    def echo(self, case, sleep=False, random=False):
        request, reply = (COMMAND, HEADER + case.io_bytes) if case.read else (COMMAND + case.io_bytes, HEADER)
        return json.loads(self._run(
            "loopback_echo", "--request-bytes", str(request), "--reply-bytes", str(reply), "--depth", str(case.depth),
            "--connections", str(case.connections), "--seconds", str(self.options.seconds),
            "--server-cpu", str(self.options.target_cpu), "--client-cpu", str(self.options.client_cpu),
            *(["--sleep"] if sleep else []), *(["--random-mib", str(SIZE_MIB)] if random else [])))

    def idle_percent(self):
        """Returns the target's use of one core while no host is connected."""
        time.sleep(0.5)  # until work left by the last case is finished
        before_s, started = self.target.process.cpu_seconds(), time.monotonic()
        time.sleep(max(1.0, self.options.seconds))
        return (self.target.process.cpu_seconds() - before_s) / (time.monotonic() - started) * 100

    def fio(self, case):
        """Returns the I/Os per second of fio with io_uring on the same file, while the load generator's core is as busy
        as it is when the target is measured (the disk's interrupts may go there); None without fio."""
        if shutil.which("fio") is None:
            return None
        kind = ("" if case.sequential else "rand") + ("read" if case.read else "write")
        with self._spinning(self.options.client_cpu):
            output = subprocess.run(
                ["fio", "--name=x", f"--filename={self.work_dir / 'disk.img'}", "--ioengine=io_uring", "--direct=1",
                 f"--rw={kind}", f"--bs={case.io_bytes}", f"--iodepth={case.depth}",
                 f"--runtime={self.options.seconds}", "--time_based", f"--cpus_allowed={self.options.target_cpu}",
                 "--output-format=json"],
                check=True, capture_output=True, text=True).stdout
        return json.loads(output)["jobs"][0]["read" if case.read else "write"]["iops"]

    @contextlib.contextmanager
    def _spinning(self, cpu):
        end = time.monotonic() + self.options.seconds + 30
        process = subprocess.Popen([sys.executable, "-c", f"import os, time\nos.sched_setaffinity(0, {{{cpu}}})\n"
                                                          f"while time.monotonic() < {end}: pass"],
                                   preexec_fn=yield_processor)
        try:
            yield
        finally:
            process.kill()
            process.wait()

    def _run(self, program, *arguments, yielding=False):
        result = subprocess.run([self.bin / program, *arguments], capture_output=True, text=True, timeout=300,
                                preexec_fn=yield_processor if yielding else None)
        if result.returncode != 0:
            raise RuntimeError(f"{program} {' '.join(arguments)}: {result.stderr}")
        return result.stdout


def yield_processor():
    """Lets the kernel's threads preempt the polling program. The threads that complete a file's writes run on the core
    of the disk's interrupts, which on two cores is the one on which the load generator polls."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def yields_to_kernel():
    """Returns true if SCHED_IDLE has an effect: with autogroups, a process competes only with those of its session."""
    autogroup = pathlib.Path("/proc/sys/kernel/sched_autogroup_enabled")
    return not autogroup.exists() or autogroup.read_text().strip() == "0"


class Case:
    """The I/O of a case."""

    def __init__(self, bdev, read, depth, connections=1, io_bytes=4096, digests=False):
        self.bdev, self.read, self.depth, self.connections = bdev, read, depth, connections
        self.io_bytes, self.digests = io_bytes, digests
        self.sequential = io_bytes > 4096

    def __str__(self):
        return " ".join([
            f"{self.bdev:6}", "read " if self.read else "write", f"{self.io_bytes // 1024:3d}K",
            "seq " if self.sequential else "rand", f"depth {self.depth:3d} x {self.connections}",
            "digests" if self.digests else "       "])


def cases(quick):
    """Returns the cases in the order of the table. The depth is per connection."""
    depths = [1, 32, 128] if quick else [1, 8, 32, 128, 256]
    for bdev in ["malloc"] if quick else BDEVS:
        for connections in [1] if quick else [1, 4]:
            if connections > 1 and bdev != "malloc":
                continue
            for read in (True, False):
                yield from (Case(bdev, read, depth, connections) for depth in depths)
        yield from (Case(bdev, read, 16, io_bytes=128 * 1024) for read in (True, False))
    for read in (True, False):
        yield from (Case("malloc", read, depth, digests=True) for depth in ([128] if quick else depths))
        yield Case("malloc", read, 16, io_bytes=128 * 1024, digests=True)


def print_header():
    print(f"{'':47} {'I/O per s':>10} {'MiB/s':>7} {'p50 us':>8} {'p99 us':>8} {'p99.9':>8} {'cpu us':>7} "
          f"{'echo/s':>10} {'ratio':>6} {'random':>6} {'asleep/s':>10}")


def measure(bench, case):
    """Prints one line of the table and returns it as a dictionary. The rounds measure echo and target in turn; the line
    is for the round with the median ratio. Random reads from memory are also compared with an echo that takes its data
    from random places."""
    reads_memory = case.read and not case.sequential and case.bdev in ("malloc", "crypto")
    rounds, random_ratios = [], []
    for _ in range(bench.options.rounds):
        rounds.append((bench.echo(case), bench.perf(case)))
        if reads_memory:
            random_ratios.append(rounds[-1][1]["ios_per_second"] / bench.echo(case, random=True)["ios_per_second"])
    ratios = [result["ios_per_second"] / echo["ios_per_second"] for echo, result in rounds]
    ratio = statistics.median_low(ratios)
    echo, result = rounds[ratios.index(ratio)]
    asleep = bench.echo(case, sleep=True)
    latency, rate = result["latency_us"], result["ios_per_second"]
    print(f"{case!s:47} {rate:10,.0f} {result['bytes_per_second'] / MIB:7.0f} {latency['p50']:8.1f} "
          f"{latency['p99']:8.1f} {latency['p99_9']:8.1f} {result['target_cpu_us_per_io']:7.2f} "
          f"{echo['ios_per_second']:10,.0f} {ratio:6.2f} "
          f"{f'{statistics.median_low(random_ratios):.2f}' if random_ratios else '':>6} "
          f"{asleep['ios_per_second']:10,.0f}", flush=True)
    line = {"case": str(case), **result, "echo": echo, "echo_asleep": asleep, "ratio_to_echo": ratio,
            "ratios": ratios, "ratios_to_random_echo": random_ratios}
    if case.bdev == "file" and (fio := bench.fio(case)):
        print(f"{'':47} {fio:10,.0f}  fio with io_uring on the same file: {rate / fio:.2f} of it", flush=True)
        line["fio_ios_per_second"] = fio
    return line


def count_allocations(bench):
    """Counts the calls of malloc and related functions in the target under load, including its connections."""
    print(f"{'':47} {'I/Os':>10} {'malloc':>8} {'for each I/O':>14}")
    for bdev in BDEVS:
        bench.fill(bdev)
        for read in (True, False):
            case = Case(bdev, read, 32)
            bench.perf(case)  # everything that is created only once exists after this
            before = bench.allocation_count()
            ios = bench.perf(case)["ios"]
            calls = bench.allocation_count() - before
            print(f"{case!s:47} {ios:10,} {calls:8,} {calls / ios:14.6f}", flush=True)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer cases, less time for each")
    parser.add_argument("--only", default="", help="cases whose line begins with this text")
    parser.add_argument("--seconds", type=float, help="of each measurement (default 2, quick: 0.5)")
    parser.add_argument("--rounds", type=int, help="of each case; the median counts (default 3, quick: 1)")
    parser.add_argument("--count-allocations", action="store_true", help="instead: calls of malloc for each I/O")
    parser.add_argument("--json", type=pathlib.Path, help="write the results to this file, too")
    parser.add_argument("--build-dir", type=pathlib.Path, default=ROOT / "build" / "release")
    parser.add_argument("--target-cpu", type=int, default=0)
    parser.add_argument("--client-cpu", type=int, default=1)
    options = parser.parse_args()
    options.seconds = options.seconds or (0.5 if options.quick else 2.0)
    options.rounds = options.rounds or (1 if options.quick else 3)
    return options


def main():
    options = parse_arguments()
    report = {"seconds": options.seconds, "cases": []}
    with contextlib.ExitStack() as stack:
        work_dir = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sma-bench-")))
        bench = Bench(options, work_dir, stack)
        if options.count_allocations:
            return count_allocations(bench)
        print(f"target on core {options.target_cpu}, load generator on core {options.client_cpu}; cpu us: processor "
              "time of the target for each I/O; echo: bare loopback, both ends spinning (asleep: both sleeping); "
              "ratio: to the echo; random: to an echo that takes its data from random places, as random reads do")
        if os.getloadavg()[0] > 0.5:
            print(f"this machine is not quiet (load {os.getloadavg()[0]:.1f}): compare nothing but the ratios")
        if not options.quick and not yields_to_kernel():
            print("sched_autogroup_enabled is 1: the load generator keeps the kernel's threads waiting that complete "
                  "writes of files")
        print_header()
        filled = set()
        for case in cases(options.quick):
            if not str(case).startswith(options.only):
                continue
            if case.bdev not in filled:
                bench.fill(case.bdev)
                filled.add(case.bdev)
            report["cases"].append(measure(bench, case))
        report["idle_percent"] = bench.idle_percent()
        print(f"idle target: {report['idle_percent']:.2f} % of a core")
        if (os.cpu_count() or 1) < 3:
            print("two reactors compared with one: not measured, because the load generator needs a third core")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
