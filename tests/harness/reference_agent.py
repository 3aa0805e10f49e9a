# SPDX-License-Identifier: Apache-2.0
"""Runs the reference agent, spdk-sma. The package lacks the modules generated from the .proto files, which it imports
from `spdk.sma.proto`; they are loaded from the folder in the first argument."""

import importlib
import pathlib
import sys


def main():
    folder = sys.argv.pop(1)
    sys.path.append(folder)
    for path in sorted(pathlib.Path(folder).glob("*.py")):
        sys.modules[f"spdk.sma.proto.{path.stem}"] = importlib.import_module(path.stem)
    from spdk.spdk_sma import main as run
    run()


if __name__ == "__main__":
    main()
