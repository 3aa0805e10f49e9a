#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares the rate of an encrypted bdev on one core with `openssl speed` for the same cipher and block size, in
alternating rounds. Prints a table of the ratios of the best rounds, because other load on the host can only slow a
round down.

usage: .venv/bin/python bench/crypto/crypto.py [--rounds N] [--seconds S] [--build-dir DIR]
"""

import argparse
import json
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
GIB = 1 << 30


def openssl(key_bits, block_size, decrypt, seconds):
    """Returns bytes per second. `openssl speed` prints thousands of bytes."""
    output = subprocess.run(["openssl", "speed", "-mr", "-elapsed", "-seconds", str(seconds), "-bytes", str(block_size),
                             *(["-decrypt"] if decrypt else []), "-evp", f"aes-{key_bits}-xts"],
                            check=True, capture_output=True, text=True).stdout
    return float(re.search(r"^\+F:.*:([0-9.]+)$", output, re.MULTILINE).group(1))


def bdev(program, key_bits, block_size, io_bytes, decrypt, seconds):
    output = subprocess.run([program, "--key-bits", str(key_bits), "--block-size", str(block_size), "--io-bytes",
                             str(io_bytes), "--seconds", str(seconds), *([] if decrypt else ["--write"])],
                            check=True, capture_output=True, text=True).stdout
    result = json.loads(output)
    if result["failed"]:
        raise RuntimeError("an I/O failed")
    return result["bytes_per_second"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="of each case, in turn")
    parser.add_argument("--seconds", type=int, default=1, help="of each measurement")
    parser.add_argument("--build-dir", type=pathlib.Path, default=ROOT / "build" / "release")
    options = parser.parse_args()
    program = options.build_dir / "bin" / "crypto_load"
    print(f"{'AES-XTS':>8} {'block':>6} {'I/O':>7} {'':8} {'openssl GiB/s':>14} {'bdev GiB/s':>11} {'ratio':>6}")
    for key_bits in (128, 256):
        for block_size, io_bytes in ((512, 4096), (4096, 4096), (4096, 131072)):
            for decrypt in (False, True):
                rounds = [(openssl(key_bits, block_size, decrypt, options.seconds),
                           bdev(program, key_bits, block_size, io_bytes, decrypt, options.seconds))
                          for _ in range(options.rounds)]
                limit, got = (max(column) for column in zip(*rounds))
                print(f"{key_bits:8} {block_size:6} {io_bytes:7} {'decrypt' if decrypt else 'encrypt':8} "
                      f"{limit / GIB:14.2f} {got / GIB:11.2f} {got / limit:6.2f}", flush=True)


if __name__ == "__main__":
    main()
