# SPDX-License-Identifier: Apache-2.0
"""Tests that blocks are linearizable registers, whatever happens to paths, hosts and targets. See
tests/linearizability."""

import pathlib
import subprocess

import pytest

from harness.golang import GoModule

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "linearizability"
VIOLATED = 1
SCRIPTS = ["late-waiting", "late-frozen", "late-frozen-cut", "late-retry", "late-stopped", "late-limit",
           "wrong-disk-second-path", "wrong-disk-path-down", "wrong-disk-waiting", "namespace-number"]


@pytest.fixture(scope="module")
def module(build_dir):
    return GoModule(FOLDER, build_dir)


@pytest.fixture(scope="module")
def program(module):
    return module.build()


def run(program, bin_dir, work_dir, *arguments, timeout_s=120):
    """Returns exit status and output. The target's logs stay in `work_dir` after a failure."""
    done = subprocess.run([program, "-target", bin_dir / "sma-target", "-folder", work_dir, *arguments], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout_s)
    print(done.stdout)
    return done.returncode, done.stdout


def test_the_judge_and_the_proxy(module):
    tested = module.go("test", "-count=1", "./...")
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "ok  \tlinearizability/history" in tested.stdout
    assert "ok  \tlinearizability/proxy" in tested.stdout
    assert "ok  \tlinearizability/world" in tested.stdout


def test_the_sources_are_formatted_and_vetted(module):
    vetted = module.go("vet", "./...")
    assert vetted.returncode == 0, vetted.stderr
    formatted = subprocess.run(["/usr/bin/gofmt", "-l", FOLDER], capture_output=True, text=True, timeout=60)
    assert (formatted.returncode, formatted.stdout) == (0, "")


def test_an_injected_late_write_is_detected(program, bin_dir, work_dir):
    status, output = run(program, bin_dir, work_dir, "-scenario", "planted")
    assert status == VIOLATED
    assert "not linearizable" in output and "late or stale: #" in output
    assert "verdict: 1 violations, 0 blocks undecided" in output


def test_late_writes_are_detected_among_many(program, bin_dir, work_dir):
    status, output = run(program, bin_dir, work_dir, "-faults", "none", "-time", "3s", "-plant", "20", "-seed", "1")
    assert status == VIOLATED
    assert "not linearizable" in output and "late writes planted: 0" not in output


@pytest.mark.parametrize("script", SCRIPTS)
def test_data_stay_correct_in(program, bin_dir, work_dir, script):
    status, _ = run(program, bin_dir, work_dir, "-scenario", script)
    assert status == 0


def test_blocks_are_linearizable_under_random_faults(program, bin_dir, work_dir, pytestconfig):
    seconds = pytestconfig.getoption("--linearizability-seconds")
    seed = pytestconfig.getoption("--random-seed")
    status, output = run(program, bin_dir, work_dir, "-time", f"{seconds}s", "-seed", str(seed),
                         timeout_s=seconds + 240)
    assert status == 0
    assert "harm done: map[]" not in output
